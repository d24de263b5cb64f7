"""Region similarity J, boundary measure F and their statistics: numpy in, numbers out.

The DAVIS measures (Perazzi et al., CVPR 2016, section 5), equal to the public DAVIS-2017 scorer.
Masks are bool (or anything that casts to bool), True = object, (..., H, W); ``void`` marks, in the
same shape, pixels that count neither for nor against.

The boundary of a mask and its dilation do not depend on what the mask is compared with.
``find_boundary`` works them out once, ``boundary_score`` compares any two: comparing P proposals
with N objects costs P + N dilations, not P * N.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np


class Boundary(NamedTuple):
    """Boundary of one mask, cut out of its frame by a window that holds all of ``near``."""

    top: int  # first row of the window in the frame
    left: int  # first column of the window in the frame
    line: np.ndarray  # (h, w) uint8, 1 on the boundary
    near: np.ndarray  # (h, w) uint8, 1 within the tolerance of the boundary
    length: int  # number of boundary pixels


def region_similarity(
    pred: np.ndarray, gt: np.ndarray, void: np.ndarray | None = None
) -> np.ndarray:
    """Intersection over union of every mask, J; 1 where both are empty.

    Args:
        pred: Predicted masks, (..., H, W).
        gt: Annotated masks, (..., H, W).
        void: Pixels that do not count, (..., H, W).

    Returns:
        Float64 array (...).
    """
    pred, gt = _masks(pred, gt, void)
    shape = pred.shape[:-2]
    inter, union = np.empty(shape), np.empty(shape)
    for i in np.ndindex(shape):  # counting is several times faster on one contiguous mask
        inter[i] = np.count_nonzero(pred[i] & gt[i])
        union[i] = np.count_nonzero(pred[i]) + np.count_nonzero(gt[i]) - inter[i]
    return np.divide(inter, union, out=np.ones(shape), where=union > 0)


def boundary_measure(
    pred: np.ndarray,
    gt: np.ndarray,
    void: np.ndarray | None = None,
    tolerance: float = 0.008,
) -> np.ndarray:
    """F-measure between the boundaries of every pair of masks, F.

    Args:
        pred: Predicted masks, (..., H, W).
        gt: Annotated masks, (..., H, W).
        void: Pixels that do not count, (..., H, W).
        tolerance: How far boundaries may lie apart, see ``boundary_radius``.

    Returns:
        Float64 array (...).
    """
    pred, gt = _masks(pred, gt, void)
    radius = boundary_radius(*pred.shape[-2:], tolerance)
    scores = np.empty(pred.shape[:-2])
    for i in np.ndindex(scores.shape):
        scores[i] = boundary_score(find_boundary(pred[i], radius), find_boundary(gt[i], radius))
    return scores


def boundary_radius(height: int, width: int, tolerance: float = 0.008) -> int:
    """Tolerance in pixels.

    Args:
        height: Height of the frame.
        width: Width of the frame.
        tolerance: A fraction of the frame's diagonal, to be rounded up; from 1 on, pixels.
    """
    if tolerance < 0:
        raise ValueError(f'tolerance must not be negative, got {tolerance}.')
    return math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(height, width))


def boundary_map(masks: np.ndarray) -> np.ndarray:
    """Boundary, one pixel wide, of every mask, (..., H, W) -> bool (..., H, W).

    A pixel belongs to it if its right, lower or lower right neighbour differs from it. Neighbours
    outside the frame never differ, so an object cut off by the frame has no boundary there.
    """
    masks = np.asarray(masks, dtype=bool)
    edges = np.zeros_like(masks)
    edges[..., :-1] = masks[..., :-1] != masks[..., 1:]
    edges[..., :-1, :] |= masks[..., :-1, :] != masks[..., 1:, :]
    edges[..., :-1, :-1] |= masks[..., :-1, :-1] != masks[..., 1:, 1:]
    return edges


def find_boundary(mask: np.ndarray, radius: int) -> Boundary:
    """Boundary of one mask and its dilation by a disk, inside the smallest window that holds both.

    Args:
        mask: Bool, (H, W).
        radius: Radius of the disk in pixels, from ``boundary_radius``.
    """
    H, W = mask.shape
    x, y, w, h = cv2.boundingRect(np.ascontiguousarray(mask, dtype=bool).view(np.uint8))
    if w == 0:
        nothing = np.zeros((0, 0), np.uint8)
        return Boundary(0, 0, nothing, nothing, 0)
    # The boundary also runs through the pixels above and to the left of the object.
    top, left = max(y - 1 - radius, 0), max(x - 1 - radius, 0)
    # One pixel of background is enough to see where the object ends.
    bottom, right = min(y + h + max(radius, 1), H), min(x + w + max(radius, 1), W)
    line = boundary_map(mask[top:bottom, left:right]).view(np.uint8)
    return Boundary(top, left, line, _dilate(line, radius), int(np.count_nonzero(line)))


def boundary_score(pred: Boundary, gt: Boundary) -> float:
    """F-measure of two boundaries found with the same radius in frames of one size.

    Precision is the share of the predicted boundary near the annotated one, recall the reverse. Two
    masks without a boundary agree (1); against one with a boundary such a mask scores 0.
    """
    if pred.length == 0 or gt.length == 0:
        return float(pred.length == gt.length)
    precision = _count_near(pred, gt) / pred.length
    recall = _count_near(gt, pred) / gt.length
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall and decay of the scores of one object over time, as the DAVIS scorer has them.

    Recall is the share of frames above 0.5. Decay is the mean of the first quarter minus that of
    the last; quarters share their limits. NaN values are left out of means and count as missed in
    recall. The scorer keeps the limits of the quarters in 8 bits: above 255 frames they wrap
    around, and the decay is mostly NaN.

    Args:
        values: J or F of every frame, (T,).
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f'statistics needs scores of shape (T,) with T > 0, got {values.shape}.')
    # The small addend makes halves round up.
    limits = (np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1) % 256
    stops = (limits + 1) % 256
    first, last = values[limits[0] : stops[1]], values[limits[3] : stops[4]]
    return _nan_mean(values), float(np.mean(values > 0.5)), _nan_mean(first) - _nan_mean(last)


def _masks(
    pred: np.ndarray, gt: np.ndarray, void: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as bool arrays without their void pixels, after a check of the shapes."""
    pred, gt = np.asarray(pred, dtype=bool), np.asarray(gt, dtype=bool)
    if pred.shape != gt.shape or pred.ndim < 2:
        raise ValueError(
            f'pred and gt must have the same shape (..., H, W), got {pred.shape} and {gt.shape}.'
        )
    if void is None:
        return pred, gt
    void = np.asarray(void, dtype=bool)
    if void.shape != pred.shape:
        raise ValueError(f'void must have the shape of the masks, {pred.shape}, got {void.shape}.')
    return pred & ~void, gt & ~void


