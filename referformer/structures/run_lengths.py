"""Masks in COCO's run-length code, checked: its library trusts whatever it is given."""

from itertools import cycle
from typing import Any

import numpy as np

from ..image_files import check_pixels

_MOST_CHARACTERS = 7  # of one number: 35 bits
_LARGEST = 2**32


def as_run_lengths(segmentation: Any, size: tuple[int, int]) -> dict:
    """A mask as COCO's library takes it.

    Args:
        segmentation: Run lengths, ``{'size': [H, W], 'counts': ...}`` with a compressed string or a
            list of lengths; or polygons, each a flat list x, y, x, y, ... in pixels.
        size: (H, W) it must have.

    Raises:
        ValueError: If it is malformed or has another size.
    """
    if not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f'the size {size} is not that of a picture')
    check_pixels(*size)
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    if not isinstance(segmentation, dict):
        raise ValueError('neither run lengths nor polygons')
    if segmentation.get('size') != list(size):
        raise ValueError(f'run lengths of the size {segmentation.get("size")}, not {list(size)}')
    counts = segmentation.get('counts')
    compressed = isinstance(counts, (str, bytes))
    runs = read_counts(counts) if compressed else _integers(counts)
    pixels = size[0] * size[1]
    # Each by itself, too: a sum of large ones could wrap around.
    if runs.size == 0 or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        raise ValueError(f'run lengths that do not cover {size[0]} x {size[1]} pixels')
    if compressed:
        return {'size': list(size), 'counts': counts}
    from pycocotools import mask as coco_mask

    return coco_mask.frPyObjects({'size': list(size), 'counts': runs.tolist()}, *size)


def decode_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Bool (H, W) of what :func:`as_run_lengths` takes; polygons are united.

    Raises:
        ValueError: If it is malformed or has another size.
    """
    from pycocotools import mask as coco_mask

    return coco_mask.decode(as_run_lengths(segmentation, size)).astype(bool)


def read_counts(code: str | bytes) -> np.ndarray:
    """The lengths in a compressed string.

    A character holds five bits of a number, the lowest first, and whether more follow; from the
    fourth on a number is the difference to the one before the last.

    Raises:
        ValueError: If there are other characters than those of the code, or it ends too early.
    """
    code = code.encode('ascii', 'replace') if isinstance(code, str) else code
    chars = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    if chars.size == 0 or chars.min() < 0 or chars.max() > 63 or chars[-1] & 32:
        raise ValueError('no compressed run lengths')
    ends = np.flatnonzero(chars & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_CHARACTERS:
        raise ValueError('no compressed run lengths')
    places = np.arange(chars.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((chars & 31) << 5 * places, starts)
    numbers -= np.where(chars[ends] & 16, 1 << 5 * lengths, 0)  # the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _integers(counts: Any) -> np.ndarray:
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise ValueError('run lengths are neither a string nor a list of integers')
    if not all(0 <= count <= _LARGEST for count in counts):
        raise ValueError('a run length is negative or too large')
    return np.array(counts, np.int64)


def _from_polygons(polygons: list, size: tuple[int, int]) -> dict:
    from pycocotools import mask as coco_mask

    for polygon in polygons:
        # Four numbers would be taken for a box.
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError('a polygon is a list of at least three points x, y')
        if not all(type(number) in (int, float) for number in polygon):
            raise ValueError('a polygon has coordinates that are no numbers')
        # The library walks along every side and keeps each step, in 32 bits.
        if not all(-side <= number <= 2 * side for number, side in zip(polygon, cycle(size[::-1]))):
            raise ValueError(f'a polygon reaches further than its {size} picture is large')
    if not polygons:
        raise ValueError('no polygon')
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
