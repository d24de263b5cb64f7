"""Focal, dice, L1 and GIoU losses, and the pairwise forms the matcher uses.

The loss modules reduce everything but the leading layer axis D; the criterion divides by the
number of boxes.
Letters: D layers, B clips, T frames, Q queries, P pixels (t h w).
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from referformer.registry import MODELS
from referformer.structures import cxcywh_to_xyxy, generalized_box_iou

_EPS = 1e-8


def sigmoid_focal(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss element by element (Lin et al. 2017); ``targets`` in {0, 1}, same shape."""
    prob = logits.sigmoid()
    ce = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    miss = prob + targets - 2 * prob * targets  # 1 - p_t
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * ce * miss**gamma


def dice(prob: Tensor, targets: Tensor) -> Tensor:
    """Dice coefficient over the last axis with +1 smoothing, (..., P) -> (...)."""
    inter = (prob * targets).sum(-1)
    return (2 * inter + 1) / (prob.sum(-1) + targets.sum(-1) + 1)


def class_cost(prob: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal cost of calling a probability positive rather than negative, element by element."""
    positive = alpha * (1 - prob) ** gamma * -(prob + _EPS).log()
    negative = (1 - alpha) * prob**gamma * -(1 - prob + _EPS).log()
    return positive - negative


class _WeightedLoss(BaseModule):
    """A loss with a weight.

    Args:
        weight: What the criterion multiplies the loss with.
    """

    def __init__(self, weight: float = 1.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.weight = weight


@MODELS.register_module()
class FocalLoss(BaseModule):
    """Sigmoid focal loss.

    Args:
        weight: What the criterion multiplies the loss with.
        alpha: Weight of the positive side.
        gamma: Focusing exponent.
    """

    def __init__(
        self,
        weight: float = 1.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.weight = weight
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of every element, unreduced; shapes equal."""
        return sigmoid_focal(logits, targets, self.alpha, self.gamma)


@MODELS.register_module()
class DiceLoss(_WeightedLoss):
    """1 - dice coefficient with +1 smoothing."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(D, B, P) and (B, P) -> (D, B)."""
        return 1 - dice(logits.sigmoid(), targets)


@MODELS.register_module()
class BoxL1Loss(_WeightedLoss):
    """Sum of the absolute differences of cxcywh boxes in [0, 1]."""

    def forward(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """(D, B, T, 4) and (B, T, 4) -> (D, B, T)."""
        return (boxes - targets).abs().sum(-1)


@MODELS.register_module()
class BoxGIoULoss(_WeightedLoss):
    """1 - generalised IoU of cxcywh boxes."""

    def forward(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """(D, B, T, 4) and (B, T, 4) -> (D, B, T)."""
        return 1 - generalized_box_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(targets))
