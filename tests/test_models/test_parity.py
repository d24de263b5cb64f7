"""This model and the official one on stored numbers, by way of check_parity.py.

Some cases stand for all, so that the suite stays quick; the tool runs every one, with any backend.
"""

import importlib.util
import sys

import pytest
import torch
from toy_project import REPO

sys.path.insert(0, str(REPO / 'tools' / 'analysis_tools'))

from check_parity import exceeded, main, run
from parity_cases import Case, Fixtures
from parity_post import post_cases
from parity_trajectory import Trajectory, check_trajectory

# Every option once: padding, odd sizes, classes, one annotated frame, a trained text encoder,
# no refinement, no coordinates, dilation, more frames than the window.
CASES = [
    'resnet50/a2d',
    'resnet50/batch',
    'resnet50/dilation',
    'resnet50/norefine',
    'resnet50/norelcoord',
    'swin_t_p4w7/odd',
    'video_swin_t_p4w7/clip',
    'video_swin_t_p4w7/image_unfrozen_text',
    'video_swin_t_p4w7/long',
    'video_swin_t_p4w7/nonbinary65',
]
POST = [
    'a2d_from_model',
    'a2d_synthetic',
    'coco_from_model',
    'coco_synthetic_3classes',
    'davis_merge',
    'ytvos_end_to_end_resnet50',
    'ytvos_selection',
]

needs_mmdet = pytest.mark.skipif(
    importlib.util.find_spec('mmdet') is None, reason='mmdet is not installed'
)


@pytest.fixture(scope='module')
def fixtures(shared_dir):
    return Fixtures(shared_dir / 'parity')


def with_marks(name):
    return pytest.param(name, marks=[needs_mmdet] if 'resnet' in name else [])


@pytest.mark.slow
@pytest.mark.parametrize('name', [with_marks(name) for name in CASES])
def test_the_official_model_is_reproduced(fixtures, name):
    measures, note = run(fixtures, name)
    assert {'logits', 'boxes', 'masks', 'points', 'pixels'} <= set(measures)
    assert not exceeded(measures), (measures, note)


@pytest.mark.slow
@pytest.mark.parametrize('name', [with_marks(name) for name in POST])
def test_the_official_post_processing_is_reproduced(fixtures, name):
    measures, _ = run(fixtures, f'post/{name}')
    assert not exceeded(measures), measures


@needs_mmdet
@pytest.mark.slow
def test_steps_of_the_official_training_are_reproduced(fixtures):
    """Two of them; check_parity.py goes through all."""
    trajectory = Trajectory(fixtures, 'resnet50')
    shares, wrong = trajectory.run(2)
    assert max(shares.values()) <= 1, shares
    assert wrong == {'match': 0, 'groups': 0}
    trajectory.optim_wrapper.param_groups[0]['weight_decay'] *= 1.1
    assert trajectory._wrong_groups(2) == 1


def test_a_trajectory_of_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match=r'trajectory/vgg.npz: no config for it, only resnet50'):
        check_trajectory(None, 'vgg')


def test_no_post_processing_is_forgotten(shared_dir):
    assert post_cases(shared_dir / 'parity') == POST


@pytest.mark.slow
def test_a_difference_is_found(fixtures):
    case = Case(fixtures, 'swin_t_p4w7/clip')
    with torch.no_grad():
        case.model.class_heads[-1].bias += 3e-4
    measures, _ = case.check()
    assert exceeded(measures) == ['logits']


@pytest.mark.slow
def test_masks_in_bfloat16_agree(fixtures):
    assert Case(fixtures, 'swin_t_p4w7/clip').mask_iou(torch.bfloat16) >= 0.98


def test_a_folder_without_fixtures_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2
    assert 'has no weights.py: name a folder with the fixtures' in capsys.readouterr().err


def test_a_pattern_without_a_case_is_named(shared_dir, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(shared_dir / 'parity'), '--cases', 'vgg/*'])
    assert stop.value.code == 2
    assert 'has no case that fits vgg/*' in capsys.readouterr().err
