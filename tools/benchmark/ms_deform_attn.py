"""Time the backends of deformable attention against each other, interleaved in one process.

All tokens of the levels are queries, as in the encoder. The base line is mmcv's
``multi_scale_deformable_attn_pytorch`` where mmcv with ops is installed, else the same form here.
"""

import argparse
import functools
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from referformer.models.ms_deform_attn import ms_deform_attn, pick_backend

SHAPES = ((45, 80), (23, 40), (12, 20), (6, 10))  # strides 8 to 64 of 360 x 640


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, nargs='+', default=[1, 5], help='batch sizes')
    parser.add_argument('--heads', type=int, default=8)
    parser.add_argument('--channels', type=int, default=32, help='of one head')
    parser.add_argument('--points', type=int, default=4, help='of one head in one level')
    parser.add_argument('--repeats', type=int, default=15, help='rounds; the median is printed')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dtype', choices=('float32', 'float64'), default='float32')
    parser.add_argument(
        '--sampling',
        nargs='+',
        choices=('near', 'anywhere'),
        default=['near', 'anywhere'],
        help='near: some 3 pixels around the query, as a trained model; anywhere: uniform',
    )
    return parser.parse_args()


def main() -> None:
    """Print one table line for each batch size, way of sampling, and direction."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    if pick_backend('cpu') != 'csrc':
        raise SystemExit('csrc is not built (or another backend is forced): nothing to compare.')
    base, label = base_line()
    print(
        f'{platform.processor() or platform.machine()}, {args.threads} threads, '
        f'{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, {args.dtype}\n'
        f'base line: {label}; medians of {args.repeats} interleaved rounds\n'
    )
    header = f'{"batch":>5}  {"sampling":<9} {"direction":<17} {"base ms":>9} {"csrc ms":>9} '
    print(f'{header}{"ratio":>6}  {"difference":>10}')
    for batch in args.batch:
        for sampling in args.sampling:
            compare(args, batch, sampling, base)


def base_line() -> tuple[Callable[..., Tensor], str]:
    """The function to beat, and its name."""
    try:
        from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    except ImportError:
        return functools.partial(ms_deform_attn, backend='torch'), 'PyTorch form (mmcv is missing)'
    return multi_scale_deformable_attn_pytorch, 'mmcv.multi_scale_deformable_attn_pytorch'


def compare(
    args: argparse.Namespace, batch: int, sampling: str, base: Callable[..., Tensor]
) -> None:
    """Time both in turn and print two lines."""
    value, locations, weights = make_inputs(args, batch, sampling)
    grad = torch.randn(batch, value.shape[1], args.heads * args.channels, dtype=value.dtype)
    functions = {'base': base, 'csrc': functools.partial(ms_deform_attn, backend='csrc')}

    def forward(function: Callable) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (function(value, SHAPES, locations, weights),)

    def both(function: Callable) -> tuple[Tensor, ...]:
        output = function(value, SHAPES, locations, weights)
        return torch.autograd.grad(output, (value, locations, weights), grad)

    for direction, step in (('forward', forward), ('forward+backward', both)):
        times: dict[str, list[float]] = {name: [] for name in functions}
        results = {}
        for turn in range(args.repeats + 1):
            for name, function in functions.items():
                start = time.perf_counter()
                results[name] = step(function)
                if turn:  # the first one warms up
                    times[name].append(1e3 * (time.perf_counter() - start))
        slow, fast = (statistics.median(times[name]) for name in functions)
        pairs = list(zip(*results.values()))
        if direction == 'forward+backward':
            pairs[1] = [grad * away_from_kinks(locations) for grad in pairs[1]]
        difference = max((a - b).abs().max().item() for a, b in pairs)
        print(
            f'{batch:>5}  {sampling:<9} {direction:<17} {slow:>9.1f} {fast:>9.2f} '
            f'{slow / fast:>6.1f}  {difference:>10.1e}'
        )


def away_from_kinks(locations: Tensor) -> Tensor:
    """False at pixel centres, where rounding decides which of two slopes is the gradient."""
    pixels = locations.detach() * torch.tensor(SHAPES).flip(-1)[:, None] - 0.5
    return ((pixels - pixels.round()).abs() > 1e-4).all(-1, keepdim=True)


def make_inputs(args: argparse.Namespace, batch: int, sampling: str) -> tuple[Tensor, ...]:
    """Value, locations, weights: random, with gradients."""
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, args.dtype)
    M, L, P = args.heads, len(SHAPES), args.points
    S = sum(h * w for h, w in SHAPES)
    value = torch.randn(batch, S, M, args.channels, generator=generator).to(dtype)
    if sampling == 'near':
        centres = [torch.cartesian_prod(*(torch.arange(n) + 0.5 for n in s)) for s in SHAPES]
        centres = torch.cat([c / torch.tensor(s) for c, s in zip(centres, SHAPES)]).flip(-1)
        sizes = torch.tensor(SHAPES).flip(-1)[:, None]
        offsets = torch.randn(batch, S, M, L, P, 2, generator=generator) * 3 / sizes
        locations = centres[None, :, None, None, None] + offsets
    else:
        locations = torch.rand(batch, S, M, L, P, 2, generator=generator)
    weights = (
        torch.rand(batch, S, M, L * P, generator=generator).softmax(-1).view(batch, S, M, L, P)
    )
    if dtype == torch.float64:
        locations, weights = locations.double(), weights.double()
    return tuple(tensor.requires_grad_() for tensor in (value, locations, weights))


if __name__ == '__main__':
    main()
