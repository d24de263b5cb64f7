"""J and F of all objects of one label map against all of another, in one pass over the pixels.

A label map has the id of the object at every pixel, 0 = background. The results equal those of
``region_similarity`` and ``boundary_measure`` on the single masks. Three facts make them cheap:

- The sizes of all objects and intersections are one histogram of pairs of ids.
- A pixel is on some boundary if it and its right, lower and lower right neighbours are not all
  equal, and then it is on the boundary of just the objects that are among these four. So the
  boundaries of all objects are few pixels, each with a set of objects, kept as bits.
- Which objects are near a boundary pixel is needed at boundary pixels only. A disk is a stack of
  rows, and a row of any length is two overlapping rows whose lengths are a power of two. So the
  sets of these lengths are worked out for all pixels, and at each boundary pixel a few of them
  are joined.

P objects in one map, N in the other, K boundary pixels.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

_BITS = 64  # most objects that are worked on at once


class Edges(NamedTuple):
    """Pixels of a label map that are on the boundary of an object."""

    rows: np.ndarray  # (K,)
    columns: np.ndarray  # (K,)
    sets: list[np.ndarray]  # of objects, (K,) each: a bit for every object, 64 in each array
    count: int  # of objects
    shape: tuple[int, int]  # of the map


def pairwise_scores(
    pred: np.ndarray, gt: np.ndarray, num_pred: int, num_gt: int, radius: int
) -> tuple[np.ndarray, np.ndarray]:
    """Score objects 1 to P of one map against objects 1 to N of another.

    Args:
        pred: Predicted label map, (H, W) uint8.
        gt: Annotated label map, (H, W) uint8. Ids above N are no objects.
        num_pred: P, no less than the largest predicted id.
        num_gt: N.
        radius: Tolerance of F, from ``boundary_radius``.

    Returns:
        j, f: Float64 (P, N) each.
    """
    pred, gt = _crop(pred, gt)
    return _pairwise_iou(pred, gt, num_pred, num_gt), _pairwise_boundary_score(
        find_edges(pred, num_pred), find_edges(gt, num_gt), radius
    )


def find_edges(labels: np.ndarray, count: int) -> Edges:
    """Boundary pixels of objects 1 to ``count`` of a label map, (H, W) uint8."""
    H, W = labels.shape
    # Neighbours outside the frame never differ.
    padded = cv2.copyMakeBorder(labels, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    here = padded[:-1, :-1]
    differs = here != padded[:-1, 1:]
    differs |= here != padded[1:, :-1]
    differs |= here != padded[1:, 1:]
    rows, columns = np.divmod(np.flatnonzero(differs), W)
    at = rows * (W + 1) + columns
    corners = padded.ravel()[np.stack([at, at + 1, at + W + 1, at + W + 2])]
    sets = []
    for first in range(1, count + 1, _BITS):
        bit = np.zeros(257, np.min_scalar_type((1 << min(count + 1 - first, _BITS)) - 1))
        for i in range(first, min(count + 1, first + _BITS)):
            bit[i] = 1 << i - first
        sets.append(np.bitwise_or.reduce(bit[corners], axis=0))
    return Edges(rows, columns, sets, count, (H, W))


def _crop(*maps: np.ndarray) -> list[np.ndarray]:
    """Cut label maps to a window outside of which they are empty, with one pixel around it."""
    H, W = maps[0].shape
    x, y, w, h = cv2.boundingRect(np.bitwise_or(*maps))
    window = np.s_[max(y - 1, 0) : min(y + h + 1, H), max(x - 1, 0) : min(x + w + 1, W)]
    return [labels[window] for labels in maps]


def _pairwise_iou(pred: np.ndarray, gt: np.ndarray, P: int, N: int) -> np.ndarray:
    """IoU of all pairs of objects, (P, N); 1 if both are empty."""
    size = max(int(gt.max()), N) + 1
    kind = np.min_scalar_type((P + 1) * size - 1)
    pairs = (pred.astype(kind, copy=False) * kind.type(size) + gt).ravel()
    # There are far fewer runs of equal pairs than pixels.
    ends = np.append(np.flatnonzero(pairs[1:] != pairs[:-1]), pairs.size - 1)
    lengths = np.diff(ends, prepend=-1)
    counts = np.bincount(pairs[ends], lengths, (P + 1) * size).reshape(P + 1, size)
    inter = counts[1:, 1 : N + 1]
    union = counts.sum(1)[1:, None] + counts.sum(0)[None, 1 : N + 1] - inter
    return np.divide(inter, union, out=np.ones((P, N)), where=union > 0)


def _pairwise_boundary_score(pred: Edges, gt: Edges, radius: int) -> np.ndarray:
    """F of all pairs of objects, (P, N)."""
    p, n = _unpack(pred.sets, pred.count), _unpack(gt.sets, gt.count)
    near_gt = _unpack(_join_disks(pred, gt, radius), gt.count)
    near_pred = _unpack(_join_disks(gt, pred, radius), pred.count)
    precision = _share(p @ near_gt.T, p.sum(1)[:, None])
    recall = _share(near_pred @ n.T, n.sum(1))
    f = _share(2 * precision * recall, precision + recall)
    # Two masks without a boundary agree.
    f[~p.any(1)[:, None] & ~n.any(1)] = 1
    return f


def _join_disks(at: Edges, edges: Edges, radius: int) -> list[np.ndarray]:
    """Objects with a boundary in ``edges`` within the radius of the pixels of ``at``, as bits."""
    H, W = edges.shape
    # Padding keeps disks inside the map, and their rows inside its rows.
    stride = W + 2 * radius
    here = at.rows * stride + at.columns  # top left of the square around the disk
    there = (edges.rows + radius) * stride + edges.columns + radius
    joined = []
    for sets in edges.sets:
        out = np.zeros(len(here), sets.dtype)
        table = np.zeros((H + 2 * radius) * stride, sets.dtype)
        table[there] = sets
        for power, starts in enumerate(_disk_rows(radius)):
            if power:  # from the union of 2^(power - 1) pixels in a row to that of twice as many
                table = table[: -(1 << power - 1)] | table[1 << power - 1 :]
            for y, x in starts:
                out |= table[y * stride + x :].take(here)
        joined.append(out)
    return joined


@lru_cache(maxsize=32)
def _disk_rows(radius: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Rows of 1, 2, 4, ... pixels that make up the disk x^2 + y^2 <= radius^2.

    Returns:
        For each length the first pixels (y, x) of its rows, from the top left of the square
        around the disk.
    """
    rows: list[set[tuple[int, int]]] = [set() for _ in range((2 * radius + 1).bit_length())]
    for y in range(-radius, radius + 1):
        half = math.isqrt(radius**2 - y**2)
        power = (2 * half + 1).bit_length() - 1
        last = radius + half + 1 - (1 << power)
        rows[power] |= {(radius + y, radius - half), (radius + y, last)}
    return tuple(tuple(sorted(starts)) for starts in rows)


def _unpack(sets: list[np.ndarray], count: int) -> np.ndarray:
    """Bits to 0 and 1, float32 (count, K): sums of these are exact, products fast."""
    bits = [sets[i // _BITS] >> i % _BITS & 1 for i in range(count)]
    return np.array(bits, np.float32)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Float64 quotient, 0 where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(part.astype(np.float64), whole.astype(np.float64))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
