"""``tools/test.py`` in 1, 2 and 3 processes: the same numbers, tables and submissions."""

import atexit
import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from fixtures_rvos import write_ref_youtube_vos
from gloo_processes import free_port
from mmengine.config import Config
from mmengine.runner import Runner
from model_fixtures import tiny_model, tiny_model_cfg
from toy_project import REPO

from referformer.engine import launch

NUM_SENTENCES = 7  # neither 2 nor 3 processes divide it


def write_project(folder: Path) -> None:
    """A tiny dataset, model and checkpoint, and the config that tests them."""
    root = write_ref_youtube_vos(folder / 'data', num_train=0, num_frames=3, size=(64, 96))
    pipeline = [
        {'type': 'SampleFrames', 'mode': 'all'},
        {'type': 'LoadFrames'},
        {'type': 'LoadMasks', 'with_control': True},
        {'type': 'PackClip'},
    ]
    loader = {
        'batch_size': 1,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'dataset': {
            'type': 'RefYouTubeVOS',
            'data_root': str(root),
            'split': 'valid',
            'classes': 'meta',
            'indices': NUM_SENTENCES,
            'pipeline': pipeline,
        },
    }
    metrics = [
        {'type': 'VOSMetric', 'outfile_prefix': 'out/', 'prefix': 'vos'},
        {'type': 'ReferringMetric', 'with_boxes': True, 'prefix': 'referring'},
        {'type': 'SubmissionMetric', 'out_dir': 'out/submission'},
    ]
    config = {
        '_base_': str(REPO / 'configs' / '_base_' / 'default_runtime.py'),
        'model': tiny_model_cfg(folder / 'tokenizer'),
        'test_dataloader': loader,
        'test_evaluator': metrics,
        'test_cfg': {},
    }
    Config(config).dump(folder / 'config.py')
    torch.save(tiny_model(folder / 'tokenizer').state_dict(), folder / 'model.pth')


def _test(rank: int, folder: str) -> None:
    """One of three processes: all three test, then two of them, then the first one alone."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location('test_tool', REPO / 'tools' / 'test.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    Runner._log_env = lambda self, env_cfg: None  # seconds
    for processes in (3, 2, 1):
        if rank >= processes:
            break
        out = Path(folder, str(processes))
        out.mkdir(exist_ok=True)
        os.chdir(out)
        # MMEngine keeps what belongs to a run under its name.
        arguments = ['../config.py', '../model.pth', '--out', 'scores.json']
        arguments += ['--cfg-options', f'experiment_name=run{processes}']
        if processes == 1:
            tool.main(arguments)
            break
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
        os.environ.update(
            MASTER_ADDR='127.0.0.1', MASTER_PORT=Path(folder, f'port{processes}').read_text()
        )
        tool.main([*arguments, '--launcher', 'pytorch'])
        launch._end_processes()
        atexit.unregister(launch._end_processes)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='about processes on the CPU')
def test_processes_do_not_change_what_is_measured_and_written(tmp_path):
    write_project(tmp_path)
    for processes in (2, 3):
        (tmp_path / f'port{processes}').write_text(str(free_port()))
    mp.spawn(_test, (str(tmp_path),), nprocs=3)
    alone, two, three = (
        (
            json.loads((folder / 'scores.json').read_text())['metrics'],
            (folder / 'out/per_expression.csv').read_bytes(),
            (folder / 'out/submission/submission.zip').read_bytes(),
            # Hidden ones, too: nothing is left of what the processes wrote each.
            sorted(p.relative_to(folder) for p in folder.glob('out/submission/**/*')),
        )
        for folder in (tmp_path / '1', tmp_path / '2', tmp_path / '3')
    )
    assert alone == two == three
    metrics, table, _, files = alone
    assert metrics['submission/expressions'] == NUM_SENTENCES
    assert table.count(b'\n') == 1 + NUM_SENTENCES
    assert sum(path.suffix == '.png' for path in files) == 3 * NUM_SENTENCES
    # Random weights, but not nothing.
    assert metrics['vos/J'] > 0 and metrics['vos/gap'] != 0 and metrics['referring/mean_IoU'] > 0
