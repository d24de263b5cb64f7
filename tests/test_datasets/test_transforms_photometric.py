"""Photometric distortion."""

import colorsys

import numpy as np
import pytest

from referformer.datasets.transforms import PhotometricDistort
from referformer.datasets.transforms.photometric import Distortion, distort


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize('clip', [False, True])
def test_no_change_is_no_change(frame, clip):
    # Truncation after the way through HSV may cost a step where values are not rounded.
    difference = frame.astype(int) - distort(frame, Distortion(), clip)
    assert difference.min() >= 0 and difference.max() <= (0 if clip else 1)


def test_brightness_wraps_around_or_is_clipped():
    grey = np.full((2, 2, 3), 250, np.uint8)
    assert (distort(grey, Distortion(brightness=10)) == 4).all()
    assert (distort(grey, Distortion(brightness=10), clip=True) == 255).all()
    assert (distort(np.zeros_like(grey), Distortion(brightness=-10), clip=True) == 0).all()


def test_contrast_scales(frame):
    half = distort(frame, Distortion(contrast=0.5), clip=True)
    np.testing.assert_allclose(half, frame / 2, atol=0.51)


@pytest.mark.parametrize('first, expected', [(True, [255, 129, 39]), (False, [255, 120, 30])])
def test_contrast_comes_before_or_after_the_colour(first, expected):
    # First: (255, 150, 75) after the contrast; the saturation 180/255 becomes 0.847, the lowest
    # value 255 * (1 - 0.847) = 39, the middle one keeps its place: 39 + 75/180 * 216 = 129.
    # After: the saturation 0.75 becomes 0.9, so (200, 80, 20), times 1.5.
    change = Distortion(contrast=1.5, saturation=1.2, contrast_first=first)
    result = distort(np.uint8([[[200, 100, 50]]]), change, clip=True)
    np.testing.assert_allclose(result[0, 0], expected, atol=1)


def test_hue_and_saturation_agree_with_colorsys(frame):
    change = Distortion(saturation=0.7, hue=18)
    result = distort(frame, change, clip=True)
    for pixel, changed in zip(frame.reshape(-1, 3), result.reshape(-1, 3)):
        h, s, v = colorsys.rgb_to_hsv(*(pixel[::-1] / 255))  # RGB taken for BGR
        expected = np.array(colorsys.hsv_to_rgb((h + 18 / 360) % 1, s * 0.7, v))[::-1] * 255
        np.testing.assert_allclose(changed, expected, atol=0.6)


def test_channels_are_permuted(frame):
    result = distort(frame, Distortion(channels=(2, 0, 1)), clip=True)
    np.testing.assert_array_equal(result, frame[..., [2, 0, 1]])


def test_draws_have_the_stated_frequencies_and_ranges():
    np.random.seed(0)
    draws = [PhotometricDistort().draw() for _ in range(2000)]
    for name, neutral, low, high in (
        ('brightness', 0, -32, 32),
        ('contrast', 1, 0.5, 1.5),
        ('saturation', 1, 0.5, 1.5),
        ('hue', 0, -18, 18),
    ):
        values = np.array([getattr(d, name) for d in draws])
        changed = values[values != neutral]
        assert 900 < len(changed) < 1100
        assert low <= changed.min() < low + 0.05 * (high - low)
        assert high >= changed.max() > high - 0.05 * (high - low)
    assert 900 < sum(d.contrast_first for d in draws) < 1100
    kept = sum(d.channels == (0, 1, 2) for d in draws)
    assert 1050 < kept < 1280  # 1/2 without a permutation, 1/12 with the identical one
    assert len({d.channels for d in draws}) == 6


def test_frames_are_drawn_apart_or_together():
    clip = {'imgs': np.full((6, 4, 4, 3), (90, 120, 150), np.uint8)}
    np.random.seed(0)
    apart = PhotometricDistort()(dict(clip))['imgs']
    assert apart.dtype == np.uint8 and apart.shape == clip['imgs'].shape
    assert len({image.tobytes() for image in apart}) > 3
    together = PhotometricDistort(per_clip=True)(dict(clip))['imgs']
    assert len({image.tobytes() for image in together}) == 1
    assert (clip['imgs'] == (90, 120, 150)).all()  # the input is left alone


def test_permutation_can_be_switched_off():
    np.random.seed(0)
    distort_only = PhotometricDistort(permute_channels=False)
    assert all(distort_only.draw().channels == (0, 1, 2) for _ in range(100))


def test_same_seed_same_clip(frame):
    results = []
    for _ in range(2):
        np.random.seed(5)
        results.append(PhotometricDistort()({'imgs': np.stack([frame] * 3)})['imgs'])
    np.testing.assert_array_equal(*results)
