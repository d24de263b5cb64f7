"""J, F and their statistics: the DAVIS scorer's numbers, a slow form, cases by hand."""

import math

import numpy as np
import pytest

from referformer.evaluation import (
    boundary_map,
    boundary_measure,
    boundary_radius,
    boundary_score,
    find_boundary,
    region_similarity,
    statistics,
)


def random_blobs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A few ellipses, some of them holes, some cut off by the frame."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for i in range(rng.integers(1, 5)):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(0.5, height / 2), rng.uniform(0.5, width / 2)
        mask[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1] = i != 2
    return mask


def slow_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    H, W = mask.shape
    return [
        (y, x)
        for y in range(H)
        for x in range(W)
        if any(
            y + dy < H and x + dx < W and mask[y, x] != mask[y + dy, x + dx]
            for dy, dx in ((0, 1), (1, 0), (1, 1))
        )
    ]


def slow_f(pred: np.ndarray, gt: np.ndarray, tolerance: float) -> float:
    """F from the distances between all pairs of boundary pixels: no dilation, no windows."""
    pred, gt = slow_boundary(pred), slow_boundary(gt)
    if not pred or not gt:
        return float(len(pred) == len(gt))

    def share_near(a: list, b: list) -> float:
        return sum(any(math.dist(p, q) <= tolerance for q in b) for p in a) / len(a)

    precision, recall = share_near(pred, gt), share_near(gt, pred)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def square(y: int, x: int, side: int = 8, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


# The DAVIS scorer's numbers.


@pytest.fixture(scope='module')
def davis(shared_dir):
    return np.load(shared_dir / 'parity/metrics/davis_jf_single.npz')


def unpack(file, key: str) -> np.ndarray | None:
    if f'{key}.packed' not in file.files:
        return None
    shape = file[f'{key}.shape']
    return np.unpackbits(file[f'{key}.packed'])[: shape.prod()].reshape(shape).astype(bool)


def test_j_and_f_equal_the_davis_scorer(davis):
    assert int(davis['n']) == 37
    for i in range(37):
        pred, gt, void = (unpack(davis, f'{i}.{name}') for name in ('pred', 'gt', 'void'))
        j, f = region_similarity(pred, gt, void), boundary_measure(pred, gt, void)
        assert j == pytest.approx(float(davis[f'{i}.J']), abs=1e-9), f'J of case {i}'
        assert f == pytest.approx(float(davis[f'{i}.F']), abs=1e-9), f'F of case {i}'
        assert boundary_radius(*gt.shape) == davis[f'{i}.radius']


def test_boundaries_equal_the_davis_scorer(davis):
    for i in range(37):
        void = unpack(davis, f'{i}.void')
        for name, count in zip(('gt', 'pred'), davis[f'{i}.boundary_counts']):
            mask = unpack(davis, f'{i}.{name}')
            mask = mask if void is None else mask & ~void
            edges = boundary_map(mask)
            assert edges.sum() == find_boundary(mask, 2).length == count
            expected = unpack(davis, f'{i}.{name}_boundary')
            assert expected is None or (edges == expected).all()


def test_the_disk_is_the_davis_scorers(davis):
    # The union of disks around the boundary of a pixel in a corner: windows are cut by the frame.
    pixel = np.zeros((25, 25), bool)
    pixel[-1, -1] = True
    for radius in range(10):
        boundary = find_boundary(pixel, radius)
        disk = davis[f'disk_{radius}'].astype(bool)
        window = np.zeros((25, 25), bool)
        bottom, right = boundary.top + len(boundary.near), boundary.left + boundary.near.shape[1]
        window[boundary.top : bottom, boundary.left : right] = boundary.near
        expected = np.zeros((25 + 20, 25 + 20), bool)
        for y, x in slow_boundary(pixel):
            y0, x0 = y + 10 - radius, x + 10 - radius
            expected[y0 : y0 + 2 * radius + 1, x0 : x0 + 2 * radius + 1] |= disk
        assert (window == expected[10:35, 10:35]).all(), f'radius {radius}'


def test_tolerance_is_a_fraction_or_pixels(davis):
    pred, gt = unpack(davis, '0.pred'), unpack(davis, '0.gt')
    for i in range(4):
        tolerance, expected = davis[f'F_bound_th_{i}']
        assert boundary_measure(pred, gt, tolerance=tolerance) == pytest.approx(expected, abs=1e-9)


def test_statistics_equal_the_davis_scorer(shared_dir):
    file = np.load(shared_dir / 'parity/metrics/davis_statistics.npz')
    for i in range(int(file['n'])):
        ours = statistics(file[f'{i}.values'])
        np.testing.assert_allclose(
            ours, file[f'{i}.mean_recall_decay'], rtol=0, atol=1e-9, err_msg=f'case {i}'
        )


# An independent slow form.


@pytest.mark.parametrize('tolerance', [0, 1, 2, 3, 5, 8])
def test_f_equals_brute_force_distances(tolerance):
    rng = np.random.default_rng(tolerance)
    for _ in range(6):
        pred, gt = random_blobs(rng, 24, 31), random_blobs(rng, 24, 31)
        expected = slow_f(pred, gt, tolerance)
        assert boundary_measure(pred, gt, tolerance=tolerance) == pytest.approx(expected, abs=1e-12)


def test_frames_are_scored_on_their_own():
    rng = np.random.default_rng(0)
    pred, gt, void = (
        np.array([[random_blobs(rng, 30, 40) for _ in range(3)] for _ in range(2)])
        for _ in range(3)
    )
    j, f = region_similarity(pred, gt, void), boundary_measure(pred, gt, void)
    assert j.shape == f.shape == (2, 3)
    for i in np.ndindex(2, 3):
        assert j[i] == region_similarity(pred[i], gt[i], void[i])
        assert f[i] == boundary_measure(pred[i], gt[i], void[i])
    assert len(np.unique(f)) > 3


def test_boundaries_of_proposals_serve_every_object():
    rng = np.random.default_rng(1)
    proposals = [random_blobs(rng, 30, 40) for _ in range(4)]
    objects = [random_blobs(rng, 30, 40) for _ in range(3)]
    theirs = [find_boundary(mask, 1) for mask in objects]
    for proposal in proposals:
        ours = find_boundary(proposal, 1)
        for mask, boundary in zip(objects, theirs):
            assert boundary_score(ours, boundary) == boundary_measure(proposal, mask)


def test_f_is_symmetric_and_void_pixels_do_not_matter():
    rng = np.random.default_rng(2)
    pred, gt, void = (random_blobs(rng, 30, 40) for _ in range(3))
    assert boundary_measure(pred, gt) == boundary_measure(gt, pred)
    other = pred ^ (void & (rng.random(void.shape) < 0.5))
    assert (other != pred).any()
    assert region_similarity(other, gt, void) == region_similarity(pred, gt, void)
    assert boundary_measure(other, gt, void) == boundary_measure(pred, gt, void)


# Cases by hand.


def test_empty_masks():
    empty, some, full = np.zeros((20, 30), bool), square(5, 5, shape=(20, 30)), np.ones((20, 30))
    assert region_similarity(empty, empty) == boundary_measure(empty, empty) == 1
    assert region_similarity(empty, some) == boundary_measure(empty, some) == 0
    assert region_similarity(some, empty) == boundary_measure(some, empty) == 0
    assert region_similarity(empty, full) == 0
    # A full frame has no boundary either.
    assert boundary_measure(empty, full) == 1
    assert boundary_measure(some, full) == 0


def test_overlap_by_hand():
    # Two 8x8 squares, shifted by 4: 4*8 shared, 12*8 in all.
    assert region_similarity(square(5, 5), square(5, 9)) == pytest.approx(1 / 3)
    assert region_similarity(square(0, 0), square(20, 20)) == 0


def test_a_shift_within_the_tolerance_is_forgiven():
    # The diagonal of 40x50 is 64.03: the tolerance is one pixel.
    assert boundary_radius(40, 50) == 1
    assert boundary_measure(square(5, 6), square(5, 5)) == 1
    assert boundary_measure(square(5, 7), square(5, 5)) < 1
    assert boundary_measure(square(5, 7), square(5, 5), tolerance=2) == 1
    # Across a diagonal one step is farther than one pixel.
    assert boundary_measure(square(6, 6), square(5, 5)) < 1


def test_boundary_of_a_square_by_hand():
    # The row above, the column to the left and the object's own last row and column.
    edges = boundary_map(square(2, 3, side=2, shape=(6, 8)))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    expected[2, 3] = False
    assert (edges == expected).all()
    # No boundary along the frame.
    assert boundary_map(square(0, 0, side=8, shape=(8, 8))).sum() == 0


def test_precision_and_recall_by_hand():
    # One of two far objects is found: precision 1, recall 1/2.
    gt = square(2, 2) | square(28, 38)
    assert boundary_measure(square(2, 2), gt) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ('height', 'width', 'radius'), [(48, 64, 1), (75, 100, 1), (76, 100, 2), (480, 854, 8)]
)
def test_radius_by_hand(height, width, radius):
    assert boundary_radius(height, width) == radius


def test_statistics_by_hand():
    # Limits 0, 2, 4, 5 and 7, both ends included: the first three frames minus the last three.
    values = [0.9, 0.9, 0.6, 0.5, 0.5, 0.3, 0.3, 0.0]
    mean, recall, decay = statistics(values)
    assert (mean, recall) == pytest.approx((0.5, 3 / 8))
    assert decay == pytest.approx(0.8 - 0.2)
    assert statistics([0.7]) == pytest.approx((0.7, 1, 0))


def test_limits_of_long_videos_wrap_around_by_hand():
    # Limits 0, 275, ..., 824, 1099 modulo 256: frames 0 to 19 minus frames 56 to 75.
    assert statistics(np.arange(1100) / 1100)[2] == pytest.approx((9.5 - 65.5) / 1100)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match=r'\(3, 4\) and \(4, 3\)'):
        region_similarity(np.zeros((3, 4)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match='void'):
        boundary_measure(np.zeros((3, 4)), np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(ValueError, match='tolerance'):
        boundary_radius(3, 4, -1)
    with pytest.raises(ValueError, match='T > 0'):
        statistics([])
