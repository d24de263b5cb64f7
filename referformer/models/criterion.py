"""The loss of every decoder layer (paper section 3.4, equation 4).

Letters: D layers, B clips, T frames, Q queries, K classes.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from referformer.registry import MODELS, build
from referformer.structures import Predictions
from referformer.structures.targets import Targets


@MODELS.register_module()
class ReferFormerCriterion(BaseModule):
    """Match once per layer, then class, box and mask losses of the matched queries.

    All losses are divided by the number of visible frames in the batch (mean over processes, at
    least 1). Where no frame of a clip shows the object (``absent_kinds`` of the datasets) no query
    is positive, the mask should be empty, and boxes do not count.

    Args:
        matcher: Module or config.
        loss_cls: Focal loss on all queries; the matched one is positive where the object is
            visible.
        loss_bbox: L1, all frames of the matched query.
        loss_giou: Generalised IoU, all frames of the matched query.
        loss_mask: Focal loss, mean over the pixels of the clip.
        loss_dice: Dice loss over the clip.
        mask_stride: At which masks are compared: 4, as predicted, or 1 or 2 with predictions
            enlarged, which teaches the borders of objects of a few pixels at stride 4.
        visible_boxes: Box losses of the frames in which the object is visible only. In the paper
            those of all frames of the clip count, with a point in the corner for what is hidden.
    """

    def __init__(
        self,
        matcher: dict | BaseModule,
        loss_cls: dict | BaseModule,
        loss_bbox: dict | BaseModule,
        loss_giou: dict | BaseModule,
        loss_mask: dict | BaseModule,
        loss_dice: dict | BaseModule,
        mask_stride: int = 4,
        visible_boxes: bool = False,
    ) -> None:
        super().__init__()
        if mask_stride not in (1, 2, 4):
            raise ValueError(f'mask_stride must be 1, 2 or 4, not {mask_stride}')
        self.mask_stride = mask_stride
        self.visible_boxes = visible_boxes
        self.matcher = build(matcher)
        self.loss_cls = build(loss_cls)
        self.loss_bbox = build(loss_bbox)
        self.loss_giou = build(loss_giou)
        self.loss_mask = build(loss_mask)
        self.loss_dice = build(loss_dice)

    def forward(self, predictions: Predictions, targets: Targets) -> dict[str, Tensor]:
        """Weighted losses: ``loss_cls`` ... of the last layer, ``d0.loss_cls`` ... before it."""
        predictions = Predictions(*(x.float() for x in predictions))
        if self.mask_stride < 4:
            predictions = predictions._replace(masks=self._enlarge(predictions.masks))
        K = predictions.logits.shape[-1]
        if K == 1:  # referred or not, whatever the category
            targets = targets._replace(labels=torch.zeros_like(targets.labels))
        elif not ((targets.labels >= 0) & (targets.labels < K)).all():
            raise ValueError(
                f'the labels of a batch are {targets.labels.tolist()} (-1: of no known category), '
                f'but the model has {K} classes. Set model.num_classes=1, which needs none, or '
                "classes='meta' in the dataset and num_classes to their number."
            )
        query = self.matcher(predictions, targets)  # (D, B)
        num_boxes = targets.valid.sum().float()
        if get_world_size() > 1:
            all_reduce(num_boxes)
        num_boxes = (num_boxes / get_world_size()).clamp(min=1)

        losses = {}
        for name, value in self._layer_losses(predictions, targets, query).items():
            value = value * (getattr(self, name).weight / num_boxes)
            losses[name] = value[-1]
            for layer in range(len(value) - 1):
                losses[f'd{layer}.{name}'] = value[layer]
        return losses

    def _enlarge(self, masks: Tensor) -> Tensor:
        """Bilinear, as in prediction: (D, B, T, Q, h, w) -> the same at ``mask_stride``."""
        big = F.interpolate(
            masks.flatten(0, 2),
            scale_factor=4 // self.mask_stride,
            mode='bilinear',
            align_corners=False,
        )
        return big.unflatten(0, masks.shape[:3])

    def _layer_losses(
        self, predictions: Predictions, targets: Targets, query: Tensor
    ) -> dict[str, Tensor]:
        """Unweighted sums of each layer, name -> (D,)."""
        D, B, T, Q, K = predictions.logits.shape
        chosen = query[:, :, None].expand(D, B, T)  # the same query in all frames

        # The target is 1 for the matched query, in its class, where the object is visible.
        queries = F.one_hot(chosen, Q) * targets.valid[None, :, :, None]
        classes = F.one_hot(targets.labels, K)[None, :, None, None]
        positive = (queries[..., None] * classes).to(predictions.logits)
        loss_cls = self.loss_cls(predictions.logits, positive).flatten(1).sum(1)

        boxes = predictions.boxes.gather(3, chosen[..., None, None].expand(-1, -1, -1, 1, 4))
        boxes = boxes[:, :, :, 0]
        layer, clip = torch.meshgrid(
            torch.arange(D, device=query.device),
            torch.arange(B, device=query.device),
            indexing='ij',
        )
        masks = predictions.masks[layer, clip, :, query].flatten(2)  # (D, B, T*h*w)
        truth = targets.masks.flatten(1).float()
        counted = targets.valid if self.visible_boxes else targets.valid.any(1, keepdim=True)
        loss_bbox = self.loss_bbox(boxes, targets.boxes) * counted
        loss_giou = self.loss_giou(boxes, targets.boxes) * counted
        return {
            'loss_cls': loss_cls,
            'loss_bbox': loss_bbox.flatten(1).sum(1),
            'loss_giou': loss_giou.flatten(1).sum(1),
            'loss_mask': self.loss_mask(masks, truth.expand_as(masks)).mean(-1).sum(1),
            'loss_dice': self.loss_dice(masks, truth).sum(1),
        }
