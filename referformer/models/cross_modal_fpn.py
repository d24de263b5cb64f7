"""The cross-modal feature pyramid network (paper section 3.3).

Letters: B clips, T frames, C channels.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from referformer.registry import MODELS

from .frame_chunks import by_frames
from .vision_language import VisionLanguageBlock, WordTokens

FrameFunction = Callable[..., Tensor]


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
        entered: bool = False,
        then: FrameFunction | None = None,
        per_frame: Sequence[Tensor] = (),
    ) -> Tensor:
        """One level's map and the coarser stage's output -> (B*T, C, h, w).

        Args:
            maps: (B*T, C_l, h, w), or of the one clip that all B sentences are about, (T, ...).
            coarser: (B*T, C, h', w').
            pos: (B or 1, C, h, w).
            padding_mask: (B, h, w).
            text: B sentences.
            entered: ``maps`` has gone through ``lateral``.
            then: See ``CrossModalFPN.forward``.
            per_frame: See there.
        """
        x = maps if entered else by_frames(self.lateral, maps)
        B = len(text.words)
        BT = len(x) if coarser is None else len(coarser)
        if len(x) == BT:
            mixed = self.block.mix_frames(x, pos, padding_mask, B)
            groups = [slice(None)]
        else:
            mask = None if padding_mask is None else padding_mask[:1]
            mixed = self.block.mix_frames(x, pos[:1], mask, 1)
            groups = [slice(i, i + len(x)) for i in range(0, BT, len(x))]
        if len(pos) > 1:
            pos = pos.repeat_interleave(BT // B, 0)
        text = text.repeat_frames(BT // B)
        out = None if entered else x
        found = []
        for part in groups:
            own = [t if t is None or len(t) != BT else t[part] for t in (coarser, pos, *text)]
            kept = [t[part] for t in per_frame]
            found.append(by_frames(self._finish, x, mixed, *own, then, *kept, out=out))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _finish(
        self,
        x: Tensor,
        mixed: Tensor,
        coarser: Tensor | None,
        pos: Tensor,
        words: Tensor,
        keys: Tensor,
        mask: Tensor | None,
        then: FrameFunction | None,
        *per_frame: Tensor,
    ) -> Tensor:
        x = self.block(x, mixed, pos, WordTokens(words, keys, mask))
        if coarser is not None:
            x = x + F.interpolate(coarser, x.shape[-2:])  # nearest
        x = self.output(x)
        return x if then is None else then(x, *per_frame)


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

    def enter(self, stride4: Tensor) -> Tensor:
        """What no sentence changes of the widest level, (n, C_1, h, w) -> (n, C, h, w)."""
        return self.stages[0].lateral(stride4)

    def forward(
        self,
        maps: Sequence[Tensor],
        positions: Sequence[Tensor],
        padding_masks: Sequence[Tensor] | None,
        text: WordTokens,
        then: FrameFunction | None = None,
        per_frame: Sequence[Tensor] = (),
    ) -> Tensor:
        """Bring everything to stride 4.

        Args:
            maps: What ``enter`` made of the stride-4 backbone map, of every clip or of the one that
                all sentences are about; then memory of strides 8, 16, 32, [(B*T, C, h_l, w_l)].
            positions: Pixel encodings of these maps, [(B or 1, C, h_l, w_l)].
            padding_masks: [(B, h_l, w_l)], True = padded; None if nothing is padded.
            text: The sentences.
            then: What to make of the result, a few frames at a time, so that it never exists for
                all of them: called with it and those frames' entries of ``per_frame``.
            per_frame: (B*T, ...) each.

        Returns:
            (B*T, C, h, w) at stride 4, or what ``then`` made of it.
        """
        x = None
        for level in reversed(range(len(self.stages))):
            mask = None if padding_masks is None else padding_masks[level]
            args = (maps[level], x, positions[level], mask, text)
            if level == 0:
                args += (True, then, per_frame)
            if self.with_cp and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(
                    self.stages[level], *args, use_reentrant=False
                )
            else:
                x = self.stages[level](*args)
        return x
