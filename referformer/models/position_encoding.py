"""Sine encodings of position: 2-D for pixels, 1-D for words (paper section 3.2; DETR, appendix
A.4).

Letters: C channels, L words.
"""

import math

import torch
from torch import Tensor

from .tracing import cached_tensor

_EPS = 1e-6
_TEMPERATURE = 10000.0


def _interleave(position: Tensor, num_feats: int) -> Tensor:
    """Encode angles as (sin, cos, sin, cos, ...), (...) -> (..., num_feats)."""
    index = torch.arange(num_feats, dtype=torch.float32, device=position.device)
    period = _TEMPERATURE ** (2 * torch.div(index, 2, rounding_mode='floor') / num_feats)
    angles = position[..., None] / period
    return torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), -1).flatten(-2)


def _angle(count: Tensor, last: Tensor | float) -> Tensor:
    # The order of these float32 operations matters: in fully padded rows `last` is 0 and the angle
    # about -3e6, whose sine changes with the last bit.
    return (count - 0.5) / (last + _EPS) * (2 * math.pi)


@cached_tensor(16)
def _unpadded_2d(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    rows = torch.arange(1, height + 1, dtype=torch.float32, device=device)
    columns = torch.arange(1, width + 1, dtype=torch.float32, device=device)
    y = _interleave(_angle(rows, rows[-1]), channels // 2)
    x = _interleave(_angle(columns, columns[-1]), channels // 2)
    y = y.t()[:, :, None].expand(-1, -1, width)
    x = x.t()[:, None, :].expand(-1, height, -1)
    return torch.cat((y, x))[None].contiguous()


def sine_encoding_2d(
    size: tuple[int, int],
    channels: int,
    device: torch.device,
    padding_mask: Tensor | None = None,
) -> Tensor:
    """Encode pixel positions, normalised to 2 pi over the unpadded area; y before x.

    Args:
        size: (h, w) of the map.
        channels: C, half of it for each axis.
        device: Where the encoding is needed.
        padding_mask: (B, h, w), True = padded; None if nothing is padded.

    Returns:
        (B, C, h, w); (1, C, h, w) without a mask, the same tensor every time: do not write into it.
    """
    if padding_mask is None:
        return _unpadded_2d(*size, channels, torch.device(device))
    seen = (~padding_mask).float()
    rows, columns = seen.cumsum(1), seen.cumsum(2)
    y = _interleave(_angle(rows, rows[:, -1:]), channels // 2)
    x = _interleave(_angle(columns, columns[:, :, -1:]), channels // 2)
    return torch.cat((y, x), -1).permute(0, 3, 1, 2)


def sine_encoding_1d(padding_mask: Tensor, channels: int) -> Tensor:
    """Encode word positions, 2 pi at the last word; (B, L), True = padded -> (B, L, C)."""
    count = (~padding_mask).float().cumsum(1)
    return _interleave(count / (count[:, -1:] + _EPS) * (2 * math.pi), channels)
