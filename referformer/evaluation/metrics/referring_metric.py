"""Scores of referring segmentation in single frames: A2D- and JHMDB-Sentences, RefCOCO/+/g."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from mmengine.logging import MMLogger

from referformer.registry import METRICS
from referformer.structures import cxcywh_to_xyxy

from ..measures.referring import (
    FrameMasks,
    best_query,
    box_hits,
    encode_masks,
    mask_iou,
    summarise_frames,
)
from .collect import KeyedMetric, instance_masks

# IoUs of one frame computed twice differ by a few pixels at most.
_SAME_SCORE = 0.01


@dataclass(frozen=True)
class FrameScore:
    """What is kept of one expression in one annotated frame."""

    video_id: str
    exp_id: str
    frame: str
    # Of the best query's mask; intersection and union in pixels.
    iou: float
    inter: int
    union: int
    masks: FrameMasks | None = None
    # Whether one of the 1, 5, 10 best boxes finds the object, by generalised and by plain IoU.
    hits: tuple[bool, ...] = ()
    plain_hits: tuple[bool, ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells results apart: (video_id, exp_id, frame)."""
        return self.video_id, self.exp_id, self.frame

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f'Frame {self.frame} for expression {self.exp_id} of video {self.video_id}'

    def difference(self, other: 'FrameScore') -> str:
        """How another result of the same frame contradicts this one, empty where it agrees."""
        if abs(self.iou - other.iou) <= _SAME_SCORE:
            return ''
        return f'IoU {self.iou:.4f} and {other.iou:.4f}'


