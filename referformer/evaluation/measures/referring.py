"""Measures of referring segmentation in single frames: A2D- and JHMDB-Sentences, RefCOCO/+/g.

Equal to the evaluations published with ReferFormer, whose conventions are these: the best query is
the last among equal scores; an IoU has 1e-6 added to numerator and denominator, so nothing against
nothing counts as 1; a mask counts for P@K where its IoU is greater than K, a box for REC where its
generalised IoU is at least 0.5; mAP is COCO's for masks, with the predictions of all queries.
"""

import io
import math
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import NamedTuple, Protocol

import numpy as np
import torch

from referformer.structures import box_iou, generalized_box_iou

# COCO's numbers in their order: precision, then recall with 1, 10, 100 predictions and by area.
COCO_NUMBERS = (
    'mAP', 'AP50', 'AP75', 'mAP_small', 'mAP_medium', 'mAP_large',
    'AR1', 'AR10', 'AR100', 'AR_small', 'AR_medium', 'AR_large',
)  # fmt: skip
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)  # of P@K
RANKS = (1, 5, 10)  # of REC
_EPS = 1e-6


class Overlap(NamedTuple):
    """How masks overlap: arrays or numbers of the same shape."""

    iou: np.ndarray | float
    inter: np.ndarray | int  # pixels
    union: np.ndarray | int  # pixels


class FrameMasks(NamedTuple):
    """The annotated object of one frame and what was predicted for it, as COCO's RLEs."""

    target: dict  # {'size': [H, W], 'counts': bytes}
    masks: tuple[dict, ...]  # one for each query
    scores: tuple[float, ...]
    # Sizes in pixels where they are not those of the masks: of the predictions (queries,), and of
    # the object (annotation files have the area of its polygon).
    areas: tuple[float, ...] | None = None
    target_area: float | None = None


class FrameNumbers(Protocol):
    """What is known of one expression in one frame."""

    iou: float  # of the best query's mask
    inter: int  # pixels
    union: int  # pixels
    masks: FrameMasks | None
    # Whether one of the best ``RANKS`` boxes finds the object, by generalised and by plain IoU.
    hits: tuple[bool, ...]
    plain_hits: tuple[bool, ...]


def mask_iou(pred: np.ndarray, gt: np.ndarray) -> Overlap:
    """Overlap of bool masks, (..., H, W) each -> (...); the IoU of two empty masks is 1."""
    pred, gt = np.asarray(pred, bool), np.asarray(gt, bool)
    if pred.shape[-2:] != gt.shape[-2:]:
        raise ValueError(
            f'predicted masks of shape {pred.shape}, annotated ones of {gt.shape}; both must have '
            'the original size of the frame.'
        )
    inter = np.count_nonzero(pred & gt, axis=(-2, -1))
    union = np.count_nonzero(pred | gt, axis=(-2, -1))
    return Overlap((inter + _EPS) / (union + _EPS), inter, union)


def rle_iou(pred: dict | None, gt: dict) -> Overlap:
    """As ``mask_iou``, of two masks in COCO's run lengths; None is an empty mask."""
    from pycocotools import mask as coco_mask

    inter = 0 if pred is None else int(coco_mask.area(coco_mask.merge([pred, gt], intersect=True)))
    union = int(coco_mask.area(gt)) - inter + (0 if pred is None else int(coco_mask.area(pred)))
    return Overlap((inter + _EPS) / (union + _EPS), inter, union)


def best_query(scores: np.ndarray) -> int:
    """Index of the highest score, the last among equal ones, (queries,)."""
    scores = np.asarray(scores)
    return len(scores) - 1 - int(scores[::-1].argmax())


def precision_at_k(ious: Sequence[float], thresholds: Sequence[float] = THRESHOLDS) -> list[float]:
    """P@K: the fraction of IoUs greater than each threshold."""
    ious = np.asarray(ious, float)
    return [float((ious > threshold).mean()) for threshold in thresholds]


def mean_iou(ious: Sequence[float]) -> float:
    """Mean over frames, all of the same weight."""
    return float(np.mean(ious))


def overall_iou(inters: Sequence[float], unions: Sequence[float]) -> float:
    """Sum of the intersections over the sum of the unions; large objects weigh more.

    1 where all unions are empty.
    """
    union = float(np.sum(unions))
    return float(np.sum(inters)) / union if union > 0 else 1.0


def box_hits(
    scores: np.ndarray,
    boxes: np.ndarray,
    target: np.ndarray,
    ks: Sequence[int] = RANKS,
    *,
    generalized: bool = True,
) -> tuple[bool, ...]:
    """Whether one of the k best boxes finds the object, for every k (REC).

    Boxes of equal scores are ordered by their coordinates, the largest first.

    Args:
        scores: (queries,).
        boxes: xyxy pixels, (queries, 4).
        target: The object's box, (4,).
        ks: How many boxes may try.
        generalized: A box counts where its generalised IoU is at least 0.5, as published; else its
            plain IoU, which asks less of it, for it is never the smaller one.
    """
    scores = np.asarray(scores, float).tolist()
    ranked = sorted(zip(scores, np.asarray(boxes, float).tolist(), strict=True), reverse=True)
    ranked_boxes = torch.tensor([box for _, box in ranked], dtype=torch.float64).reshape(-1, 4)
    target_box = torch.as_tensor(np.asarray(target, float))
    if generalized:
        overlaps = generalized_box_iou(ranked_boxes, target_box)
    else:
        overlaps, _ = box_iou(ranked_boxes, target_box)
    found = overlaps >= 0.5
    return tuple(bool(found[:k].any()) for k in ks)


