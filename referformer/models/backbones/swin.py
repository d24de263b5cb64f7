"""Swin and Video Swin Transformers (Liu et al. 2021, 2022): one code, two window shapes.

With patch (1, 4, 4) and window (1, 7, 7) the video form is the image form. They part only where a
map is not
larger than the window: Video Swin takes that dimension whole and does not shift it, Swin pads.
Letters: B clips, T frames, C channels, h w the map, N tokens of a window, n windows.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmengine.model import BaseModule, trunc_normal_init
from torch import Tensor, nn

from referformer.registry import MODELS

from ..tracing import cached_tensor

Size = tuple[int, int, int]  # time, height, width


class DropPath(nn.Module):
    """Stochastic depth: the residual branch of whole samples is dropped in training."""

    def __init__(self, prob: float) -> None:
        super().__init__()
        self.prob = prob

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or self.prob == 0:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.prob)
        return x * keep / (1 - self.prob)


class WindowAttention(nn.Module):
    """Attention inside windows, with a learned bias for each relative position.

    Args:
        dim: C.
        window: Full window.
        num_heads: Attention heads.
    """

    def __init__(self, dim: int, window: Size, num_heads: int) -> None:
        super().__init__()
        self.window = window
        self.num_heads = num_heads
        wt, wh, ww = window
        table = torch.zeros((2 * wt - 1) * (2 * wh - 1) * (2 * ww - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend inside the windows.

        Args:
            x: (B*n, N, C), the windows of a clip next to each other.
            mask: Added to the logits, (n, N, N); None where nothing is shifted.
        """
        Bn, N, _ = x.shape
        q, k, v = self.qkv(x).view(Bn, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        # A shrunken window takes the corner of the full index, as the published models do.
        index = _relative_index(self.window, x.device)[:N, :N].flatten()
        bias = self.relative_position_bias_table[index].view(N, N, -1).permute(2, 0, 1)
        if mask is None:
            bias = bias[None].expand(Bn, -1, -1, -1)
        else:
            bias = (bias[None] + mask[:, None]).repeat(Bn // len(mask), 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(x.transpose(1, 2).reshape(Bn, N, -1))


class SwinBlock(nn.Module):
    """Window attention and MLP, pre-norm."""

    def __init__(
        self, dim: int, window: Size, num_heads: int, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, window: Size, shift: Size) -> Tensor:
        """(B, T, h, w, C) -> the same, in windows of the given size, shifted."""
        x = x + self.drop_path(self._attend(self.norm1(x), window, shift))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, window: Size, shift: Size) -> Tensor:
        B, T, h, w, _ = x.shape
        pad = [-size % win for size, win in zip((T, h, w), window)]
        # Padded tokens take part as keys: the published models do not mask them.
        x = F.pad(x, (0, 0, 0, pad[2], 0, pad[1], 0, pad[0]))
        size = tuple(x.shape[1:4])
        mask = None
        if any(shift):
            x = x.roll([-s for s in shift], (1, 2, 3))
            mask = _shift_mask(size, window, shift, x.device)
        x = _merge(self.attn(_split(x, window), mask), window, (B, *size))
        if any(shift):
            x = x.roll(shift, (1, 2, 3))
        return x[:, :T, :h, :w]


class PatchMerging(nn.Module):
    """Halve height and width: norm and linear on 2x2 neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, ceil(h/2), ceil(w/2), 2C)."""
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        parts = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class ConvMerging(nn.Sequential):
    """Halve height and width: two 3x3 convolutions, each with GroupNorm and ReLU."""

    def __init__(self, dim: int, num_groups: int = 8) -> None:
        super().__init__(
            nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(num_groups, 2 * dim),
            nn.ReLU(),
            nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, bias=False),
            nn.GroupNorm(num_groups, 2 * dim),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, h, w, C) -> (B, T, ceil(h/2), ceil(w/2), 2C)."""
        maps = super().forward(x.flatten(0, 1).permute(0, 3, 1, 2))
        return maps.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


@MODELS.register_module()
class VideoSwin(BaseModule):
    """Video Swin with patch (1, 4, 4): time is kept.

    Args:
        embed_dim: C of the first stage.
        depths: Blocks of each stage.
        num_heads: Heads of each stage.
        window: Frames, height and width of a window; every second block is shifted by half of it.
        mlp_ratio: Width of the MLP over C.
        drop_path: Stochastic depth of the last block, rising linearly from 0.
        patch_frames: Frames a patch is embedded from, an odd number: itself and its neighbours
            (repeated at the ends of a clip), so that the first layer sees motion. 1: itself alone,
            as in the paper.
        conv_channels: Not 0: patches are embedded by two 3x3 convolutions of stride 2, with so many
            channels between them, and merged by convolutions too. For training from scratch:
            shapes and motions are learned many times sooner (compare Xiao et al. 2021, "Early
            convolutions help Transformers see better"). 0: as in the paper.
        out_norms: LayerNorm on each output map (the image form has them).
        shrink_window: Take a dimension not larger than the window whole (the video form), else pad
            it.
        with_cp: Recompute blocks in the backward pass to save memory.
    """

    takes_clips = True

    def __init__(
        self,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window: Size = (8, 7, 7),
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        patch_frames: int = 1,
        conv_channels: int = 0,
        out_norms: bool = False,
        shrink_window: bool = True,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.window = tuple(window)
        self.shrink_window = shrink_window
        self.with_cp = with_cp
        self.out_channels = [embed_dim * 2**i for i in range(len(depths))]
        if patch_frames < 1 or patch_frames % 2 != 1:
            raise ValueError(f'patch_frames must be odd and positive, not {patch_frames}')
        self.patch_frames = patch_frames
        if conv_channels:
            self.patch_embed = nn.Sequential(
                nn.Conv2d(3 * patch_frames, conv_channels, 3, stride=2, padding=1),
                nn.GELU(),
                nn.Conv2d(conv_channels, embed_dim, 3, stride=2, padding=1),
            )
        else:
            self.patch_embed = nn.Conv2d(3 * patch_frames, embed_dim, 4, stride=4)
        self.patch_norm = nn.LayerNorm(embed_dim)
        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path * i / last for i in range(sum(depths))])
        self.stages = nn.ModuleList(
            nn.ModuleList(
                SwinBlock(dim, self.window, heads, mlp_ratio, next(rates)) for _ in range(depth)
            )
            for dim, depth, heads in zip(self.out_channels, depths, num_heads)
        )
        merging = ConvMerging if conv_channels else PatchMerging
        self.downsamples = nn.ModuleList(merging(dim) for dim in self.out_channels[:-1])
        norm = nn.LayerNorm if out_norms else nn.Identity
        self.out_norms = nn.ModuleList(norm(dim) for dim in self.out_channels)

    def init_weights(self) -> None:
        """Truncated normal, deviation 0.02; a checkpoint named in ``init_cfg`` wins."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module, std=0.02)
        super().init_weights()

    def forward(self, x: Tensor) -> list[Tensor]:
        """See clips (B, T, 3, H, W), or frames (B, 3, H, W) as clips of one.

        Returns:
            Maps of strides 4, 8, 16, 32, [(B*T, C_l, h_l, w_l)].
        """
        if x.dim() == 4:
            x = x[:, None]
        B, T = x.shape[:2]
        x = self._with_neighbours(x).flatten(0, 1)
        x = self.patch_embed(F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4)))
        x = self.patch_norm(x.permute(0, 2, 3, 1)).unflatten(0, (B, T))
        maps = []
        for i, (blocks, norm) in enumerate(zip(self.stages, self.out_norms)):
            if i > 0:
                x = self.downsamples[i - 1](x)
            window, shift = self._window(x.shape[1:4])
            for j, block in enumerate(blocks):
                args = (x, window, shift if j % 2 else (0, 0, 0))
                if self.with_cp and torch.is_grad_enabled():
                    x = torch.utils.checkpoint.checkpoint(block, *args, use_reentrant=False)
                else:
                    x = block(*args)
            maps.append(norm(x).flatten(0, 1).permute(0, 3, 1, 2).contiguous())
        return maps

    def _with_neighbours(self, x: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> (B, T, 3 * patch_frames, H, W)."""
        if self.patch_frames == 1:
            return x
        reach = self.patch_frames // 2
        last = x.shape[1] - 1
        times = torch.arange(last + 1, device=x.device)
        return torch.cat([x[:, (times + d).clamp(0, last)] for d in range(-reach, reach + 1)], 2)

    def _window(self, size: Sequence[int]) -> tuple[Size, Size]:
        """Window and shift for a map."""
        half = [win // 2 for win in self.window]
        if not self.shrink_window:
            return self.window, tuple(half)
        whole = [s <= win for s, win in zip(size, self.window)]
        window = tuple(s if w else win for s, w, win in zip(size, whole, self.window))
        return window, tuple(0 if w else h for w, h in zip(whole, half))


@MODELS.register_module()
class Swin(VideoSwin):
    """The image form: every frame alone, a norm on each output map.

    Args:
        window: Height and width of a window.
        **options: As of ``VideoSwin``; a patch has one frame.
    """

    takes_clips = False

    def __init__(self, window: int = 7, **options: object) -> None:
        super().__init__(window=(1, window, window), out_norms=True, shrink_window=False, **options)
        if self.patch_frames != 1:
            raise ValueError(
                f'patch_frames={self.patch_frames}: Swin sees each frame alone; use VideoSwin'
            )


def _split(x: Tensor, window: Size) -> Tensor:
    """Cut (B, T, h, w, C) into windows, (B*n, N, C)."""
    B, T, h, w, C = x.shape
    wt, wh, ww = window
    x = x.view(B, T // wt, wt, h // wh, wh, w // ww, ww, C)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, wt * wh * ww, C)


def _merge(windows: Tensor, window: Size, size: tuple[int, int, int, int]) -> Tensor:
    """Undo ``_split``: to (B, T, h, w, C)."""
    B, T, h, w = size
    wt, wh, ww = window
    x = windows.view(B, T // wt, h // wh, w // ww, wt, wh, ww, -1)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(B, T, h, w, -1)


@cached_tensor(8)
def _relative_index(window: Size, device: torch.device) -> Tensor:
    """Row of the bias table for each pair of tokens, (N, N)."""
    axes = [torch.arange(size, device=device) for size in window]
    grid = torch.stack(torch.meshgrid(*axes, indexing='ij')).flatten(1)
    offset = grid[:, :, None] - grid[:, None, :]
    _, wh, ww = window
    t, y, x = (o + size - 1 for o, size in zip(offset, window))
    return (t * (2 * wh - 1) + y) * (2 * ww - 1) + x


@cached_tensor(32)
def _shift_mask(size: Size, window: Size, shift: Size, device: torch.device) -> Tensor:
    """-100 between tokens which only the roll has made neighbours, (n, N, N)."""
    region = torch.zeros(1, *size, 1, device=device)
    for axis, (length, win, s) in enumerate(zip(size, window, shift)):
        index = torch.arange(length, device=device)
        part = (index >= length - win).int() + (index >= length - s).int() if s else index * 0
        shape = [1] * 5
        shape[axis + 1] = length
        region = region * 3 + part.view(shape)
    tokens = _split(region, window)[..., 0]
    return (tokens[:, None, :] != tokens[:, :, None]).float() * -100.0
