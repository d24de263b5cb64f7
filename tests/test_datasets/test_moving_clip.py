"""Clips in which the camera moves steadily."""

import cv2
import numpy as np
import pytest

from referformer.datasets.transforms import MovingClip
from referformer.datasets.transforms.loading import boxes_of_masks

SIZE = (60, 90)
STEADY = {'jitter': 0, 'occluder_prob': 0, 'blur_prob': 0, 'brightness': 0}


def item(rows=slice(20, 41), columns=slice(30, 61)):
    image = np.full((*SIZE, 3), 40, np.uint8)
    image[rows, columns] = 200
    masks = np.zeros((1, 1, *SIZE), bool)
    masks[0, 0, rows, columns] = True
    boxes, valid = boxes_of_masks(masks)
    return {'imgs': image[None], 'masks': masks, 'boxes': boxes, 'valid': valid}


def centres(clip):
    return (clip['boxes'][0, :, :2] + clip['boxes'][0, :, 2:]) / 2


def test_masks_follow_the_pixels():
    np.random.seed(0)
    for _ in range(20):
        clip = MovingClip(6, **STEADY, far_prob=0)(item())
        assert clip['imgs'].shape == (6, *SIZE, 3) and clip['masks'].shape == (1, 6, *SIZE)
        bright = clip['imgs'][..., 0] > 120
        overlap = (bright & clip['masks'][0]).sum() / (bright | clip['masks'][0]).sum()
        assert overlap > 0.9
        boxes, valid = boxes_of_masks(clip['masks'])
        np.testing.assert_array_equal(clip['boxes'], boxes)
        np.testing.assert_array_equal(clip['valid'], valid)


def test_without_jitter_the_path_is_steady():
    np.random.seed(1)
    still = {**STEADY, 'rotation': 0, 'zoom': 1}
    steps = [
        np.diff(centres(MovingClip(5, **still, far_prob=0)(item())), axis=0) for _ in range(20)
    ]
    assert max(np.ptp(step, axis=0).max() for step in steps) <= 1.5  # px: masks are whole pixels
    assert max(np.abs(step).max() for step in steps) > 1.5


def test_things_leave_and_enter_on_far_paths():
    np.random.seed(2)
    clips = [MovingClip(6, **STEADY, far_prob=1)(item()) for _ in range(120)]
    leave = sum(clip['valid'][0, 0] and not clip['valid'][0, -1] for clip in clips)
    enter = sum(clip['valid'][0, -1] and not clip['valid'][0, 0] for clip in clips)
    assert leave > 3 and enter > 3
    gone = next(clip for clip in clips if not clip['valid'].all())
    assert not gone['masks'][0][~gone['valid'][0]].any()
    assert not gone['boxes'][0][~gone['valid'][0]].any()


def test_what_is_hidden_is_not_in_the_mask():
    np.random.seed(3)
    options = {**STEADY, 'occluder_prob': 1, 'rotation': 0, 'zoom': 1, 'shift': 0, 'far_prob': 0}
    whole = item()['masks'].sum()
    rests = []
    for _ in range(40):
        clip = MovingClip(5, **options)(item())
        changed = np.abs(clip['imgs'].astype(int) - item()['imgs']).max(-1) > 60
        assert not (changed & clip['masks'][0]).any()
        rests.append(clip['masks'][0].sum((1, 2)).min() / whole)
    assert min(rests) < 0.8 and max(rests) == 1


def test_more_than_one_frame_is_an_error():
    clip = item()
    clip['imgs'] = np.repeat(clip['imgs'], 2, 0)
    with pytest.raises(ValueError, match='made of one picture, not of 2 frames'):
        MovingClip()(clip)
    with pytest.raises(ValueError, match=r'at least 1, but are 0 and 1\.3'):
        MovingClip(num_frames=0)


def test_frames_have_one_size_of_uint8():
    np.random.seed(4)
    picture = item()
    picture['imgs'] = cv2.resize(picture['imgs'][0], SIZE[::-1])[None]
    assert MovingClip(3)(picture)['imgs'].dtype == np.uint8
