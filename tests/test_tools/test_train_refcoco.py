"""Pre-training on RefCOCO/+/g and joint training with the leaf configs, in small."""

import importlib.util
import json
import math

import pytest
from fixtures_refcoco import SIZES, write_refcoco
from fixtures_rvos import write_ref_youtube_vos
from mmengine.runner import Runner
from small_configs import write_small_config
from toy_project import REPO

from referformer.engine import read_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch, tmp_path):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    # Half of the time goes into the layout of configs that are only written.
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda code, **_: (code, True))
    monkeypatch.chdir(tmp_path)


def run(tool, *arguments):
    spec = importlib.util.spec_from_file_location(f'tool_{tool}', REPO / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def test_pretraining_validates_and_its_weights_are_tested_on_each_dataset(tmp_path):
    root = write_refcoco(tmp_path / 'data')
    config = write_small_config('referformer_vswin-t_refcoco', tmp_path, root)
    run('train', config, '--work-dir', 'out')
    # One item of each of the three datasets, two in a batch.
    assert read_checkpoint('out/epoch_1.pth')['meta']['iter'] == 2
    scalars = next(tmp_path.glob('out/*/vis_data/scalars.json')).read_text()
    assert '"REC_P@1"' in scalars  # of the validation

    for name in ('refcoco', 'refcocog'):
        options = f'test_dataloader.dataset.name={name}', f'experiment_name={name}'
        run('test', config, 'out/epoch_1.pth', '--out', f'{name}.json', '--cfg-options', *options)
        metrics = json.loads((tmp_path / f'{name}.json').read_text())['metrics']
        assert {'REC_P@1', 'REC_P@5', 'REC_P@10', 'overall_IoU', 'mean_IoU', 'P@0.5'} <= set(
            metrics
        )
        assert 'mAP' not in metrics
        assert all(0 <= value <= 100 for value in metrics.values())
        # The share of a whole number of expressions.
        hits = metrics['REC_P@1'] * 4 * len(SIZES) / 100
        assert math.isclose(hits, round(hits), abs_tol=1e-6)


def test_joint_training_takes_videos_and_pseudo_clips(tmp_path):
    roots = {
        'RefCOCO': write_refcoco(tmp_path / 'images'),
        'RefYouTubeVOS': write_ref_youtube_vos(tmp_path / 'videos'),
    }
    config = write_small_config('referformer_vswin-t_joint', tmp_path, roots)
    run('train', config, '--work-dir', 'out')
    assert read_checkpoint('out/epoch_1.pth')['meta']['iter'] == 4  # one of each dataset
    run('test', config, 'out/epoch_1.pth', '--cfg-options', 'test_evaluator.out_dir=submission')
    assert len(list(tmp_path.glob('submission/Annotations/valid0/*/*.png'))) > 0
