"""Instance sequence matching: one query index per clip (paper section 3.4)."""

from mmengine.model import BaseModule
from torch import Tensor

from referformer.registry import MODELS
from referformer.structures import Predictions, cxcywh_to_xyxy, generalized_box_iou
from referformer.structures.targets import Targets

from .losses import class_cost, dice, sigmoid_focal


@MODELS.register_module()
class SequenceMatcher(BaseModule):
    """Choose the query whose whole sequence costs least.

    With one referred object per clip the assignment is an arg-min. All layers, clips, frames and
    queries are priced in one pass.

    Args:
        class_weight: Focal class cost, mean over the frames in which the object is visible.
        l1_weight: L1 of the boxes, mean over *all* frames (invisible ones with their zero box).
        giou_weight: Negative generalised IoU, mean over all frames.
        mask_weight: Focal cost of the masks, mean over the pixels of the clip.
        dice_weight: Negative dice coefficient of the clip.
        alpha: Of the focal costs.
        gamma: Of the focal costs.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        mask_weight: float = 2.0,
        dice_weight: float = 5.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        self.class_weight = class_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.alpha = alpha
        self.gamma = gamma

    def costs(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Total cost of every query as the referred object, (D, B, Q)."""
        logits, boxes, masks = (x.detach().float() for x in predictions)
        valid = targets.valid.float()  # (B, T)

        labels = targets.labels[None, :, None, None, None].expand(*logits.shape[:4], 1)
        frame_cost = class_cost(logits.gather(-1, labels)[..., 0].sigmoid(), self.alpha, self.gamma)
        visible = valid.sum(1).clamp(min=1)[:, None]
        cost_class = (frame_cost * valid[:, :, None]).sum(2) / visible

        target_boxes = targets.boxes[:, :, None]  # (B, T, 1, 4)
        cost_l1 = (boxes - target_boxes).abs().sum(-1).mean(2)
        giou = generalized_box_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))

        masks = masks.transpose(2, 3).flatten(3)  # (D, B, Q, P)
        truth = targets.masks.flatten(1)[:, None].float().expand_as(masks)
        cost_mask = sigmoid_focal(masks, truth, self.alpha, self.gamma).mean(-1)
        return (
            self.class_weight * cost_class
            + self.l1_weight * cost_l1
            - self.giou_weight * giou.mean(2)
            + self.mask_weight * cost_mask
            - self.dice_weight * dice(masks.sigmoid(), truth)
        )

    def forward(self, predictions: Predictions, targets: Targets) -> Tensor:
        """Index of the chosen query for each layer and clip, (D, B)."""
        return self.costs(predictions, targets).argmin(-1)
