"""ResNet as ReferFormer uses it: mmdet's, frozen as in DETR, dilated as in torchvision."""

from typing import Any

import torch
from torch import Tensor, nn

from referformer.files import mmcv_command
from referformer.registry import MODELS


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics, scale and shift are fixed; it has no parameters.

    ``x * scale + shift``, rounded after each step as in the published models: near the kink of a
    ReLU the last bit decides whether a gradient passes.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer('weight', torch.ones(num_features))
        self.register_buffer('bias', torch.zeros(num_features))
        self.register_buffer('running_mean', torch.zeros(num_features))
        self.register_buffer('running_var', torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        state_dict.pop(f'{prefix}num_batches_tracked', None)  # of a batch norm that was trained
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module('ResNet')
def build_resnet(
    depth: int = 50,
    dilation: bool = False,
    frozen_stages: int = 1,
    with_cp: bool = False,
    init_cfg: dict | None = None,
    **options: Any,
) -> nn.Module:
    """Build ``mmdet.ResNet``, four maps, strides 4 to 32, every batch norm frozen.

    Args:
        depth: 50, 101 or 152.
        dilation: DC5: the last stage keeps stride 16 and dilates its 3x3 convolutions instead.
        frozen_stages: The stem and this many stages are not trained.
        with_cp: Recompute blocks in the backward pass to save memory.
        init_cfg: Where ``init_weights()`` gets the weights from; torchvision's names fit.
        options: Further arguments of ``mmdet.ResNet``.

    Raises:
        ModuleNotFoundError: mmdet, or mmcv with compiled ops, is missing.
        ValueError: ``depth`` is not one with bottleneck blocks.
    """
    if depth not in (50, 101, 152):
        raise ValueError(f'ResNet depth must be 50, 101 or 152, not {depth}')
    try:
        from mmdet.models.backbones import ResNet
    except ImportError as error:
        raise ModuleNotFoundError(
            f'ResNet comes from mmdet, which cannot be imported here ({error}). '
            f'`{mmcv_command()}` installs mmcv with its ops, and mmdet. '
            'The Swin backbones need neither.'
        ) from error

    if dilation:
        options.update(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    backbone = ResNet(
        depth=depth,
        frozen_stages=frozen_stages,
        norm_cfg={'type': FrozenBatchNorm2d},
        style='pytorch',
        zero_init_residual=False,  # frozen norms could never leave zero
        with_cp=with_cp,
        init_cfg=init_cfg,
        **options,
    )
    if dilation:
        # torchvision, and so the published models, dilate from the second block of the stage on.
        first = backbone.layer4[0].conv2
        first.dilation = first.padding = (1, 1)
    return backbone
