"""FoundMetric: cases worked out by hand."""

import numpy as np
import pytest
import torch

from referformer.evaluation import FoundMetric


def masks(*squares: tuple[int, int] | None) -> torch.Tensor:
    """One frame for each (left, width) of a rectangle of 10 rows; None = empty."""
    frames = np.zeros((1, len(squares), 24, 40), bool)
    for frame, square in zip(frames[0], squares):
        if square is not None:
            frame[5:15, square[0] : square[0] + square[1]] = True
    return torch.from_numpy(frames)


def sample(exp, kind, pred, gt, control=None) -> dict:
    groups = {'gt_instances': {'masks': gt}}
    if control is not None:
        groups['gt_control'] = {'masks': control}
    return {
        'video_id': 'a',
        'exp_id': exp,
        'kind': kind,
        'pred_instances': {'masks': pred},
        **groups,
    }


def evaluate(*samples: dict) -> dict[str, float]:
    metric = FoundMetric()
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_a_mask_is_found_past_half_its_overlap():
    right, half = (0, 10), (0, 5)  # IoU 1 and exactly 1/2
    out = evaluate(
        sample('0', 'unique', masks(right), masks(right)),
        sample('1', 'unique', masks(half), masks(right)),
        sample('2', 'place', masks(right), masks((20, 10)), masks(right)),
    )
    assert out['found_unique'] == 50 and out['found_place'] == 0
    assert out['found'] == pytest.approx(100 / 3)
    assert out['found_swapped'] == out['found_swapped_place'] == 100
    assert 'found_swapped_unique' not in out and 'no_mask' not in out


def test_absent_things_count_where_nine_of_ten_frames_are_empty():
    nothing = masks(*[None] * 10)
    out = evaluate(
        sample('0', 'absent', masks(*[None] * 9, (0, 3)), nothing),
        sample('1', 'absent', masks(*[None] * 8, (0, 3), (0, 3)), nothing),
    )
    assert out == {'no_mask': 50, 'no_mask_absent': 50}


def test_a_sample_without_truth_is_an_error():
    broken = sample('0', None, masks((0, 3)), masks((0, 3)))
    del broken['gt_instances']
    with pytest.raises(ValueError, match='expression 0 of video a needs'):
        evaluate(broken)
