#!/usr/bin/env python
"""Compare this model with the official ReferFormer on stored numbers, one line for each case.

FIXTURES_DIR has the layout of ../shared/parity: weights.py, manifest_<backbone>.json and
<backbone>/<case>.npz, post/*.npz for the post-processing, trajectory/<backbone>.npz for training.
Its weights.py is run: use fixtures you trust.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch
from parity_cases import TOLERANCES, Case, Fixtures, Measures
from parity_post import check_post, post_cases
from parity_trajectory import check_trajectory, trajectories

from referformer.cli import user_errors

_SMALLEST_IOU = 0.98  # mean over the cases "clip" in bfloat16


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('fixtures', type=Path, metavar='FIXTURES_DIR')
    parser.add_argument(
        '--backend',
        choices=['auto', 'mmcv', 'csrc', 'torch'],
        default='auto',
        help='of the deformable attention (default: auto)',
    )
    parser.add_argument(
        '--dtype',
        choices=['float32', 'bfloat16'],
        default='float32',
        help='bfloat16 runs under autocast and compares binarised masks (mean IoU)',
    )
    parser.add_argument(
        '--cases',
        nargs='+',
        default=['*'],
        metavar='PATTERN',
        help='only these, such as resnet50/clip or "*/batch", "post/*" or "trajectory/*"',
    )
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the cases; exit code 1 if one is beyond its tolerance."""
    args = parse_args(argv)
    fixtures = Fixtures(args.fixtures, args.backend)
    names = [f'post/{name}' for name in post_cases(fixtures.root)]
    names += [f'trajectory/{name}' for name in trajectories(fixtures.root)]
    names = fixtures.cases() + (names if args.dtype == 'float32' else [])
    names = [name for name in names if any(fnmatch(name, pattern) for pattern in args.cases)]
    if not names:
        raise FileNotFoundError(f'{args.fixtures} has no case that fits {" ".join(args.cases)}')
    check = check_float32 if args.dtype == 'float32' else check_bfloat16
    sys.exit(0 if check(fixtures, names) else 1)


def check_float32(fixtures: Fixtures, names: Sequence[str]) -> bool:
    """Print the largest differences of each case; whether all are within their tolerances."""
    print('tolerances: ' + '  '.join(f'{key} {value:g}' for key, value in TOLERANCES.items()))
    failed = []
    for name in sorted(names, key=lambda n: (n.startswith(('post/', 'trajectory/')), n)):
        start = time.perf_counter()
        measures, note = run(fixtures, name)
        beyond = exceeded(measures)
        failed += [name] if beyond else []
        numbers = '  '.join(f'{key} {value:.1e}' for key, value in measures.items())
        verdict = f'FAILED ({", ".join(beyond)})' if beyond else 'ok'
        note = f'  ({note})' if 'grad' in beyond or ' ' in note else ''
        print(
            f'{name:<36} {numbers}  {time.perf_counter() - start:.1f} s  {verdict}{note}',
            flush=True,
        )
    print(f'{len(names) - len(failed)} of {len(names)} cases agree' + _list(failed))
    return not failed


def check_bfloat16(fixtures: Fixtures, names: Sequence[str]) -> bool:
    """Print the mean mask IoU of each case; whether that of the cases "clip" is high enough."""
    scores = {}
    for name in names:
        scores[name] = Case(fixtures, name).mask_iou(torch.bfloat16)
        print(f'{name:<36} mask IoU with float32 {scores[name]:.4f}', flush=True)
    clips = [score for name, score in scores.items() if name.endswith('/clip')] or list(
        scores.values()
    )
    mean = sum(clips) / len(clips)
    print(f'mean of the {len(clips)} clips {mean:.4f}, at least {_SMALLEST_IOU} wanted')
    return mean >= _SMALLEST_IOU


def run(fixtures: Fixtures, name: str) -> tuple[Measures, str]:
    """One case: its differences, and a note on the largest."""
    if name.startswith('post/'):
        return check_post(fixtures, name.removeprefix('post/')), ''
    if name.startswith('trajectory/'):
        return check_trajectory(fixtures, name.removeprefix('trajectory/'))
    return Case(fixtures, name).check()


def exceeded(measures: Measures) -> list[str]:
    """The measures beyond their tolerances."""
    return [key for key, value in measures.items() if not value <= TOLERANCES[key]]


def _list(names: Sequence[str]) -> str:
    return f'; beyond tolerance: {", ".join(names)}' if names else ''


if __name__ == '__main__':
    main()
