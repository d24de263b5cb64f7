"""The cross-modal feature pyramid network (paper section 3.3).

Letters: B clips, T frames, C channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from referformer.registry import MODELS

from .frame_chunks import by_frames
from .vision_language import VisionLanguageBlock, WordTokens


class FPNStage(nn.Module):
    """One level: 1x1 convolution, vision-language block, addition of the coarser level, 3x3."""

    def __init__(
        self, in_channels: int, embed_dim: int, num_groups: int, **block: int | float
    ) -> None:
        super().__init__()
        self.lateral = nn.Sequential(
            nn.Conv2d(in_channels, embed_dim, 1, bias=False), nn.GroupNorm(num_groups, embed_dim)
        )
        self.block = VisionLanguageBlock(embed_dim, **block)
        self.output = nn.Sequential(
            nn.Conv2d(embed_dim, embed_dim, 3, padding=1, bias=False),
            nn.GroupNorm(num_groups, embed_dim),
            nn.ReLU(inplace=True),
        )

    def forward(
        self,
        maps: Tensor,
        coarser: Tensor | None,
        pos: Tensor,
        padding_mask: Tensor | None,
        text: WordTokens,
    ) -> Tensor:
        """(B*T, C_l, h, w) and the coarser stage's output -> (B*T, C, h, w)."""
        B = len(text.words)
        T = len(maps) // B
        x = by_frames(self.lateral, maps)
        mixed = self.block.mix_frames(x, pos, padding_mask, B)
        if len(pos) > 1:
            pos = pos.repeat_interleave(T, 0)
        return by_frames(self._finish, x, mixed, coarser, pos, *text.repeat_frames(T), out=x)

    def _finish(
        self, x: Tensor, mixed: Tensor, coarser: Tensor | None, pos: Tensor, *text: Tensor | None
    ) -> Tensor:
        x = self.block(x, mixed, pos, WordTokens(*text))
        if coarser is not None:
            x = x + F.interpolate(coarser, x.shape[-2:])  # nearest
        return self.output(x)


@MODELS.register_module()
class CrossModalFPN(BaseModule):
    """Top-down pathway in which all frames of a clip and the words meet at every level.

    Its last, linear convolution stands at the entrance of ``DynamicMaskHead``, which can fold it
    with the dynamic kernels.

    Args:
        in_channels: Channels of the stride-4 backbone map; the other three maps are memory,
            ``embed_dim``.
        embed_dim: C.
        num_heads: Attention heads.
        feedforward_dim: Width of the feed-forwards.
        dropout: Dropout everywhere.
        shrinks: By how much the self-attention's grid is shrunk, strides 4, 8, 16, 32.
        num_groups: Groups of the GroupNorms.
        with_cp: Recompute the stages in the backward pass to save memory.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int = 256,
        num_heads: int = 8,
        feedforward_dim: int = 2048,
        dropout: float = 0.1,
        shrinks: Sequence[int] = (8, 4, 2, 1),
        num_groups: int = 8,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.with_cp = with_cp
        channels = [in_channels, *[embed_dim] * (len(shrinks) - 1)]
        self.stages = nn.ModuleList(
            FPNStage(
                c,
                embed_dim,
                num_groups,
                num_heads=num_heads,
                feedforward_dim=feedforward_dim,
                dropout=dropout,
                shrink=shrink,
            )
            for c, shrink in zip(channels, shrinks)
        )

    def init_weights(self) -> None:
        """Xavier initialisation."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                xavier_init(module, distribution='uniform')

    def forward(
        self,
        maps: Sequence[Tensor],
        positions: Sequence[Tensor],
        padding_masks: Sequence[Tensor] | None,
        text: WordTokens,
    ) -> Tensor:
        """Bring everything to stride 4.

        Args:
            maps: Stride-4 backbone map, then memory of strides 8, 16, 32, [(B*T, C_l, h_l, w_l)].
            positions: Pixel encodings of these maps, [(B or 1, C, h_l, w_l)].
            padding_masks: [(B, h_l, w_l)], True = padded; None if nothing is padded.
            text: The sentences.

        Returns:
            (B*T, C, h, w) at stride 4.
        """
        x = None
        for level in reversed(range(len(self.stages))):
            mask = None if padding_masks is None else padding_masks[level]
            args = (maps[level], x, positions[level], mask, text)
            if self.with_cp and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(
                    self.stages[level], *args, use_reentrant=False
                )
            else:
                x = self.stages[level](*args)
        return x
