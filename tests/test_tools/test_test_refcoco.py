"""Pre-trained weights are tested on RefCOCO, RefCOCO+ or RefCOCOg, in small."""

import importlib.util
import json
import math

import pytest
from fixtures_refcoco import SIZES, write_refcoco
from mmengine.config import Config
from mmengine.runner import Runner
from small_configs import save_weights, write_small_config
from toy_project import REPO

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch, tmp_path):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.chdir(tmp_path)


def run(tool, *arguments):
    spec = importlib.util.spec_from_file_location(f'tool_{tool}', REPO / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def test_weights_are_tested_on_each_dataset(tmp_path):
    root = write_refcoco(tmp_path / 'data')
    config = write_small_config('referformer_vswin-t_refcoco', tmp_path, root)
    save_weights(Config.fromfile(config).model, tmp_path / 'weights.pth')
    for name in ('refcoco', 'refcocog'):
        options = f'test_dataloader.dataset.name={name}', f'experiment_name={name}'
        run('test', config, 'weights.pth', '--out', f'{name}.json', '--cfg-options', *options)
        metrics = json.loads((tmp_path / f'{name}.json').read_text())['metrics']
        assert {'REC_P@1', 'REC_P@5', 'REC_P@10', 'overall_IoU', 'mean_IoU', 'P@0.5'} <= set(
            metrics
        )
        assert 'mAP' not in metrics
        assert all(0 <= value <= 100 for value in metrics.values())
        # The share of a whole number of expressions.
        hits = metrics['REC_P@1'] * 4 * len(SIZES) / 100
        assert math.isclose(hits, round(hits), abs_tol=1e-6)