@METRICS.register_module()
class ReferringMetric(KeyedMetric):
    """mAP, P@K, overall and mean IoU of masks in annotated frames, and REC of boxes, in percent.

    Every annotated frame of an expression counts as one image with one object. A frame scored more
    than once (padding of the distributed sampler) counts once; what the dataset's metainfo lists in
    ``expected`` must have been scored, else the evaluation ends with a ``ValueError``. Of the masks
    only run lengths are kept, and only for mAP.

    Keys:
        ``mAP``, ``AP50``, ``AP75``, ``mAP_small``, ``mAP_medium``, ``mAP_large``: COCO's, with all
            queries that the model returns, as published; without the sizes that do not occur.
        ``mAP_best``: mAP with the best query only.
        ``P@0.5`` ... ``P@0.9``, ``overall_IoU``, ``mean_IoU``: of the best query's mask.
        ``REC_P@1``, ``REC_P@5``, ``REC_P@10``: expressions of which one of the 1, 5, 10 best boxes
            has a generalised IoU of at least 0.5 with the object's, as published.
        ``REC_IoU_P@1``, ...: the same by plain IoU.

    Args:
        with_ap: Whether to compute mAP. It needs pycocotools and keeps the masks' run lengths.
        with_boxes: Whether to score boxes as well (REC).
        kwargs: ``collect_device``, ``prefix``, ``collect_dir`` of ``BaseMetric``.
    """

    default_prefix = ''

    def __init__(self, with_ap: bool = True, with_boxes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.with_ap = with_ap
        self.with_boxes = with_boxes
        if with_ap and find_spec('pycocotools') is None:
            raise ValueError(
                'mAP needs pycocotools, which is not installed: pip install pycocotools, or leave '
                'mAP out with ReferringMetric(with_ap=False).'
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each sample to one ``FrameScore`` for every annotated frame.

        Args:
            data_batch: Not used.
            data_samples: ``RVOSDataSample.to_dict()`` of every sample, with ``video_id``,
                ``exp_id``, ``frame_names`` (of the T' annotated frames),
                ``pred_instances``: ``scores`` (k,), ``masks`` (k, T', H0, W0),
                ``gt_instances``: ``masks`` (N, T', H0, W0), of which the union is the target.
                For boxes also ``ori_shape`` (H0, W0), ``pred_instances.boxes`` (k, T', 4), xyxy
                pixels, and ``gt_instances.boxes`` (1, T', 4), cxcywh in [0, 1] of the frame.
        """
        for sample in data_samples:
            self.results.extend(self._score(sample))

    def compute_metrics(self, results: list[FrameScore]) -> dict[str, float]:
        """Average the scores and log the table."""
        frames = self.unique(results)
        out = summarise_frames(frames, self.with_ap, self.with_boxes)
        out = {name: 100 * value for name, value in out.items()}
        lines = [f'{name:12} {value:7.2f}' for name, value in out.items()]
        title = f'Scores in percent, {len(frames)} annotated frames of expressions'
        MMLogger.get_current_instance().info('\n'.join([title, *lines]))
        return out

    def _score(self, sample: dict) -> list[FrameScore]:
        ids = str(sample['video_id']), str(sample['exp_id'])
        name = f'expression {ids[1]} of video {ids[0]}'
        gt = instance_masks(sample, 'gt_instances')
        pred = instance_masks(sample, 'pred_instances')
        if gt is None or len(gt) == 0:
            raise ValueError(f'{name} has no annotated masks, so it cannot be scored here.')
        if pred is None or len(pred) == 0:
            raise ValueError(f'{name} has no predicted masks, pred_instances.masks (k, T, H, W).')
        gt = gt.any(0)
        if pred.shape[1:] != gt.shape:
            raise ValueError(
                f'{name} has predicted masks of shape {pred.shape[1:]}, annotated ones of '
                f'{gt.shape}; both must be (T, H, W) at the original size.'
            )
        scores = _array(sample['pred_instances']['scores'])
        names = [str(frame) for frame in sample['frame_names']]
        if scores.shape != pred.shape[:1] or len(names) != len(gt):
            raise ValueError(
                f'{name} has {len(pred)} masks in {len(gt)} frames, but scores of shape '
                f'{scores.shape} and {len(names)} frame names; there must be a score for every '
                'mask and a name for every annotated frame.'
            )
        best = mask_iou(pred[best_query(scores)], gt)
        hits = self._box_hits(sample, scores, name) if self.with_boxes else [{}] * len(gt)
        return [
            FrameScore(
                *ids,
                frame,
                iou=float(best.iou[t]),
                inter=int(best.inter[t]),
                union=int(best.union[t]),
                masks=_frame_masks(pred[:, t], gt[t], scores) if self.with_ap else None,
                **hits[t],
            )
            for t, frame in enumerate(names)
        ]

    @staticmethod
    def _box_hits(sample: dict, scores: np.ndarray, name: str) -> list[dict]:
        """``hits`` and ``plain_hits`` of every annotated frame."""
        pred = sample['pred_instances'].get('boxes')
        gt = sample['gt_instances'].get('boxes')
        if pred is None or gt is None or len(gt) != 1:
            raise ValueError(
                f'{name} needs pred_instances.boxes and gt_instances.boxes of one object to score '
                'boxes; leave them out with ReferringMetric(with_boxes=False).'
            )
        height, width = sample['ori_shape'][:2]
        targets = _array(cxcywh_to_xyxy(gt[0].double())) * [width, height, width, height]
        found = _array(pred)
        return [
            {
                'hits': box_hits(scores, found[:, t], target),
                'plain_hits': box_hits(scores, found[:, t], target, generalized=False),
            }
            for t, target in enumerate(targets)
        ]


def _array(values: Any) -> np.ndarray:
    """A tensor of any device, or anything like an array, as float64."""
    return np.asarray(values.cpu() if hasattr(values, 'cpu') else values, dtype=float)


def _frame_masks(pred: np.ndarray, gt: np.ndarray, scores: np.ndarray) -> FrameMasks:
    """Run lengths of one frame: predictions (k, H, W), target (H, W), scores (k,)."""
    target, *masks = encode_masks(np.concatenate([gt[None], pred]))
    return FrameMasks(target, tuple(masks), tuple(scores.tolist()))
