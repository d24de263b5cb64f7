"""Box formats and overlaps: the only copy.

Formats: ``cxcywh`` (centre and size, in [0, 1] of the unpadded frame inside the model) and ``xyxy``
(corners; pixels outside the model).
"""

import torch
from torch import Tensor

# The reference keeps ratios finite with this term, in numerator and denominator alike.
_EPS = 1e-6


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to corners, (..., 4)."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h), -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners to centre and size, (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), -1)


def box_area(boxes: Tensor) -> Tensor:
    """Area of xyxy boxes, (..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and union of xyxy boxes, element by element with broadcasting, (..., 4) -> (...)."""
    top_left = torch.max(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.min(boxes1[..., 2:], boxes2[..., 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(-1)
    union = box_area(boxes1) + box_area(boxes2) - inter
    return (inter + _EPS) / (union + _EPS), union


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of xyxy boxes, broadcast, (..., 4) -> (...)."""
    iou, union = box_iou(boxes1, boxes2)
    top_left = torch.min(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.max(boxes1[..., 2:], boxes2[..., 2:])
    hull = (bottom_right - top_left).clamp(min=0).prod(-1)
    return iou - ((hull - union) + _EPS) / (hull + _EPS)
