"""The measures of MeViS v2, Long-RVOS and ReVOS: cases worked by hand, and slow forms of them."""

import math

import numpy as np
import pytest

from referformer.evaluation.measures.protocols import (
    averages,
    count_areas,
    measure,
    revos_overall,
    robustness,
    temporal_iou,
    volume_iou,
)
from referformer.evaluation.measures.region_boundary import region_similarity

YES, NO = True, False


def masks(*frames):
    """Masks (T, 2, 3) from rows of six digits."""
    return np.array([[c == '1' for c in frame] for frame in frames]).reshape(-1, 2, 3)


def scores(protocol, pred, truth, foreground=None):
    areas = count_areas(pred, truth, foreground)
    return measure(protocol, region_similarity(pred, truth), areas)


def test_frames_and_overlaps_of_a_long_video_worked_by_hand():
    truth = masks('111000', '110000', '000000', '110000', '000000')
    pred = masks('110000', '000000', '111111', '011000', '000000')
    # Both on frames 0 and 3, either on 0 to 3; J is 2/3 there and 1/3.
    assert scores('long-rvos', pred, truth) == pytest.approx({'tIoU': 2 / 4, 'vIoU': 1 / 4})
    nothing = np.zeros_like(truth)
    assert scores('long-rvos', nothing, truth) == {'tIoU': 0, 'vIoU': 0}
    assert scores('long-rvos', nothing, nothing) == {'tIoU': 1, 'vIoU': 1}
    assert scores('long-rvos', truth, truth) == {'tIoU': 1, 'vIoU': 1}


def test_what_is_wrongly_segmented_worked_by_hand():
    truth = masks('110000', '000000', '000000', '100000')
    pred = masks('111000', '111110', '000000', '100001')
    foreground = masks('111100', '110000', '000000', '110000')
    # 1 of 4 pixels too many; 5 of 2, which counts as all; none of none; 1 of 2.
    expected = np.mean([3 / 4, 0, 1, 1 / 2])
    assert scores('revos', pred, truth, foreground)['R'] == pytest.approx(expected, abs=1e-6)
    # Where no object is at all, one wrong pixel is as bad as can be.
    assert robustness(np.array([1]), np.array([0])) == 0


@pytest.mark.parametrize(
    ('predicted', 'annotated', 'expected'),
    [
        (NO, NO, (1, None)),
        (YES, NO, (0, None)),
        (NO, YES, (None, 0)),
        (YES, YES, (None, 1)),
    ],
)
def test_a_sentence_is_about_nothing_or_it_is_not(predicted, annotated, expected):
    pred, truth = np.zeros((2, 3, 2, 3), bool)
    pred[2, 1, 1], truth[0, 0, 0] = predicted, annotated  # a single frame decides
    found = scores('mevis-v2', pred, truth)
    values = [None if math.isnan(found[name]) else found[name] for name in ('N-acc', 'T-acc')]
    assert tuple(values) == expected


def test_accuracies_are_shares_of_their_own_sentences():
    """Means of the sentences' values are TP / (TP + FN) and TN / (TN + FP), counted here."""
    rng = np.random.default_rng(0)
    pairs = rng.random((40, 2)) < (0.5, 0.7)  # something predicted, something annotated
    rows = []
    for predicted, annotated in pairs:
        pred, truth = np.zeros((2, 2, 4, 4), bool)
        pred[1], truth[0] = predicted, annotated
        rows.append(scores('mevis-v2', pred, truth))
    tp = sum(not p and not a for p, a in pairs)
    fn = sum(p and not a for p, a in pairs)
    tn = sum(p and a for p, a in pairs)
    fp = sum(not p and a for p, a in pairs)
    means = averages('mevis-v2', 0.5, rows)
    n, t = tp / (tp + fn), tn / (tn + fp)
    assert means == pytest.approx({'N-acc': n, 'T-acc': t, 'final': (0.5 + n + t) / 3})


def test_a_measure_that_applies_to_no_sentence_is_left_out():
    truth = np.ones((2, 4, 4), bool)
    assert averages('mevis-v2', 1.0, [scores('mevis-v2', truth, truth)]) == {'T-acc': 1}
    assert averages(None, 1.0, [{}]) == {}


@pytest.mark.parametrize('seed', range(5))
def test_measures_equal_a_slow_form(seed):
    """Pixel by pixel and frame by frame, in Python numbers."""
    rng = np.random.default_rng(seed)
    shape = (6, 4, 5)
    truth, pred, other = (
        (rng.random(shape) < share) & (rng.random((6, 1, 1)) < 0.6) for share in (0.4, 0.5, 0.3)
    )
    foreground = truth | other
    both = either = 0
    volume = robust = 0.0
    for t in range(6):
        pixels = list(zip(pred[t].ravel(), truth[t].ravel(), foreground[t].ravel()))
        shown, true = any(p for p, _, _ in pixels), any(g for _, g, _ in pixels)
        either += shown or true
        if shown and true:
            both += 1
            volume += sum(p and g for p, g, _ in pixels) / sum(p or g for p, g, _ in pixels)
        wrong, objects = sum(p and not g for p, g, _ in pixels), sum(o for _, _, o in pixels)
        robust += max(1 - wrong / (objects + 1e-6), 0) / 6
    found = scores('long-rvos', pred, truth)
    assert found == pytest.approx({'tIoU': both / either, 'vIoU': volume / either})
    assert scores('revos', pred, truth, foreground)['R'] == pytest.approx(robust)


def test_frames_that_only_one_of_both_shows_lower_both_measures():
    j, true = np.full(4, 0.5), np.array([YES, YES, NO, NO])
    right, wrong = true, np.array([YES, YES, YES, NO])
    assert temporal_iou(right, true) == 1 and volume_iou(j, right, true) == 0.5
    assert temporal_iou(wrong, true) == pytest.approx(2 / 3)
    assert volume_iou(j, wrong, true) == pytest.approx(1 / 3)


def test_the_overall_numbers_of_revos_are_means_of_two_kinds():
    rows = {'referring': {'J': 0.2}, 'reasoning': {'J': 0.6, 'gap': 1.0}, 'nothing': {'J': 0}}
    assert revos_overall(rows) == pytest.approx({'J': 0.4, 'gap': 1.0})
    assert revos_overall({'reasoning': {'J': 0.6}}) == {'J': 0.6}
    assert revos_overall({'nothing': {'J': 0}}) is None
