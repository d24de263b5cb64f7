"""All pairs of objects of two label maps: the same numbers as mask by mask."""

import numpy as np
import pytest

from referformer.evaluation import boundary_map, boundary_measure, region_similarity
from referformer.evaluation.measures.label_maps import find_edges, pairwise_scores


def random_map(
    rng: np.random.Generator, count: int, shape: tuple[int, int] = (40, 56), largest: int = 20
) -> np.ndarray:
    """Rectangles on top of each other, some cut off by the frame, some hidden."""
    labels = np.zeros(shape, np.uint8)
    for i in rng.permutation(count) + 1:
        top, left = rng.integers(-5, shape[0]), rng.integers(-5, shape[1])
        height, width = rng.integers(1, largest, 2)
        labels[max(top, 0) : top + height, max(left, 0) : left + width] = i
    return labels


def assert_equal_mask_by_mask(pred, gt, num_pred, num_gt, radius):
    j, f = pairwise_scores(pred, gt, num_pred, num_gt, radius)
    assert j.shape == f.shape == (num_pred, num_gt)
    for p, n in np.ndindex(num_pred, num_gt):
        masks = pred == p + 1, gt == n + 1
        assert j[p, n] == pytest.approx(region_similarity(*masks), abs=1e-12), (p + 1, n + 1)
        expected = boundary_measure(*masks, tolerance=radius)
        assert f[p, n] == pytest.approx(expected, abs=1e-12), (p + 1, n + 1)
    return j, f


@pytest.mark.parametrize('radius', [0, 1, 2, 3, 5, 8, 13])
def test_pairs_equal_single_masks(radius):
    rng = np.random.default_rng(radius)
    scores = set()
    for _ in range(4):
        pred, gt = random_map(rng, 7, largest=40), random_map(rng, 3, largest=40)
        scores |= {*assert_equal_mask_by_mask(pred, gt, 9, 3, radius)[1].ravel()}
    assert len(scores) > 3


def test_noise_has_four_objects_around_a_pixel():
    pred, gt = np.random.default_rng(0).integers(0, 6, (2, 17, 23), dtype=np.uint8)
    assert_equal_mask_by_mask(pred, gt, 5, 5, 1)


@pytest.mark.parametrize(('num_pred', 'num_gt'), [(8, 9), (64, 2), (65, 3), (2, 130), (254, 1)])
def test_any_number_of_objects(num_pred, num_gt):
    rng = np.random.default_rng(num_pred)
    pred, gt = (random_map(rng, count, largest=12) for count in (num_pred, num_gt))
    assert_equal_mask_by_mask(pred, gt, num_pred, num_gt, 2)


def test_ids_above_the_number_of_annotated_objects_are_no_objects():
    rng = np.random.default_rng(0)
    pred, gt = random_map(rng, 3), random_map(rng, 5)
    some = pairwise_scores(pred, gt, 3, 2, 2)
    every = pairwise_scores(pred, gt, 3, 5, 2)
    for few, all_pairs in zip(some, every):
        assert (few == all_pairs[:, :2]).all()


def test_empty_and_full_maps():
    empty, full = np.zeros((12, 15), np.uint8), np.ones((12, 15), np.uint8)
    for pred, gt in ((empty, empty), (empty, full), (full, empty), (full, full)):
        assert_equal_mask_by_mask(pred, gt, 2, 2, 1)
    j, f = pairwise_scores(empty, empty, 1, 1, 1)
    assert j.tolist() == f.tolist() == [[1]]


def test_edges_are_the_boundaries_of_all_objects():
    labels = random_map(np.random.default_rng(3), 70, largest=12)
    edges = find_edges(labels, 70)
    assert [sets.dtype.itemsize for sets in edges.sets] == [8, 1]
    for i in range(70):
        line = np.zeros(labels.shape, bool)
        on = (edges.sets[i // 64] >> i % 64 & 1).astype(bool)
        line[edges.rows[on], edges.columns[on]] = True
        assert (line == boundary_map(labels == i + 1)).all(), f'object {i + 1}'
