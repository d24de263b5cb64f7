#!/usr/bin/env python
"""Time the scoring of DAVIS masks on disk against the public scorer, scaled to this machine.

python tools/benchmark/score.py --data ../shared/metrics/davis_real

The folder has truth/, proposals/, tracked/ and expected.json: what the public scorer gives, the
seconds that took, and its seconds for F of one pair of masks. Here F of a pair is timed again, in
turn with ours, in that scorer's form without its copies of the masks, so rather too fast; this
scales its seconds. Ours are for all that tools/score.py does with the masks: checking, reading,
scoring.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from referformer.cli import user_errors
from referformer.evaluation import boundary_measure, boundary_radius
from referformer.evaluation.scoring.mask_files import read_mask
from referformer.evaluation.scoring.videos import Job, davis_jobs, run_jobs, summarise

PROTOCOLS = {'unsupervised': 'proposals', 'semi-supervised': 'tracked'}
YARDSTICK = 'reference seconds for one boundary measure of one pair of 854x480 masks'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', required=True, type=Path, help='folder, see above')
    parser.add_argument('--repeats', type=int, default=9, help='rounds; the median is printed')
    parser.add_argument('--nproc', type=int, default=2, help='processes to compare one with')
    parser.add_argument(
        '--copies', type=int, default=20, help='times that the processes score every video'
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Print a line for each protocol, and one about processes."""
    args = parse_args()
    cv2.setNumThreads(1)
    expected = json.loads((args.data / 'expected.json').read_text())
    pair = [read_mask(args.data / f'{kind}/judo/00000.png') == 1 for kind in ('truth', 'tracked')]
    if abs(plain_boundary_measure(*pair) - boundary_measure(*pair)) > 1e-12:
        raise ValueError('the two forms of F disagree')
    print(f'medians of {args.repeats} interleaved rounds, seconds')
    print(f'{"protocol":<16} {"ours":>7} {"yardstick":>10} {"reference":>10} {"ratio":>6}')
    for protocol, folder in PROTOCOLS.items():
        reference = expected[f'{protocol}: {folder} against truth']
        jobs = davis_jobs(args.data / folder, args.data / 'truth', protocol == 'semi-supervised')
        check(jobs, reference['J&F'])
        ours, yardstick = interleave(
            args.repeats, lambda jobs=jobs: score(jobs), lambda: time_plain_form(*pair)
        )
        scale = reference['reference_seconds'] / expected[YARDSTICK]
        ratios = [scale * plain / seconds for seconds, plain in zip(ours, yardstick)]
        print(
            f'{protocol:<16} {statistics.median(ours):>7.3f} {statistics.median(yardstick):>10.5f} '
            f'{scale * statistics.median(yardstick):>10.2f} {statistics.median(ratios):>6.1f}'
        )
    many = davis_jobs(args.data / 'proposals', args.data / 'truth') * args.copies
    one, several = interleave(3, lambda: usage(many, 1), lambda: usage(many, args.nproc))
    speed, work = np.median(np.divide(one, several), axis=0)
    print(
        f'{args.nproc} processes, {len(many)} videos: {speed:.2f} times as fast as one, '
        f'in {1 / work:.2f} times its CPU time'
    )


def plain_boundary_measure(pred: np.ndarray, gt: np.ndarray) -> float:
    """F of a pair of masks, bool (H, W), as the public scorer has it: whole frames, a full disk."""
    radius = boundary_radius(*gt.shape)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.uint8)
    lines, near = [], []
    for mask in (pred, gt):
        right, below, corner = (np.zeros_like(mask) for _ in range(3))
        right[:, :-1], below[:-1], corner[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
        line = (mask ^ right) | (mask ^ below) | (mask ^ corner)
        line[-1], line[:, -1] = mask[-1] ^ right[-1], mask[:, -1] ^ below[:, -1]
        line[-1, -1] = False
        lines.append(line)
        near.append(cv2.dilate(line.astype(np.uint8), disk))
    if not all(line.any() for line in lines):
        return float(lines[0].any() == lines[1].any())
    precision = np.sum(lines[0] * near[1]) / np.sum(lines[0])
    recall = np.sum(lines[1] * near[0]) / np.sum(lines[1])
    return float(2 * precision * recall / max(precision + recall, 1e-300))


def time_plain_form(*pair: np.ndarray) -> float:
    """Mean seconds for one pair, over about the time that ours takes."""
    start = time.perf_counter()
    for _ in range(30):
        plain_boundary_measure(*pair)
    return (time.perf_counter() - start) / 30


def check(jobs: list[Job], expected: float) -> None:
    """Score once, which also warms up.

    Raises:
        ValueError: If the result is not that of the public scorer.
    """
    found = summarise(run_jobs(jobs, progress=False)[0])['J&F-Mean']
    if abs(found - expected) > 1e-9:
        raise ValueError(f'J&F is {found}, the public scorer gives {expected}')


def score(jobs: list[Job], nproc: int = 1) -> float:
    """Seconds to check, read and score."""
    start = time.perf_counter()
    run_jobs(jobs, nproc, progress=False)
    return time.perf_counter() - start


def usage(jobs: list[Job], nproc: int) -> tuple[float, float]:
    """Seconds and CPU seconds, of all processes together."""
    before = os.times()
    seconds = score(jobs, nproc)
    return seconds, sum(os.times()[:4]) - sum(before[:4])


def interleave(repeats: int, *clocks: Callable[[], Any]) -> list[tuple]:
    """Call all clocks in turn, so that other work on the machine slows all of them alike."""
    return list(zip(*[[clock() for clock in clocks] for _ in range(repeats)]))


if __name__ == '__main__':
    main()
