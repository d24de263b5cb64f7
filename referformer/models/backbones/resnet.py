"""ResNet as ReferFormer uses it: mmdet's, frozen where DETR freezes it, dilated as torchvision dilates it."""

from typing import Any

from torch import nn

from referformer.registry import MODELS


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
            '`bash tools/setup/install_mmcv.sh` installs mmcv with its ops, and mmdet. '
            'The Swin backbones need neither.'
        ) from error

    if dilation:
        options.update(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    backbone = ResNet(
        depth=depth,
        frozen_stages=frozen_stages,
        norm_cfg={'type': 'BN', 'requires_grad': False},
        norm_eval=True,
        style='pytorch',
        with_cp=with_cp,
        init_cfg=init_cfg,
        **options,
    )
    if dilation:
        # torchvision, and so the published models, dilate from the second block of the stage on.
        first = backbone.layer4[0].conv2
        first.dilation = first.padding = (1, 1)
    return backbone
