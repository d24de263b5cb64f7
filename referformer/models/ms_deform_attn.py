"""Multi-scale deformable attention (Deformable DETR, section 4.1, eq. 3) and its backends.

Letters beyond the project's: M heads, D channels of a head, L levels, P points per level,
S tokens of all levels (each level in raster order), Lq queries.
"""

import functools
import importlib
import importlib.util
import logging
import math
import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from referformer.files import mmcv_command
from referformer.registry import MODELS

BACKENDS = ('auto', 'mmcv', 'csrc', 'torch')
ENV = 'REFERFORMER_MSDA_BACKEND'
BUILD_CSRC = 'python setup.py build_ext --inplace'

Shapes = Sequence[tuple[int, int]] | Tensor


@MODELS.register_module()
class MSDeformAttn(nn.Module):
    """Attention of each query to a few sampled points of every level.

    Args:
        embed_dim: Channels C of queries and values.
        num_heads: Heads M; must divide ``embed_dim``.
        num_levels: Levels L.
        num_points: Points P that a head samples in each level.
        backend: Passed to :func:`ms_deform_attn`.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        backend: str = 'auto',
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f'embed_dim {embed_dim} must be a multiple of num_heads {num_heads}.')
        if backend not in BACKENDS:
            raise ValueError(f'backend {backend!r} is unknown: choose one of {BACKENDS}.')
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.backend = backend
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dim, samples * 2)
        self.attention_weights = nn.Linear(embed_dim, samples)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each head starts out looking in its own direction, point p at distance p + 1."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        ring = torch.stack([angles.cos(), angles.sin()], dim=-1)
        ring = ring / ring.abs().amax(dim=-1, keepdim=True)  # (M, 2) on a square
        distance = torch.arange(1, self.num_points + 1)
        offsets = ring[:, None, None] * distance[:, None]  # (M, 1, P, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        value: Tensor,
        spatial_shapes: Shapes,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Lq, C), with position encoding.
            reference_points: In [0, 1], top-left (0, 0). Centres (B, Lq, L, 2): offsets then count
                in pixels of each level. Boxes cxcywh (B, Lq, L, 4): offsets then count in half a
                box's size over P.
            value: Tokens of all levels, (B, S, C).
            spatial_shapes: Height and width of each level.
            padding_mask: True where a token is padding, (B, S). Such tokens read as zero.

        Returns:
            (B, Lq, C).
        """
        B, Lq, _ = query.shape
        M, L, P = self.num_heads, self.num_levels, self.num_points
        value = self.value_proj(value)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0)
        value = value.unflatten(-1, (M, -1))  # (B, S, M, D)
        offsets = self.sampling_offsets(query).view(B, Lq, M, L, P, 2)
        weights = self.attention_weights(query).view(B, Lq, M, L * P)
        weights = _full_precision(weights).softmax(-1).view(B, Lq, M, L, P)

        # Half precisions cannot tell neighbouring pixels of a wide map apart.
        offsets = _full_precision(offsets)
        centres = _full_precision(reference_points)[:, :, None, :, None, :2]
        if reference_points.shape[-1] == 2:
            sizes = offsets.new_tensor([(w, h) for h, w in _as_list(spatial_shapes)])
            locations = centres + offsets / sizes[:, None]
        elif reference_points.shape[-1] == 4:
            boxes = _full_precision(reference_points)[:, :, None, :, None, 2:]
            locations = centres + offsets / P * boxes * 0.5
        else:
            raise ValueError(
                'reference_points must be (B, Lq, L, 2) centres or (B, Lq, L, 4) boxes, got '
                f'{tuple(reference_points.shape)}.'
            )
        output = ms_deform_attn(value, spatial_shapes, locations, weights, self.backend)
        return self.output_proj(output)


