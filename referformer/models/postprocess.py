"""From mask logits at stride 4 to masks of the original size; the benchmarks differ here."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels brought to the original size at once.
_CHUNK = 2**25


def masks_at_original_size(
    logits: Tensor,
    img_size: tuple[int, int],
    ori_size: tuple[int, int],
    resize: str = 'logits',
    threshold: float = 0.5,
) -> Tensor:
    """Upsample and threshold.

    Args:
        logits: (k, T, h, w) at stride 4.
        img_size: (h, w) of the unpadded input.
        ori_size: (H0, W0) to reach.
        resize: 'logits': bilinear straight to ``ori_size``, then the threshold (Ref-YouTube-VOS, Ref-DAVIS17);
            'masks': x4 bilinear, threshold, cut to ``img_size``, nearest to ``ori_size`` (A2D, JHMDB, COCO).
        threshold: Of the probability, exclusive.

    Returns:
        Bool masks (k, T, H0, W0).
    """
    if resize not in ('logits', 'masks'):
        raise ValueError(f"resize must be 'logits' or 'masks', not {resize!r}")
    k, T, h, w = logits.shape
    chunk = max(1, _CHUNK // max(1, ori_size[0] * ori_size[1]))
    masks = []
    for part in logits.flatten(0, 1)[:, None].float().split(chunk):
        if resize == 'logits':
            big = F.interpolate(part, ori_size, mode='bilinear', align_corners=False)
            masks.append(big.sigmoid() > threshold)
        else:
            big = F.interpolate(part, (h * 4, w * 4), mode='bilinear', align_corners=False)
            small = (big.sigmoid() > threshold)[..., : img_size[0], : img_size[1]]
            masks.append(F.interpolate(small.float(), ori_size).bool())
    return torch.cat(masks).view(k, T, *ori_size)