def encode_masks(masks: np.ndarray) -> tuple[dict, ...]:
    """Bool masks (N, H, W) as COCO's RLEs, a few hundred bytes each."""
    from pycocotools import mask as coco_mask

    masks = np.asarray(masks, np.uint8)
    return tuple(coco_mask.encode(np.asfortranarray(mask)) for mask in masks)


def mask_average_precision(frames: Sequence[FrameMasks], *, first_id: int = 1) -> dict[str, float]:
    """COCO's twelve numbers for masks of one class, in [0, 1]; NaN where no object has that size.

    Every frame has one object; predictions of equal scores count in the order of ``frames``.

    Args:
        frames: At least one.
        first_id: Number of the first frame's object. COCOeval takes an object of number 0 for one
            that no prediction matched: 0 repeats the numbers published for RefCOCO/+/g, whose
            annotations begin with 0.

    Returns:
        The numbers named in ``COCO_NUMBERS``.
    """
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    targets, predictions, images = [], [], []
    for i, frame in enumerate(frames, start=1):
        height, width = frame.target['size']
        images.append({'id': i, 'height': height, 'width': width})
        target_area = frame.target_area
        if target_area is None:
            target_area = float(coco_mask.area(frame.target))
        targets.append(_annotation(first_id + i - 1, i, frame.target, target_area))
        areas = frame.areas
        if areas is None:
            areas = [float(coco_mask.area(mask)) for mask in frame.masks]
        for mask, score, area in zip(frame.masks, frame.scores, areas, strict=True):
            number = len(predictions) + 1
            predictions.append(_annotation(number, i, mask, area) | {'score': score})
    with redirect_stdout(io.StringIO()):  # the library prints its progress
        gt, found = COCO(), COCO()
        for coco, annotations in ((gt, targets), (found, predictions)):
            coco.dataset = {
                'images': images,
                'annotations': annotations,
                'categories': [{'id': 1, 'name': 'object'}],
            }
            coco.createIndex()
        evaluation = COCOeval(gt, found, iouType='segm')
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        numbers = evaluation.stats
    # COCO says -1 where it has nothing to average.
    return {
        name: float(x) if x >= 0 else float('nan')
        for name, x in zip(COCO_NUMBERS, numbers, strict=True)
    }


def summarise_frames(
    frames: Sequence[FrameNumbers], with_ap: bool = True, with_boxes: bool = False
) -> dict[str, float]:
    """All numbers of a benchmark in [0, 1], under the names that ``ReferringMetric`` lists.

    Args:
        frames: At least one.
        with_ap: Whether to compute mAP; it needs ``masks``.
        with_boxes: Whether to compute REC; it needs ``hits`` and ``plain_hits``.
    """
    out = _average_precision([frame.masks for frame in frames]) if with_ap else {}
    ious = [frame.iou for frame in frames]
    out |= {f'P@{k}': p for k, p in zip(THRESHOLDS, precision_at_k(ious))}
    out['overall_IoU'] = overall_iou([f.inter for f in frames], [f.union for f in frames])
    out['mean_IoU'] = mean_iou(ious)
    if with_boxes:
        for name, hits in (
            ('REC_P', [frame.hits for frame in frames]),
            ('REC_IoU_P', [frame.plain_hits for frame in frames]),
        ):
            out |= {f'{name}@{k}': float(p) for k, p in zip(RANKS, np.mean(hits, axis=0))}
    return out


def _average_precision(frames: Sequence[FrameMasks]) -> dict[str, float]:
    """COCO's precisions with all queries, and mAP with the best one."""
    numbers = mask_average_precision(frames)
    alone = mask_average_precision([_best_alone(frame) for frame in frames])
    kept = {
        name: value
        for name, value in numbers.items()
        if not name.startswith('AR') and not math.isnan(value)
    }
    return kept | {'mAP_best': alone['mAP']}


def _best_alone(frame: FrameMasks) -> FrameMasks:
    if not frame.masks:
        return frame
    best = best_query(frame.scores)
    areas = frame.areas and (frame.areas[best],)
    return frame._replace(masks=(frame.masks[best],), scores=(frame.scores[best],), areas=areas)


def _annotation(number: int, image: int, mask: dict, area: float) -> dict:
    return {
        'id': number,
        'image_id': image,
        'category_id': 1,
        'segmentation': mask,
        'area': area,
        'iscrowd': 0,
    }
