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
        ValueError: A sample does not have exactly one referred object, or its masks do not fit: see
            :func:`sample_masks`.
    """
    labels, boxes, masks, valid = [], [], [], []
    for sample in samples:
        gt = sample.gt_instances
        if len(gt) != 1:
            raise ValueError(
                f'{_name(sample)}: {len(gt)} referred objects; training needs exactly one per clip'
            )
        labels.append(gt.labels[0])
        boxes.append(gt.boxes[0])
        valid.append(gt.valid[0])
        masks.append(sample_masks(sample, size, mask_stride)[0])
    return Targets(
        torch.stack(labels), torch.stack(boxes), torch.stack(masks), torch.stack(valid).bool()
    )


def sample_masks(sample: RVOSDataSample, size: tuple[int, int], stride: int) -> Tensor:
    """The masks of all N objects of a clip, padded with background and sampled.

    Args:
        sample: With ``gt_instances.masks`` (N, T', H', W').
        size: (H, W) of the padded input, multiples of 4, as maps have stride 4.
        stride: n, a divisor of 4; masks are sampled ``[n // 2 :: n]``.

    Returns:
        (N, T', H / n, W / n).

    Raises:
        ValueError: Masks are larger than the input, or the input is no multiple of 4.
    """
    height, width = size
    masks = sample.gt_instances.masks
    h, w = masks.shape[-2:]
    if h > height or w > width:
        raise ValueError(
            f'{_name(sample)}: masks of {h}x{w} are larger than the input, {height}x{width}; '
            'the pipeline of a training resizes both (resize_masks=True)'
        )
    if height % 4 or width % 4:
        raise ValueError(
            f'an input of {height}x{width} does not fit maps of stride 4: '
            'data_preprocessor.train_divisor must be a multiple of 4'
        )
    sampled = slice(stride // 2, None, stride)
    return F.pad(masks, (0, width - w, 0, height - h))[..., sampled, sampled]


def _name(sample: RVOSDataSample) -> str:
    return f'{sample.get("video_id")}/{sample.get("exp_id")}'