@lru_cache(maxsize=32)
def _disk_rectangles(radius: int) -> tuple[np.ndarray, ...]:
    """Centred rectangles of ones whose union is the disk x^2 + y^2 <= radius^2."""
    half_width = [math.isqrt(radius**2 - y**2) for y in range(radius + 1)] + [-1]
    return tuple(
        np.ones((2 * y + 1, 2 * half_width[y] + 1), np.uint8)
        for y in range(radius + 1)
        if half_width[y + 1] < half_width[y]  # the tallest rectangle of its width
    )


def _dilate(line: np.ndarray, radius: int) -> np.ndarray:
    """Dilate a 0/1 map by a disk; rectangles are separable, so several cost less than one disk."""
    out = np.zeros_like(line)
    for rectangle in _disk_rectangles(radius):
        np.bitwise_or(out, cv2.dilate(line, rectangle), out=out)
    return out


def _count_near(a: Boundary, b: Boundary) -> int:
    """Number of boundary pixels of ``a`` within the tolerance of the boundary of ``b``."""
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.line.shape[0], b.top + b.near.shape[0])
    right = min(a.left + a.line.shape[1], b.left + b.near.shape[1])
    if bottom <= top or right <= left:
        return 0
    line = a.line[top - a.top : bottom - a.top, left - a.left : right - a.left]
    near = b.near[top - b.top : bottom - b.top, left - b.left : right - b.left]
    return int(np.count_nonzero(line & near))


def _nan_mean(values: np.ndarray) -> float:
    """Mean of the values that are numbers; NaN, without a warning, where there is none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan
