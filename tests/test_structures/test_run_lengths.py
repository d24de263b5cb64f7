"""Run lengths: the library's own, in all their forms, and what is none."""

import numpy as np
import pytest

from referformer.structures.run_lengths import as_run_lengths, decode_mask, read_counts

coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')


def lengths_of(mask: np.ndarray) -> list[int]:
    """Lengths of equal pixels down the columns, zeros first."""
    flat = np.concatenate([[0], mask.T.ravel()])
    changes = np.flatnonzero(np.diff(flat))
    return np.diff([0, *changes, mask.size]).tolist()


def test_all_forms_are_the_same_mask():
    rng = np.random.default_rng(0)
    for density in np.linspace(0, 1, 40) ** 2:
        size = tuple(rng.integers(1, 70, 2).tolist())
        mask = (rng.random(size) < density).astype(np.uint8)
        code = coco_mask.encode(np.asfortranarray(mask))['counts']
        assert read_counts(code).tolist() == lengths_of(mask)
        for counts in (code, code.decode(), lengths_of(mask)):
            rle = as_run_lengths({'size': list(size), 'counts': counts}, size)
            np.testing.assert_array_equal(coco_mask.decode(rle), mask)


def test_large_masks_with_long_runs():
    mask = np.zeros((1080, 1920), np.uint8)
    mask[:, 1900] = 1
    code = coco_mask.encode(np.asfortranarray(mask))['counts']
    assert read_counts(code).tolist() == [1080 * 1900, 1080, 1080 * 19]


def test_polygons_are_united():
    left, right = [2, 2, 6, 2, 6, 8, 2, 8], [4.0, 2, 12, 2, 12, 8, 4, 8]
    rle = as_run_lengths([left, right], (10, 20))
    mask = coco_mask.decode(rle)
    assert mask.sum() == 60
    assert mask[2:8, 2:12].all()


GOOD = coco_mask.encode(np.asfortranarray(np.eye(8, dtype=np.uint8)))['counts'].decode()
BAD_CODES = ['', GOOD[:-1], GOOD[:-2], GOOD + '1', GOOD + 'o', 'P', 'zz', 'é', '~', 'o' * 16 + 'O']
BAD_LISTS = [[64, 1], [-1, 65], [32.0, 32], ['64'], [], None, 64]
TRIANGLE = [1, 1, 6, 1, 6, 6]
BAD_POLYGONS = [
    [],
    TRIANGLE,
    [TRIANGLE[:4]],
    [[*TRIANGLE, 5]],
    [[*TRIANGLE[:5], None]],
    [[*TRIANGLE[:5], float('nan')]],
    [[*TRIANGLE[:5], 17]],  # more than a height below
    [[*TRIANGLE[:5], -1e8]],  # the library crashes
    [['1', 1, 6, 1, 6, 6]],
]


@pytest.mark.parametrize('counts', [*BAD_CODES, *BAD_LISTS])
def test_malformed_counts_are_refused(counts):
    with pytest.raises(ValueError):
        as_run_lengths({'size': [8, 8], 'counts': counts}, (8, 8))


@pytest.mark.parametrize('polygons', BAD_POLYGONS)
def test_malformed_polygons_are_refused(polygons):
    assert as_run_lengths([TRIANGLE], (8, 8))['size'] == [8, 8]
    with pytest.raises(ValueError):
        as_run_lengths(polygons, (8, 8))


@pytest.mark.parametrize('size', [[8, 9], 8, None])
def test_masks_of_another_size_are_refused(size):
    assert as_run_lengths({'size': [8, 8], 'counts': GOOD}, (8, 8))
    with pytest.raises(ValueError):
        as_run_lengths({'size': size, 'counts': GOOD}, (8, 8))


@pytest.mark.parametrize('counts', [[0, 32], [64, 1], GOOD[:-2]])
def test_masks_that_do_not_cover_the_frame_are_refused(counts):
    with pytest.raises(ValueError):
        decode_mask({'size': [8, 8], 'counts': counts}, (8, 8))
    np.testing.assert_array_equal(decode_mask({'size': [8, 8], 'counts': GOOD}, (8, 8)), np.eye(8))
