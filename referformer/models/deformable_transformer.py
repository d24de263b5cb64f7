"""Deformable encoder and decoder with language queries and box refinement (paper section 3.2).

Frames are batch items here: they do not see each other.
Letters: BT clips times frames, Q queries per frame, C channels, S tokens of all levels, L levels,
D decoder layers.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.utils.checkpoint
from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from referformer.registry import MODELS, build

from .frame_chunks import by_frames, by_tokens
from .precision import full_precision
from .vision_language import FeedForward

_EPS = 1e-5
_WIDEST = 0.95  # side of a first box


class DecoderOutput(NamedTuple):
    """States, boxes and reference points of all decoder layers."""

    hs: Tensor  # (D, BT, Q, C)
    boxes: Tensor  # (D, BT, Q, 4), cxcywh in [0, 1]
    references: (
        Tensor  # (D + 1, BT, Q, 2): first those entering layer 0, then those after each layer
    )


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Inverse of the sigmoid, kept finite by clamping x and 1 - x at 1e-5."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=_EPS) / (1 - x).clamp(min=_EPS))


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_dim) -> (..., out_dim)."""
        for layer in self.layers[:-1]:
            x = layer(x).relu_()
        return self.layers[-1](x)


class EncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, post-norm."""

    def __init__(self, attention: nn.Module, embed_dim: int, feedforward_dim: int, dropout: float):
        super().__init__()
        self.attn = attention
        self.ffn = FeedForward(embed_dim, feedforward_dim, dropout)
        self.norm_attn = nn.LayerNorm(embed_dim)
        self.norm_ffn = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        references: Tensor,
        shapes: list[tuple[int, int]],
        padding_mask: Tensor | None,
    ) -> Tensor:
        """(BT, S, C) -> (BT, S, C)."""
        attended = self.attn(x + pos, references, x, shapes, padding_mask)
        ffn = self.ffn.prepare(x)

        def finish(x: Tensor, attended: Tensor) -> Tensor:
            x = self.norm_attn(x + self.dropout(attended))
            return self.norm_ffn(x + ffn(x))

        return by_tokens(finish, x, attended, out=attended)


class DecoderLayer(nn.Module):
    """Self-attention of the queries, deformable attention to the memory, feed-forward."""

    def __init__(
        self,
        attention: nn.Module,
        embed_dim: int,
        num_heads: int,
        feedforward_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(embed_dim, num_heads, dropout, batch_first=True)
        self.cross_attn = attention
        self.ffn = FeedForward(embed_dim, feedforward_dim, dropout)
        self.norm_self = nn.LayerNorm(embed_dim)
        self.norm_cross = nn.LayerNorm(embed_dim)
        self.norm_ffn = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        query_pos: Tensor,
        references: Tensor,
        memory: Tensor,
        shapes: list[tuple[int, int]],
        padding_mask: Tensor | None,
    ) -> Tensor:
        """(BT, Q, C) -> (BT, Q, C)."""
        query = x + query_pos
        attended = self.self_attn(query, query, x, need_weights=False)[0]
        x = self.norm_self(x + self.dropout(attended))
        attended = self.cross_attn(x + query_pos, references, memory, shapes, padding_mask)
        x = self.norm_cross(x + self.dropout(attended))
        return self.norm_ffn(x + self.ffn(x))


class FirstLook(nn.Module):
    """Attention of the queries to every token; where it lies is their first box."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(embed_dim, embed_dim)
        self.value = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(
        self, x: Tensor, memory: Tensor, places: Tensor, padding_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Look.

        Args:
            x: Queries, (BT, Q, C).
            memory: Encoder tokens, (BT, S, C).
            places: Centres of the tokens in [0, 1] of the unpadded frame, (1 or BT, S, 2).
            padding_mask: True where a token is padding, (BT, S).

        Returns:
            The queries with what they read, (BT, Q, C), and boxes cxcywh in [0, 1], (BT, Q, 4). An
            even look at a rectangle gives that rectangle: its sides are sqrt(12) deviations, but no
            more than 0.95: near 1 the inverse sigmoid is too steep to learn from.
        """
        scores = self.query(x) @ self.key(memory).mT * x.shape[-1] ** -0.5
        if padding_mask is not None:
            scores = scores.masked_fill(padding_mask[:, None], -torch.inf)
        weights = scores.softmax(-1)  # (BT, Q, S)
        centre = weights @ places
        variance = (weights @ places.square() - centre.square()).clamp(min=1e-4)
        box = torch.cat((centre, (12 * variance).sqrt().clamp(max=_WIDEST)), -1)
        return self.norm(x + weights @ self.value(memory)), box


@MODELS.register_module()
class DeformableTransformer(BaseModule):
    """Encoder over the fused levels; decoder in which the sentence itself is the query.

    Args:
        embed_dim: C.
        num_heads: Attention heads.
        num_levels: L.
        num_encoder_layers: Encoder layers.
        num_decoder_layers: D.
        feedforward_dim: Width of the feed-forwards.
        num_points: Sampling points per head and level.
        dropout: Dropout everywhere.
        with_box_refine: Each layer's box becomes the next layer's reference; else all layers share
            one box head and the first reference points.
        attention: Config of the deformable attention.
        look_first: The queries first attend to all of the memory, and start with what they read
            and at the place, and with the extent, at which they looked; else with the sentence
            alone, at a learned point, which deformable attention with few points seldom leaves.
        with_cp: Recompute encoder layers in the backward pass to save memory.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_encoder_layers: int = 4,
        num_decoder_layers: int = 4,
        feedforward_dim: int = 2048,
        num_points: int = 4,
        dropout: float = 0.1,
        with_box_refine: bool = True,
        attention: dict | None = None,
        look_first: bool = False,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dim = embed_dim
        self.num_levels = num_levels
        self.num_decoder_layers = num_decoder_layers
        self.with_box_refine = with_box_refine
        self.with_cp = with_cp

        def new_attention() -> nn.Module:
            return build(
                dict(attention or {'type': 'MSDeformAttn'}),
                embed_dim=embed_dim,
                num_heads=num_heads,
                num_levels=num_levels,
                num_points=num_points,
            )

        self.encoder = nn.ModuleList(
            EncoderLayer(new_attention(), embed_dim, feedforward_dim, dropout)
            for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(new_attention(), embed_dim, num_heads, feedforward_dim, dropout)
            for _ in range(num_decoder_layers)
        )
        self.level_embed = nn.Parameter(torch.zeros(num_levels, embed_dim))
        self.first_look = FirstLook(embed_dim) if look_first else None
        self.reference_points = None if look_first else nn.Linear(embed_dim, 2)
        num_heads_box = num_decoder_layers if with_box_refine else 1
        self.box_heads = nn.ModuleList(
            MLP(embed_dim, embed_dim, 4, 3) for _ in range(num_heads_box)
        )

    def init_weights(self) -> None:
        """Xavier; the first boxes lie on the reference points with sides of sigmoid(-2) = 0.12."""
        super().init_weights()
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and '.attn.' not in name and '.cross_attn.' not in name:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.level_embed)
        if self.reference_points is not None:
            xavier_init(self.reference_points, distribution='uniform')
        for i, head in enumerate(self.box_heads):
            last = head.layers[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            if i == 0 and self.first_look is None:
                nn.init.constant_(last.bias[2:], -2.0)

    def forward(
        self,
        levels: list[Tensor],
        positions: list[Tensor],
        padding_masks: list[Tensor] | None,
        queries: Tensor,
        query_pos: Tensor,
    ) -> tuple[list[Tensor], DecoderOutput]:
        """Encode all levels, then let the queries find the object.

        Args:
            levels: Fused maps, [(BT, C, h_l, w_l)].
            positions: Pixel encodings, [(BT or 1, C, h_l, w_l)].
            padding_masks: [(BT, h_l, w_l)], True = padded; None if nothing is padded.
            queries: The sentence feature of each frame, (BT, C).
            query_pos: Learned position of each query, (Q, C).

        Returns:
            Memory as maps, [(BT, C, h_l, w_l)], and the decoder's output.
        """
        shapes = [tuple(level.shape[-2:]) for level in levels]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)  # (BT, S, C)
        pos = torch.cat(
            [p.flatten(2).transpose(1, 2) + self.level_embed[i] for i, p in enumerate(positions)],
            1,
        )
        mask, ratios = None, x.new_ones(1, len(levels), 2)
        if padding_masks is not None:
            mask = torch.cat([m.flatten(1) for m in padding_masks], 1)
            ratios = torch.stack([_valid_ratio(m) for m in padding_masks], 1)  # (BT, L, 2)

        references = _pixel_references(shapes, ratios).expand(x.shape[0], -1, -1, -1)
        x = by_frames(self._encode, x, pos, references, shapes, mask, out=x)
        # Boxes move with every bit of the few queries: full precision, under autocast too.
        with full_precision(x):
            full = x.to(query_pos.dtype)
            output = self._decode(full, shapes, mask, ratios, queries, query_pos)
        sizes = [h * w for h, w in shapes]
        memory = [
            tokens.transpose(1, 2).unflatten(2, shape)
            for tokens, shape in zip(x.split(sizes, 1), shapes)
        ]
        return memory, output

    def _encode(
        self,
        x: Tensor,
        pos: Tensor,
        references: Tensor,
        shapes: list[tuple[int, int]],
        mask: Tensor | None,
    ) -> Tensor:
        for layer in self.encoder:
            args = (x, pos, references, shapes, mask)
            if self.with_cp and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(layer, *args, use_reentrant=False)
            else:
                x = layer(*args)
        return x

    def _decode(
        self,
        memory: Tensor,
        shapes: list[tuple[int, int]],
        mask: Tensor | None,
        ratios: Tensor,
        queries: Tensor,
        query_pos: Tensor,
    ) -> DecoderOutput:
        BT, Q = memory.shape[0], query_pos.shape[0]
        x = queries[:, None].expand(-1, Q, -1)
        if self.first_look is not None:
            places = _pixel_references(shapes, ratios)[:, :, 0] / ratios[:, :1]
            x, reference = self.first_look(x + query_pos, memory, places, mask)
        else:
            # From the queries alone: equal in all frames at the start.
            reference = self.reference_points(query_pos).sigmoid().expand(BT, -1, -1)
        hs, boxes, references = [], [], [reference[..., :2]]
        for i, layer in enumerate(self.decoder):
            scale = ratios.repeat(1, 1, reference.shape[-1] // 2)
            x = layer(x, query_pos, reference[:, :, None] * scale[:, None], memory, shapes, mask)
            box = self._refine(self.box_heads[i if self.with_box_refine else 0](x), reference)
            hs.append(x)
            boxes.append(box)
            if self.with_box_refine:
                reference = box.detach()
            references.append(reference[..., :2])
        return DecoderOutput(torch.stack(hs), torch.stack(boxes), torch.stack(references))

    @staticmethod
    def _refine(delta: Tensor, reference: Tensor) -> Tensor:
        """Move a reference point (2 numbers) or box (4 numbers) by what the box head says."""
        base = inverse_sigmoid(reference.float())
        base = torch.cat((base, base.new_zeros(*base.shape[:-1], 4 - base.shape[-1])), -1)
        return (delta.float() + base).sigmoid()


def _valid_ratio(padding_mask: Tensor) -> Tensor:
    """Share of the unpadded width and height, (BT, h, w) -> (BT, 2), x first."""
    _, h, w = padding_mask.shape
    valid_h = (~padding_mask[:, :, 0]).sum(1).float() / h
    valid_w = (~padding_mask[:, 0, :]).sum(1).float() / w
    return torch.stack((valid_w, valid_h), -1)


def _pixel_references(shapes: list[tuple[int, int]], ratios: Tensor) -> Tensor:
    """Where each token looks from, (1 or BT, S, L, 2): xy, 1 = end of the padded map."""
    points = []
    for level, (h, w) in enumerate(shapes):
        y = torch.arange(h, device=ratios.device) + 0.5
        x = torch.arange(w, device=ratios.device) + 0.5
        y = y[None] / (ratios[:, None, level, 1] * h)
        x = x[None] / (ratios[:, None, level, 0] * w)
        grid = torch.stack((x[:, None, :].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)), -1)
        points.append(grid.flatten(1, 2))
    return torch.cat(points, 1)[:, :, None] * ratios[:, None]
