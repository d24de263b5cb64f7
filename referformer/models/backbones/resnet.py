"""ResNet as ReferFormer uses it: mmdet's, frozen as in DETR, dilated as in torchvision."""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

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


class FoldedInference:
    """Lets a ResNet fold its frozen norms into the convolutions, channels last, without gradients.

    To be mixed in before the ResNet. The same numbers but for rounding, from a copy that is made at
    the first use, and anew where weights have changed.
    """

    _folded: tuple[tuple, nn.Module] | None = None

    def train(self, mode: bool = True) -> nn.Module:
        """Weights may change behind a tensor's back while training."""
        self._folded = None
        super().train(mode)  # mmdet's returns nothing
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(n, 3, H, W) -> four maps."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(x)
        weights = tuple((w.data_ptr(), w._version) for w in self.state_dict().values())
        if self._folded is None or self._folded[0] != weights:
            self._folded = None
            self._folded = weights, fold_norms(deepcopy(self))
        x = x.contiguous(memory_format=torch.channels_last)
        return super(FoldedInference, self._folded[1]).forward(x)


def fold_norms(module: nn.Module) -> nn.Module:
    """Fold every frozen norm that follows a convolution into it, in place; channels last."""
    for parent in module.modules():
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                statistics = (norm.running_mean, norm.running_var, norm.eps)
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, *statistics, norm.weight, norm.bias
                )
                setattr(parent, name, nn.Identity())
    return module.to(memory_format=torch.channels_last)


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
    backbone = type('FrozenResNet', (FoldedInference, ResNet), {})(
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
