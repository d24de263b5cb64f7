"""Where pixels meet words: early fusion and the block of the cross-modal FPN (paper section 3.2,
3.3).

Letters: B clips, T frames, L words, C channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS

from .fast_linear import fast_linear
from .frame_chunks import by_tokens
from .precision import full_precision


class WordTokens(NamedTuple):
    """What attention needs of a sentence."""

    words: Tensor  # (B, L, C), the values
    keys: Tensor  # (B, L, C), words + position
    mask: Tensor | None  # (B, L), True = padded; None if nothing is padded

    def repeat_frames(self, num_frames: int) -> 'WordTokens':
        """The words of every frame instead of every clip."""
        return WordTokens(*(x if x is None else x.repeat_interleave(num_frames, 0) for x in self))


def to_tokens(maps: Tensor, num_clips: int) -> Tensor:
    """(B*T, C, h, w) -> (B, T*h*w, C)."""
    BT, C, h, w = maps.shape
    tokens = maps.reshape(num_clips, BT // num_clips, C, h * w)
    return tokens.permute(0, 1, 3, 2).reshape(num_clips, -1, C)


def to_maps(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, T*h*w, C) -> (B*T, C, h, w)."""
    h, w = size
    return tokens.reshape(-1, h, w, tokens.shape[-1]).permute(0, 3, 1, 2)


class FeedForward(nn.Module):
    """Linear, ReLU, linear: the middle is wide."""

    def __init__(self, embed_dim: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(embed_dim, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.prepare(x)(x)

    def prepare(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """``forward`` for the tokens ``like``, whole or in chunks."""
        widen = fast_linear(self.linear1, like, relu=True)
        narrow = fast_linear(self.linear2, like)
        return lambda x: self.dropout(narrow(self.dropout(widen(x))))


def attend(
    attn: nn.MultiheadAttention,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    padding_mask: Tensor | None,
) -> Tensor:
    """What ``attn`` gives without weights, with one product per projection for all clips.

    Its own forward transposes batch-first inputs, and then multiplies them clip by clip with copies
    of the weight: four sentences in bf16 took four times the memory.

    Args:
        attn: The parameters; batch first.
        queries: (B, N, C).
        keys: (B, L, C).
        values: (B, L, C).
        padding_mask: (B, L), True = padded; None if nothing is padded.

    Returns:
        (B, N, C).
    """
    weights = attn.in_proj_weight.chunk(3)
    projected = [
        F.linear(x, weight, bias).unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        for x, weight, bias in zip((queries, keys, values), weights, attn.in_proj_bias.chunk(3))
    ]
    mixed = F.scaled_dot_product_attention(
        *projected,
        attn_mask=None if padding_mask is None else ~padding_mask[:, None, None],
        dropout_p=attn.dropout if attn.training else 0.0,
    )
    return attn.out_proj(mixed.transpose(1, 2).flatten(2))


@MODELS.register_module()
class VisionLanguageFusion(BaseModule):
    """Early fusion: every pixel is multiplied by what it reads in the sentence.

    One module serves all levels. No position on the pixels, no residual, no norm. As a factor of
    all features it is computed in full precision, under autocast too.

    Args:
        embed_dim: C.
        num_heads: Attention heads.
    """

    def __init__(
        self, embed_dim: int = 256, num_heads: int = 8, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)

    def forward(self, maps: Tensor, text: WordTokens) -> Tensor:
        """Fuse one level, (B*T, C, h, w) -> (B*T, C, h, w)."""
        B = text.words.shape[0]
        maps = maps.to(text.words.dtype)
        with full_precision(maps):
            read = attend(self.attn, to_tokens(maps, B), text.keys, text.words, text.mask)
        return maps * to_maps(read, maps.shape[-2:])


class VisionLanguageBlock(nn.Module):
    """Self-attention over all frames on a shrunk grid, attention to the words, feed-forward;
    post-norm.

    Args:
        embed_dim: C.
        num_heads: Attention heads.
        feedforward_dim: Width of the feed-forward.
        dropout: Dropout everywhere.
        shrink: The self-attention runs on a grid ``shrink`` times smaller in height and width.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, feedforward_dim: int, dropout: float, shrink: int
    ) -> None:
        super().__init__()
        self.shrink = shrink
        self.self_attn = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)
        self.word_attn = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)
        self.ffn = FeedForward(embed_dim, feedforward_dim, dropout)
        self.norm_self = nn.LayerNorm(embed_dim)
        self.norm_word = nn.LayerNorm(embed_dim)
        self.norm_ffn = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def mix_frames(
        self, maps: Tensor, pos: Tensor, padding_mask: Tensor | None, num_clips: int
    ) -> Tensor:
        """Self-attention over all frames, on every ``shrink``-th pixel.

        Args:
            maps: (B*T, C, h, w).
            pos: Pixel encoding, (B or 1, C, h, w).
            padding_mask: (B, h, w), True = padded; None if nothing is padded.
            num_clips: B.

        Returns:
            (B*T, C, h/shrink, w/shrink).
        """
        h, w = maps.shape[-2:]
        B, T = num_clips, maps.shape[0] // num_clips
        grid = (h // self.shrink, w // self.shrink)
        if 0 in grid:
            raise ValueError(
                f'a map of {h}x{w} is too small to be shrunk by {self.shrink}: '
                f'use frames of at least 32x32 pixels'
            )
        values = F.interpolate(maps, grid)  # nearest
        small_pos = F.interpolate(pos, grid)
        queries = to_tokens((values.unflatten(0, (B, T)) + small_pos[:, None]).flatten(0, 1), B)
        if padding_mask is not None:
            mask = F.interpolate(padding_mask[:, None].float(), grid).bool()
            padding_mask = mask.expand(-1, T, -1, -1).flatten(1)
        mixed = attend(self.self_attn, queries, queries, to_tokens(values, B), padding_mask)
        return to_maps(mixed, grid)

    def forward(self, maps: Tensor, mixed: Tensor, pos: Tensor, text: WordTokens) -> Tensor:
        """The rest of the block, in which frames are alone.

        Args:
            maps: (n, C, h, w).
            mixed: What ``mix_frames`` gave for them, (n, C, h/shrink, w/shrink).
            pos: Pixel encoding, (n or 1, C, h, w).
            text: The sentence of each frame.

        Returns:
            (n, C, h, w).
        """
        size = maps.shape[-2:]
        if self.shrink > 1:
            mixed = F.interpolate(mixed, size, mode='bilinear', align_corners=False)
        x, mixed, pos = (m.flatten(2).transpose(1, 2) for m in (maps, mixed, pos))  # (n, h*w, C)
        ffn = self.ffn.prepare(x)

        def finish(x: Tensor, mixed: Tensor, pos: Tensor) -> Tensor:
            x = self.norm_self(x + self.dropout(mixed))
            read = attend(self.word_attn, x + pos, text.keys, text.words, text.mask)
            x = self.norm_word(x + self.dropout(read))
            return self.norm_ffn(x + ffn(x))

        return to_maps(by_tokens(finish, x, mixed, pos), size)
