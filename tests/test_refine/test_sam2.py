"""SAM 2's video model carries masks of key frames, in constant memory."""

import numpy as np
import pytest
from sam2_model import small_sam2

from referformer.refine import Sam2Propagator
from referformer.registry import PROPAGATORS, build


@pytest.fixture(scope='module')
def model():
    return small_sam2()


def video(length, size=(48, 64)):
    """A bright square that moves over noise, and its masks."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 90, (length, *size, 3), dtype=np.uint8)
    masks = np.zeros((length, *size), bool)
    for t in range(length):
        x = 4 + t % 40
        masks[t, 12:30, x : x + 16] = True
    frames[masks] = (250, 200, 40)
    return frames, masks


def test_dropping_what_is_not_asked_for_changes_no_bit(model):
    frames, masks = video(26)
    given = [{0: masks[0], 9: masks[9]}, {0: masks[0, ::-1]}]
    kept, dropped = (Sam2Propagator(model, 'cpu', prune=prune).tracker() for prune in (False, True))
    for t, frame in enumerate(frames):
        new = {n: keys[t] for n, keys in enumerate(given) if t in keys}
        full, small = kept.step(frame, new), dropped.step(frame, new)
        assert all(np.array_equal(full[n], small[n]) for n in (0, 1))
    assert len(kept.sessions[0].output_dict_per_obj[0]['non_cond_frame_outputs']) == 24
    assert len(dropped.sessions[0].output_dict_per_obj[0]['non_cond_frame_outputs']) <= 16
    assert not dropped.sessions[0].processed_frames


def test_weights_come_from_a_folder(model, tmp_path):
    frames, masks = video(5)
    model.save_pretrained(tmp_path / 'sam2')
    named = build({'type': 'Sam2Propagator', 'model': str(tmp_path / 'sam2')}, PROPAGATORS)
    found, scores = named(iter(frames), {2: masks[2]})
    given, _ = Sam2Propagator(model, 'cpu')(frames, {2: masks[2]})
    assert np.array_equal(found, given)
    assert np.array_equal(found[2], masks[2]) and scores[2] == 1
    assert found.shape == masks.shape and found.dtype == bool


def test_both_directions_are_the_same_walk(model):
    """From the last frame back is what the mirrored video gives from its first one."""
    frames, masks = video(6)
    propagator = Sam2Propagator(model, 'cpu')
    back, _ = propagator(frames, {5: masks[5]})
    forth, _ = propagator(frames[::-1], {0: masks[5]})
    assert np.array_equal(back, forth[::-1])


def test_weights_that_are_not_there_are_named():
    with pytest.raises(OSError, match=r"the video segmenter '/no/such/folder'.*refine\.model"):
        Sam2Propagator('/no/such/folder', 'cpu').tracker()