def ms_deform_attn_pytorch(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The definition of multi-scale deformable attention, in PyTorch.

    Args:
        value: (B, S, M, D).
        spatial_shapes: Height and width of each level.
        sampling_locations: x, y in [0, 1] of the map, top-left (0, 0), (B, Lq, M, L, P, 2). The map
            is interpolated bilinearly and is zero outside.
        attention_weights: (B, Lq, M, L, P).

    Returns:
        (B, Lq, M*D).
    """
    B, _, M, D = value.shape
    _, Lq, _, L, P, _ = sampling_locations.shape
    shapes = _as_list(spatial_shapes)
    grids = sampling_locations.transpose(1, 2).flatten(0, 1) * 2 - 1  # (B*M, Lq, L, P, 2)
    sampled = []
    for level, (tokens, (h, w)) in enumerate(
        zip(value.split([h * w for h, w in shapes], dim=1), shapes)
    ):
        maps = tokens.permute(0, 2, 3, 1).reshape(B * M, D, h, w)
        sampled.append(F.grid_sample(maps, grids[:, :, level], align_corners=False))
    sampled = torch.stack(sampled, dim=-2).flatten(-2)  # (B*M, D, Lq, L*P)
    weights = attention_weights.transpose(1, 2).reshape(B * M, 1, Lq, L * P)
    return (sampled * weights).sum(-1).view(B, M * D, Lq).transpose(1, 2).contiguous()


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Shapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    backend: str = 'auto',
) -> Tensor:
    """:func:`ms_deform_attn_pytorch`, by the fastest backend or by a given one.

    Args:
        value: (B, S, M, D); also half precision, with sampling locations in full precision.
        spatial_shapes: Height and width of each level.
        sampling_locations: x, y in [0, 1], (B, Lq, M, L, P, 2).
        attention_weights: (B, Lq, M, L, P).
        backend: 'csrc' (this project's kernels), 'mmcv' (its CUDA op; on a CPU its PyTorch form),
            'torch', or 'auto': the fastest that can run on these tensors. The environment variable
            ``REFERFORMER_MSDA_BACKEND`` overrules it.

    Returns:
        (B, Lq, M*D), of ``value``'s type.

    Raises:
        ValueError: The backend is unknown.
        RuntimeError: A backend that was asked for by name cannot run.
    """
    name = pick_backend(value.device.type, backend)
    if name == 'csrc':
        shapes = [size for shape in _as_list(spatial_shapes) for size in shape]
        return torch.ops.referformer.ms_deform_attn(
            value, shapes, sampling_locations, attention_weights
        )
    # The others want one type, and locations must not lose digits.
    dtype = torch.promote_types(value.dtype, sampling_locations.dtype)
    run = ms_deform_attn_pytorch if name == 'torch' else _ms_deform_attn_mmcv
    output = run(
        value.to(dtype), spatial_shapes, sampling_locations.to(dtype), attention_weights.to(dtype)
    )
    return output.to(value.dtype)


@torch.compiler.assume_constant_result  # torch.compile runs it while tracing
def pick_backend(device: str, backend: str = 'auto') -> str:
    """The backend that serves tensors on ``device`` ('cpu', 'cuda', ...), by name.

    Raises as :func:`ms_deform_attn` does; logs once what was taken.
    """
    wanted = os.environ.get(ENV) or backend
    if wanted not in BACKENDS:
        source = f'{ENV}=' if os.environ.get(ENV) else 'backend '
        raise ValueError(f'{source}{wanted!r} is unknown: choose one of {BACKENDS}.')
    if wanted == 'auto':
        able = (name for name in _BY_SPEED[device == 'cuda'] if not _obstacle(name, device))
        taken = next(able)
    else:
        taken = wanted
        if obstacle := _obstacle(taken, device):
            raise RuntimeError(
                f'Deformable attention backend {taken!r} cannot run on {device!r} tensors: '
                f"{obstacle}. Or leave the choice to 'auto'."
            )
    _log_once(taken, device, wanted)
    return taken


# On a CPU mmcv's function is the PyTorch form too.
_BY_SPEED = {True: ('csrc', 'mmcv', 'torch'), False: ('csrc', 'torch')}


@functools.cache
def _obstacle(backend: str, device: str) -> str:
    """Why ``backend`` cannot run on ``device``, with the remedy; empty if it can."""
    if backend == 'csrc':
        if _CSRC_OBSTACLE:
            return _CSRC_OBSTACLE
        key = 'Meta' if device == 'meta' else device.upper()
        if not torch._C._dispatch_has_kernel_for_dispatch_key('referformer::ms_deform_attn', key):
            return "referformer._C has no kernel for this device; use 'mmcv' or 'torch'"
    if backend == 'mmcv':
        if device not in ('cpu', 'cuda'):
            return "mmcv has no form for this device; use 'torch'"
        try:
            importlib.import_module('mmcv.ops.multi_scale_deform_attn')
        except ImportError as error:
            return f'mmcv with compiled ops is missing ({error}); `{mmcv_command()}` installs it'
    return ''


@functools.cache
def _log_once(taken: str, device: str, wanted: str) -> None:
    if wanted == 'auto' and taken == 'torch' and device == 'cpu':
        print_log(
            'Deformable attention: the PyTorch form, many times slower than the compiled one: '
            f'{_obstacle("csrc", device)}.',
            'current',
            logging.WARNING,
        )
    else:
        print_log(f'Deformable attention on {device}: backend {taken!r} ({wanted!r}).', 'current')


def _ms_deform_attn_mmcv(
    value: Tensor, spatial_shapes: Shapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    op = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    shapes = _as_list(spatial_shapes)
    if not value.is_cuda:
        return op.multi_scale_deformable_attn_pytorch(
            value, shapes, sampling_locations, attention_weights
        )
    sizes = torch.tensor(shapes, device=value.device)
    starts = torch.cat([sizes.new_zeros(1), sizes.prod(1).cumsum(0)[:-1]])
    # The op takes the batch in equal steps of at most 64.
    step = max(n for n in range(1, min(len(value), 64) + 1) if len(value) % n == 0)
    return op.MultiScaleDeformableAttnFunction.apply(
        value.contiguous(),
        sizes,
        starts,
        sampling_locations.contiguous(),
        attention_weights.contiguous(),
        step,
    )


def _as_list(spatial_shapes: Shapes) -> list[tuple[int, int]]:
    if isinstance(spatial_shapes, Tensor):
        spatial_shapes = spatial_shapes.tolist()
    return [(h, w) for h, w in spatial_shapes]


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _load_csrc() -> str:
    """Load and complete the compiled operators; says why not where that fails."""
    spec = importlib.util.find_spec('referformer._C')
    if spec is None:
        return f'referformer._C is not built; `{BUILD_CSRC}` builds it (in a checkout)'
    try:
        torch.ops.load_library(spec.origin)
    except OSError as error:  # built for another PyTorch
        return f'{spec.origin} does not load ({error}); build it again: `{BUILD_CSRC} --force`'

    def output_like(value: Tensor, shapes: list, locations: Tensor, weights: Tensor) -> Tensor:
        B, _, M, D = value.shape
        return value.new_empty(B, locations.shape[1], M * D)

    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        value, ctx.shapes, locations, weights = inputs
        ctx.save_for_backward(value, locations, weights)

    def backward(ctx, grad_output: Tensor) -> tuple:
        value, locations, weights = ctx.saved_tensors
        grads = torch.ops.referformer.ms_deform_attn_backward(
            grad_output, value, ctx.shapes, locations, weights
        )
        return grads[0], None, grads[1], grads[2]

    torch.library.register_fake('referformer::ms_deform_attn', output_like)
    torch.library.register_fake(
        'referformer::ms_deform_attn_backward',
        lambda grad, value, shapes, *others: tuple(torch.empty_like(t) for t in (value, *others)),
    )
    torch.library.register_autograd(
        'referformer::ms_deform_attn', backward, setup_context=setup_context
    )
    return ''


_CSRC_OBSTACLE = _load_csrc()
