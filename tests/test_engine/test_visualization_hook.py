"""Which samples are drawn, and where."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image

from referformer.engine.launch import check_types
from referformer.engine.visualization_hook import VisualizationHook
from referformer.structures import RVOSDataSample
from referformer.visualization import RVOSVisualizer


def make_sample(i, with_truth=True):
    meta = {'text': 'the dog', 'video_id': 'v', 'exp_id': str(i), 'ori_shape': (48, 64)}
    sample = RVOSDataSample(metainfo={**meta, 'key_frames': [0, 1]})
    masks = torch.zeros(1, 2, 48, 64, dtype=torch.bool)
    masks[..., 10:30, 10:30] = True
    if with_truth:
        sample.gt_instances = InstanceData(masks=masks)
    sample.pred_instances = InstanceData(scores=torch.tensor([0.5]), masks=masks)
    return sample


def run(hook, runner, num, stage='val', with_truth=True):
    getattr(hook, f'before_{stage}_epoch')(runner)
    for i in range(num):
        batch = {'inputs': [torch.full((2, 3, 48, 64), 100, dtype=torch.uint8)]}
        outputs = [make_sample(i, with_truth)]
        getattr(hook, f'after_{stage}_iter')(runner, i, data_batch=batch, outputs=outputs)


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(log_dir=str(tmp_path / 'run'), iter=240, visualizer=None)


def test_every_interval_th_sample_is_drawn_up_to_a_bound(tmp_path, runner):
    hook = VisualizationHook(interval=3, max_samples=2)
    for _ in range(2):  # counting starts anew in every validation
        run(hook, runner, 10)
    drawn = sorted((tmp_path / 'run' / 'vis' / 'val_000240').iterdir())
    assert [path.name for path in drawn] == ['v_0.png', 'v_3.png']
    picture = np.asarray(Image.open(drawn[0]))
    assert picture.ndim == 3
    assert picture.std() > 10


def test_pictures_of_a_test_go_where_told(tmp_path, runner):
    run(VisualizationHook(interval=1, out_dir=tmp_path / 'show'), runner, 2, 'test')
    assert sorted(p.name for p in (tmp_path / 'show' / 'test').iterdir()) == ['v_0.png', 'v_1.png']


def test_samples_without_truth_are_passed_over(tmp_path, runner):
    run(VisualizationHook(interval=1), runner, 2, with_truth=False)
    assert not (tmp_path / 'run').exists()


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match='interval'):
        VisualizationHook(interval=0)


def test_drawn_clips_go_to_tensorboard_too(tmp_path, runner):
    reader = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator', reason='pip install tensorboard'
    )
    backends = [{'type': 'TensorboardVisBackend'}, {'type': 'LocalVisBackend'}]
    runner.visualizer = RVOSVisualizer('board', vis_backends=backends, save_dir=str(tmp_path))
    run(VisualizationHook(), runner, 1)
    runner.visualizer.close()
    events = reader.EventAccumulator(str(tmp_path / 'vis_data')).Reload()
    assert events.Tags()['images'] == ['v_0']
    assert events.Images('v_0')[0].step == 240
    assert (tmp_path / 'run' / 'vis' / 'val_000240' / 'v_0.png').is_file()
    assert not list(tmp_path.glob('vis_data/vis_image/*'))  # not a second time


@pytest.mark.parametrize('package', ['tensorboard', 'wandb'])
def test_a_logger_that_is_not_installed_is_named_with_the_command(monkeypatch, package):
    monkeypatch.setattr('referformer.engine.launch.find_spec', lambda name: None)
    backend = {'type': f'{package.capitalize()}VisBackend'}
    config = Config({'visualizer': {'vis_backends': [backend]}})
    with pytest.raises(ModuleNotFoundError, match=f'needs {package}: pip install {package}'):
        check_types(config)
