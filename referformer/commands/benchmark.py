"""Measure time and memory here: medians, quartiles, the share of what the machine can multiply.

%(prog)s infer [CONFIG] --frames 4 8 16 --sentences 1 4 --shape 360 640 --dtype fp32 bf16
%(prog)s train [CONFIG] --frames 5
%(prog)s attention | scoring | loading
Several values of an option give a row for each. Inputs are noise, weights are random and of sound
scale (or those of --checkpoint). Other work on the machine counts: its load is noted.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..cli import OptionsAction, user_errors
from ..engine.device import check_device
from ..files import atomic_write, check_folder

_KINDS = ('infer', 'train', 'attention', 'scoring', 'loading')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('kind', choices=_KINDS)
    parser.add_argument(
        'config',
        nargs='?',
        default='configs/referformer_r50_ytvos.py',
        help='infer, train: config, or name of a model; default: %(default)s',
    )
    parser.add_argument('--checkpoint', help='infer, train: weights (default: random)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE')
    parser.add_argument('--frames', nargs='+', type=int, default=[5], metavar='T')
    parser.add_argument('--sentences', nargs='+', type=int, default=[1], metavar='N')
    parser.add_argument(
        '--shape', nargs=2, action='append', type=int, metavar=('H', 'W'), help='may be repeated'
    )
    parser.add_argument('--dtype', nargs='+', choices=('fp32', 'bf16', 'fp16'), default=['fp32'])
    parser.add_argument('--words', type=int, default=10, metavar='L', help='tokens of a sentence')
    parser.add_argument('--videos', type=int, default=8, help='scoring: how many')
    parser.add_argument('--clips', type=int, default=16, help='loading: clips of a round')
    parser.add_argument(
        '--processes', nargs='+', type=int, help='scoring (default: 1 2); loading: workers (1)'
    )
    parser.add_argument('--video', help='loading: frames to use (default: noise)')
    parser.add_argument('--device', default='auto', help='cpu, cuda, cuda:1, ...; default: auto')
    parser.add_argument('--threads', type=int, help="of PyTorch on a CPU; default: PyTorch's")
    parser.add_argument('--warmup', type=int, default=1, help='rounds before the first that counts')
    parser.add_argument('--repeats', type=int, default=5, help='rounds that count')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures there')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check, measure, print a line for each row."""
    args = parse_args(argv)
    _check(args)
    device = str(check_device(args.device))
    if args.threads:
        torch.set_num_threads(args.threads)
    from ..benchmark.measure import circumstances

    report = {'benchmark': args.kind, 'config': args.config, **circumstances(device), 'rows': []}
    rates = ', '.join(f'{name} {rate:.0f}' for name, rate in report['matmul_gflops'].items())
    print(
        f'{report["date"]}, {report["device"]}, {report["threads"]} threads, load '
        f'{report["load"]}, torch {report["torch"]}\nproducts of matrices, GFLOP/s: {rates}'
    )
    for row in _rows(args, device):
        if 'gflop' in row:
            row |= _shares(row, report['matmul_gflops'])
        report['rows'].append(row)
        print('\n'.join(_lines(row)), flush=True)
    if args.json:
        atomic_write(args.json, json.dumps(report, indent=1).encode())


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before long work."""
    args.shape = [tuple(shape) for shape in args.shape or [(360, 640)]]
    args.processes = args.processes or ([1] if args.kind == 'loading' else [1, 2])
    for option in ('frames', 'sentences', 'words', 'videos', 'clips', 'repeats', 'threads'):
        values = getattr(args, option)
        if min(values if isinstance(values, list) else [1 if values is None else values]) < 1:
            raise ValueError(f'--{option} must be at least 1')
    if min(map(min, args.shape)) < 32:
        raise ValueError('--shape must be at least 32 32')
    if args.warmup < 0 or min(args.processes) < (0 if args.kind == 'loading' else 1):
        raise ValueError('--warmup and --processes must not be negative, scoring needs a process')
    if args.kind == 'scoring' and args.frames[0] < 3:
        raise ValueError('--frames must be at least 3: the first and last of a video do not count')
    if args.json:
        check_folder(args.json.parent)


def _rows(args: argparse.Namespace, device: str) -> Iterator[dict[str, Any]]:
    rounds = {'warmup': args.warmup, 'repeats': args.repeats}
    if args.kind in ('infer', 'train'):
        from ..benchmark import models

        model = models.make_model(args.config, args.cfg_options, args.checkpoint, device)
        models.use_tokens(model, args.words)
        options = {'frames': args.frames, 'shapes': args.shape, 'dtypes': args.dtype, **rounds}
        if args.kind == 'train':
            return models.train(model, device, **options)
        return models.infer(model, device, sentences=args.sentences, **options)
    if args.kind == 'attention':
        from ..benchmark.attention import attention
        from ..benchmark.models import DTYPES

        types = [DTYPES[name] for name in args.dtype]
        return attention(device, args.frames, types, args.repeats)
    if args.kind == 'scoring':
        from ..benchmark.scoring import scoring

        return scoring(args.videos, args.frames[0], args.shape[0], args.processes, **rounds)
    from ..benchmark.loading import loading

    return loading(args.frames[0], args.clips, args.processes[0], args.video, **rounds)


def _shares(row: dict[str, Any], rates: dict[str, float]) -> dict[str, float]:
    """Operations a second, and as a share of the machine's best at this type."""
    best = max((rate for name, rate in rates.items() if name.startswith(row['dtype'])), default=0)
    speed = row['gflop'] / row['seconds']['median']
    return {'gflops': speed, 'share': speed / best} if best else {'gflops': speed}


def _lines(row: dict[str, Any]) -> Iterable[str]:
    """A row in words: what, seconds, memory, and below it the parts."""
    words = {name: value for name, value in row.items() if isinstance(value, (int, str))}
    yield ', '.join(f'{name} {value}' for name, value in words.items())
    for name, value in row.items():
        if isinstance(value, float):
            yield f'  {name.replace("_", " ")} {value:.3g}'
        elif name == 'parts':
            parts = (f'{part} {1e3 * found["median"]:.1f}' for part, found in value.items())
            yield f'  parts, ms: {", ".join(parts)}'
        elif name == 'memory':
            sizes = (f'{value[what] / 1e6:.0f} MB {what}' for what in ('beyond', 'total'))
            yield f'  memory at the peak: {", ".join(sizes)}'
        elif name not in words:
            middle, low, high = (1e3 * value[key] for key in ('median', 'low', 'high'))
            yield f'  {name.replace("_", " ")} {middle:.1f} ms ({low:.1f} to {high:.1f})'
