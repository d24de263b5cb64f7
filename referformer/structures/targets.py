"""Ground truth of a batch, stacked."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .data_sample import RVOSDataSample


class Targets(NamedTuple):
    """The referred object of each of B clips in T' annotated frames."""

    labels: Tensor  # (B,)
    boxes: Tensor  # (B, T', 4), cxcywh in [0, 1] of the unpadded frame
    masks: Tensor  # (B, T', h, w) bool, every ``mask_stride``-th pixel of the padded input
    valid: Tensor  # (B, T') bool, True = visible


def stack_targets(
    samples: Sequence[RVOSDataSample], size: tuple[int, int], mask_stride: int = 4
) -> Targets:
    """Stack the ground truth of a batch.

    Args:
        samples: With ``gt_instances`` of one object each.
        size: (H, W) of the padded input; masks are padded with background.
        mask_stride: n; masks are sampled ``[n // 2 :: n]``.

    Raises:
        ValueError: A sample does not have exactly one referred object, or lacks masks of its
        input's size.
    """
    sampled = slice(mask_stride // 2, None, mask_stride)
    labels, boxes, masks, valid = [], [], [], []
    for sample in samples:
        gt = sample.gt_instances
        name = f'{sample.get("video_id")}/{sample.get("exp_id")}'
        if len(gt) != 1:
            raise ValueError(
                f'{name}: {len(gt)} referred objects; training needs exactly one per clip'
            )
        mask = gt.masks[0]
        h, w = mask.shape[-2:]
        if h > size[0] or w > size[1]:
            raise ValueError(
                f'{name}: masks of {h}x{w} are larger than the input, {size[0]}x{size[1]}'
            )
        labels.append(gt.labels[0])
        boxes.append(gt.boxes[0])
        valid.append(gt.valid[0])
        masks.append(F.pad(mask, (0, size[1] - w, 0, size[0] - h))[..., sampled, sampled])
    return Targets(
        torch.stack(labels), torch.stack(boxes), torch.stack(masks), torch.stack(valid).bool()
    )
