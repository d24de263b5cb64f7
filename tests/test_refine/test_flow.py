"""Masks of key frames are carried by optical flow and appearance, without weights."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from referformer.refine import FlowPropagator
from referformer.refine.flow import GuidedFilter
from referformer.refine.propagator import Spool
from referformer.registry import PROPAGATORS, build


def scene(length=10, size=(96, 128), step=2):
    """A textured disc that moves over another texture, and its masks."""
    rng = np.random.default_rng(1)
    H, W = size
    back = cv2.GaussianBlur(rng.integers(0, 120, (H, W, 3), dtype=np.uint8), (5, 5), 1)
    skin = cv2.GaussianBlur(rng.integers(110, 255, (H, W, 3), dtype=np.uint8), (5, 5), 1)
    y, x = np.mgrid[:H, :W]
    frames, masks = [], []
    for t in range(length):
        mask = (x - 30 - step * t) ** 2 + (y - 48) ** 2 < 18**2
        moved = np.roll(skin, step * t, axis=1)
        frames.append(np.where(mask[..., None], moved, back))
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


def overlap(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def test_an_object_is_found_in_both_directions():
    frames, masks = scene()
    found, scores = build({'type': 'FlowPropagator'}, PROPAGATORS)(frames, {5: masks[5]})
    assert found.shape == masks.shape and found.dtype == bool and scores.shape == (10,)
    assert np.array_equal(found[5], masks[5]) and scores[5] == 1
    assert min(overlap(a, b) for a, b in zip(found, masks)) > 0.85
    assert ((scores > 0.5) & (scores <= 1)).all()


def test_a_generator_gives_what_an_array_gives():
    frames, masks = scene(6)
    propagator = FlowPropagator()
    found, scores = propagator((frame for frame in frames), {1: masks[1]})
    same, others = propagator(frames, {1: masks[1]})
    assert np.array_equal(found, same) and np.array_equal(scores, others)


def test_objects_do_not_disturb_each_other():
    frames, masks = scene(6)
    keys = [{0: masks[0]}, {3: masks[3], 5: masks[5]}, {5: ~masks[5]}]
    propagator = FlowPropagator()
    together, _ = propagator.propagate(frames, keys)
    for found, key in zip(together, keys):
        assert np.array_equal(found, propagator(frames, key)[0])


def test_between_two_key_frames_the_nearer_one_weighs_more():
    frames = np.repeat(scene(1)[0], 9, 0)  # nothing moves
    disc = scene(1)[1][0]
    found, scores = FlowPropagator()(frames, {0: disc, 8: np.zeros_like(disc)})
    assert overlap(found[1], disc) > 0.8 and not found[7].any()
    assert scores[8] == 0 == scores[7]


def test_an_empty_mask_stays_empty():
    frames, masks = scene(4)
    found, scores = FlowPropagator()(frames, {0: np.zeros_like(masks[0])})
    assert not found.any() and not scores.any()


def test_the_guided_filter_is_the_definition():
    """Equations 19 to 21 of He et al., window by window."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)
    values = rng.random((9, 9)).astype(np.float32)
    found = GuidedFilter(image, 1, eps=0.01)(values)
    guide = image.reshape(81, 3) / 255
    index = np.arange(81).reshape(9, 9)
    sums, counts = np.zeros(81), np.zeros(81)
    for y in range(1, 8):
        for x in range(1, 8):
            window = index[y - 1 : y + 2, x - 1 : x + 2].ravel()
            pixels, part = guide[window], values.ravel()[window]
            spread = np.cov(pixels.T, bias=True) + 0.01 * np.eye(3)
            shared = (pixels * part[:, None]).mean(0) - pixels.mean(0) * part.mean()
            slope = np.linalg.solve(spread, shared)
            sums[window] += pixels @ slope + part.mean() - slope @ pixels.mean(0)
            counts[window] += 1
    inner = index[2:7, 2:7].ravel()
    np.testing.assert_allclose(found.ravel()[inner], (sums / counts)[inner].clip(0, 1), atol=2e-4)


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        ({}, 'at least one key frame'),
        ({9: np.zeros((96, 128), bool)}, 'key frame 9 is not one of the 3 frames'),
        ({0: np.zeros((9, 9), bool)}, r'shape \(9, 9\), frames have \(96, 128\)'),
    ],
)
def test_key_frames_that_do_not_fit_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        FlowPropagator()(scene(3)[0], keys)


def test_a_spool_gives_back_what_it_got():
    arrays = np.random.default_rng(0).integers(0, 255, (5, 4, 6), dtype=np.uint8)
    with Spool() as spool:
        for array in arrays:
            spool.append(array)
        assert np.array_equal(np.stack([spool[i] for i in (3, 0, 4)]), arrays[[3, 0, 4]])


def test_real_video_is_followed(shared_dir):
    """One sequence of DAVIS, every frame; mean J of all eight: docs/refine.md."""
    folder = Path(shared_dir) / 'real' / 'ref-davis'
    if not folder.is_dir():
        pytest.skip('the sequences of DAVIS are not here')
    files = sorted((folder / 'JPEGImages' / '480p' / 'breakdance').glob('*.jpg'))[36:50]
    frames = [cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB) for f in files]
    masks = [
        cv2.imread(str(folder / 'Annotations_unsupervised/480p/breakdance' / f'{f.stem}.png'), 0)
        > 0
        for f in files
    ]
    found, _ = FlowPropagator()(frames, {7: masks[7]})
    assert np.mean([overlap(a, b) for a, b in zip(found, masks)]) > 0.6
