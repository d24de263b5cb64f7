"""``tools/test.py`` in 1, 2, 3 processes: the same numbers, tables, submissions; dumped masks."""

import atexit
import csv
import importlib.util
import json
import os
import runpy
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

from referformer.commands import score, test
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


def test_dumped_masks_are_scored_as_the_test_did(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path)
    config = Config.fromfile('config.py')
    config.test_dataloader.dataset.indices = None  # all
    config.test_evaluator = {'type': 'VOSMetric', 'outfile_prefix': 'out/'}
    config.dump('all.py')
    shuffled = 'test_dataloader.dataset.shuffled_kinds=[motion]'  # these masks are not dumped
    arguments = ['all.py', 'model.pth', '--dump', 'dumped.zip', '--cfg-options', shuffled]
    test.main([*arguments, f'experiment_name={tmp_path.name}'])
    data = ['--gt', 'data', '--protocol', 'ref-ytvos']
    score.main(['--pred', 'dumped.zip', *data, '--csv', 'scored.csv'])
    measured, scored = (
        {keys: [row[j], row[f]] for row in rows if (keys := (row[v], row[e]))}
        for rows, v, e, j, f in (
            (read_table('out/per_expression.csv', 1), 'video_id', 'exp_id', 'J', 'F'),
            (read_table('scored.csv', 100), 'sequence', 'name', 'J-Mean', 'F-Mean'),
        )
    )
    assert len(measured) == 8
    assert '_shuffled' in Path('out/per_expression.csv').read_text()
    assert measured.keys() == scored.keys()
    for key, numbers in measured.items():
        assert numbers == pytest.approx(scored[key], abs=1e-3)
    analyze = runpy.run_path(str(REPO / 'tools' / 'analysis_tools' / 'analyze_results.py'))['main']
    analyze(['scored.csv', 'data', 'report.html', '--pred', 'dumped.zip', '--worst', '2'])
    assert Path('report.html').read_text().count('data:image/png') == 2  # groups, worst frames
    Path('broken.zip').write_text('no archive')
    for tool, options, message in (
        (score, ['--pred', 'broken.zip', *data], 'broken.zip is neither a folder of masks'),
        (test, arguments, 'dumped.zip already there'),
        (test, ['all.py', 'model.pth', '--dump', 'a.pkl'], 'ends in .zip'),
        (test, [*arguments, 'test_evaluator.type=ReferringMetric', '--overwrite'], '--dump is for'),
    ):
        with pytest.raises(SystemExit):
            tool.main(options)
        assert message in capsys.readouterr().err


def read_table(path: str, factor: float) -> list[dict]:
    """Rows of a table, without those of frames in random order; numbers times ``factor``."""
    with open(path, newline='') as file:
        rows = [row for row in csv.DictReader(file) if 'shuffled' not in row.get('kind', '')]
    return [
        {k: factor * float(v) if k[0] in 'JF' and v else v for k, v in row.items()} for row in rows
    ]
