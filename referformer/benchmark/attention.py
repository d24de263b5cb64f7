"""The backends of deformable attention against each other, in turn in one process.

All tokens of the levels are queries, as in the encoder. The base line is mmcv's PyTorch form where
mmcv with ops is installed, else the same form here.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..models.ms_deform_attn import ms_deform_attn, pick_backend
from .measure import in_turn, summary

# Sampling: some 3 pixels around the query, as a trained model does; or uniform.
SAMPLINGS = ('near', 'anywhere')
_SHAPES = ((45, 80), (23, 40), (12, 20), (6, 10))  # strides 8 to 64 of 360 x 640


def attention(
    device: str,
    frames: Sequence[int],
    dtypes: Sequence[torch.dtype],
    repeats: int = 15,
    heads: int = 8,
    channels: int = 32,
    points: int = 4,
    shapes: Sequence[tuple[int, int]] = _SHAPES,
) -> Iterator[dict[str, Any]]:
    """A row for each number of frames, type, way of sampling and direction.

    Raises:
        ValueError: There is only one backend.
    """
    backend = pick_backend(torch.device(device).type)
    if backend == 'torch':
        raise ValueError('only the PyTorch form of deformable attention is here: build csrc')
    functions = {'base': _base_line(), backend: functools.partial(ms_deform_attn, backend=backend)}
    for batch, dtype, sampling in product(frames, dtypes, SAMPLINGS):
        inputs = _inputs(batch, sampling, heads, channels, points, shapes, device)
        grad = torch.randn(batch, inputs[0].shape[1], heads * channels, device=device).to(dtype)
        value, *others = (x.requires_grad_() for x in (inputs[0].to(dtype), *inputs[1:]))

        def forward(function: Callable, value: Tensor = value, others: list = others) -> Any:
            with torch.no_grad():
                return (function(value, shapes, *others),)

        def both(
            function: Callable, value: Tensor = value, others: list = others, grad: Tensor = grad
        ) -> Any:
            output = function(value, shapes, *others)
            return torch.autograd.grad(output, (value, *others), grad)

        for direction, step in (('forward', forward), ('forward+backward', both)):
            steps = {name: functools.partial(step, f) for name, f in functions.items()}
            times, results = in_turn(steps, repeats, device)
            pairs = list(zip(*results.values()))
            if step is both:
                pairs[1] = [g * _away_from_kinks(inputs[1], shapes) for g in pairs[1]]
            base, ours = (summary(seconds) for seconds in times.values())
            yield {
                'frames': batch,
                'dtype': str(dtype).removeprefix('torch.'),
                'sampling': sampling,
                'direction': direction,
                'backend': backend,
                'seconds': ours,
                'base_seconds': base,
                'ratio': base['median'] / ours['median'],
                'difference': max((a - b).abs().max().item() for a, b in pairs),
            }


def _base_line() -> Callable[..., Tensor]:
    ours = functools.partial(ms_deform_attn, backend='torch')
    try:
        from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch as theirs
    except ImportError:
        return ours
    # In half precision theirs wants one type, which loses digits of the locations.
    return lambda value, *rest: (theirs if value.dtype == rest[1].dtype else ours)(value, *rest)


def _away_from_kinks(locations: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """False at pixel centres, where rounding decides which of two slopes is the gradient."""
    sizes = torch.tensor(shapes, device=locations.device).flip(-1)[:, None]
    pixels = locations.detach() * sizes - 0.5
    return ((pixels - pixels.round()).abs() > 1e-4).all(-1, keepdim=True)


def _inputs(
    batch: int,
    sampling: str,
    M: int,
    D: int,
    P: int,
    shapes: Sequence[tuple[int, int]],
    device: str,
) -> tuple[Tensor, ...]:
    """Value, locations, weights: random."""
    generator = torch.Generator().manual_seed(0)
    L, S = len(shapes), sum(h * w for h, w in shapes)
    value = torch.randn(batch, S, M, D, generator=generator)
    if sampling == 'near':
        centres = [torch.cartesian_prod(*(torch.arange(n) + 0.5 for n in s)) for s in shapes]
        centres = torch.cat([c / torch.tensor(s) for c, s in zip(centres, shapes)]).flip(-1)
        sizes = torch.tensor(shapes).flip(-1)[:, None]
        offsets = torch.randn(batch, S, M, L, P, 2, generator=generator) * 3 / sizes
        locations = centres[None, :, None, None, None] + offsets
    else:
        locations = torch.rand(batch, S, M, L, P, 2, generator=generator)
    weights = torch.rand(batch, S, M, L * P, generator=generator).softmax(-1)
    return tuple(x.to(device) for x in (value, locations, weights.view(batch, S, M, L, P)))
