"""Backbones of ``transformers`` by name: pyramids as they are, plain ViTs with a simple pyramid."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS

from ..pretrained import architecture, make_config, read_weights, words_of

_STRIDES = (4, 8, 16, 32)
_PLAIN_STRIDE = 16


@MODELS.register_module()
class TransformersBackbone(BaseModule):
    """A backbone that ``AutoBackbone`` of ``transformers`` knows; four maps, strides 4 to 32.

    Swin, ConvNeXt, PVT and other networks with four stages give their own maps. Of a plain ViT
    (DINOv2, DINOv3, BEiT, ViTDet) the last map is scaled to the four strides as in ViTDet (Li et
    al. 2022, section 3); its patches are made to cover 16x16 pixels, by scaling the frames where
    they are of another size. Frames of any size fit: they are padded to a multiple of 32 with
    zeros, and maps of a frame of H x W are ceil(H/stride) x ceil(W/stride).

    Args:
        name: Name on the Hub, or folder, of architecture and weights.
        model: The architecture without any download, in place of ``name``: arguments of
            ``transformers``' config class, which ``model_type`` (default 'swin') names.
        pretrained: Name or folder of the weights that ``init_weights()`` reads; True: those of
            ``name``; None: start from scratch. Checkpoints of other frameworks: ``init_cfg``.
        frozen: The network gets no gradients (the pyramid of a plain ViT does).
        with_cp: Recompute blocks in the backward pass to save memory.

    Raises:
        ValueError: Neither ``name`` nor ``model`` is given, or both, or the network has no such
            maps.
        OSError: ``name`` cannot be read or fetched.
    """

    def __init__(
        self,
        name: str | None = None,
        model: dict[str, Any] | None = None,
        pretrained: str | bool | None = True,
        frozen: bool = False,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.network = _build(make_config(name, model, 'swin', 'backbone'))
        self.pretrained = name if pretrained is True else pretrained or None
        self.patch, self.pyramid = None, None
        kind = self.network.config.model_type
        try:
            maps = self._maps(torch.zeros(1, 3, 128, 128))
        except RuntimeError as error:
            raise ValueError(f'{kind} does not take frames of any size: {error}') from error
        # What no map depends on (mask tokens): distributed training asks for all gradients.
        sum(x.sum() for x in maps).backward()
        for parameter in self.network.parameters():
            parameter.requires_grad_(parameter.grad is not None and not frozen)
            parameter.grad = None
        channels = [x.shape[1] for x in maps]
        strides = [round(128 / x.shape[-1]) for x in maps]
        patch = getattr(self.network.config, 'patch_size', None)
        patch = patch[0] if isinstance(patch, (list, tuple)) else patch
        if {*strides} == {patch}:
            self.patch = patch
            self.pyramid = _pyramid(channels[-1])
            channels = [channels[-1] // factor for factor in (4, 2, 1, 1)]
        elif tuple(strides) != _STRIDES:
            raise ValueError(
                f'this {kind} is no backbone: it needs four stages of strides 4, 8, 16 and 32, or '
                f'stages that all have the stride of its patches ({patch}); found {strides}'
            )
        self.out_channels = channels
        if with_cp:
            self.network.gradient_checkpointing_enable()

    @property
    def architecture(self) -> dict[str, Any]:
        """What to give as ``model`` in place of ``name``, for a config that needs no download."""
        return architecture(self.network.config)

    def init_weights(self) -> None:
        """Read the pretrained network.

        Raises:
            OSError: ``pretrained`` cannot be read or fetched.
            ValueError: It holds another architecture.
        """
        super().init_weights()
        if self.pretrained is not None:
            read = partial(type(self.network).from_pretrained, config=self.network.config)
            read_weights(self.network, read, self.pretrained, 'backbone')

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B*T, 3, H, W) -> four maps (B*T, C_l, ceil(H/stride), ceil(W/stride))."""
        H, W = x.shape[-2:]
        maps = self._maps(F.pad(x, (0, -W % _STRIDES[-1], 0, -H % _STRIDES[-1])))
        if self.pyramid is not None:
            maps = [scale(maps[-1]) for scale in self.pyramid]
        return [m[..., : -(-H // s), : -(-W // s)].contiguous() for m, s in zip(maps, _STRIDES)]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """The network's own maps of frames whose size is a multiple of 32."""
        if self.patch not in (None, _PLAIN_STRIDE):
            size = [n // _PLAIN_STRIDE * self.patch for n in x.shape[-2:]]
            x = F.interpolate(x, size, mode='bilinear', align_corners=False)
        return list(self.network(x).feature_maps)


def _build(config: Any) -> nn.Module:
    """The network with the maps of its four stages, or with the last map of a plain ViT."""
    from transformers import AutoBackbone

    stages = [stage for stage in getattr(config, 'stage_names', None) or [] if stage != 'stem']
    wanted = stages if len(stages) == len(_STRIDES) else stages[-1:]
    options = {**config.to_dict(), 'out_features': wanted, 'out_indices': None}
    config = type(config).from_dict(options)
    with words_of('the backbone', config.model_type, 'It must be one that AutoBackbone knows.'):
        return AutoBackbone.from_config(config, dtype=torch.float32).eval()


def _pyramid(channels: int) -> nn.ModuleList:
    """A map of stride 16 to strides 4, 8, 16 and 32."""
    C = channels

    def double(wide: int, narrow: int) -> nn.Module:
        return nn.ConvTranspose2d(wide, narrow, 2, stride=2)

    up4 = nn.Sequential(
        double(C, C // 2), nn.GroupNorm(1, C // 2), nn.GELU(), double(C // 2, C // 4)
    )
    return nn.ModuleList([up4, double(C, C // 2), nn.Identity(), nn.MaxPool2d(2)])
