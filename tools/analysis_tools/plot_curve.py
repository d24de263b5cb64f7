#!/usr/bin/env python
"""Draw the loss and the J&F of a training: ``plot_curve.py WORK_DIR OUT.png``.

Several work dirs are the stages of one training, in their order.
"""

import argparse
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from referformer.cli import user_errors
from referformer.files import atomic_write

# Okabe and Ito: blue and orange stay apart for colour-blind readers and in print.
RIGHT, SWAPPED, GREY = '#0072B2', '#D55E00', '#555555'

Curve = list[tuple[int, float]]  # (iteration, value) pairs


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read the log, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.replace('`', ''))
    parser.add_argument('work_dirs', nargs='+', help='work dirs of tools/train.py')
    parser.add_argument('out', help='picture to write (.png, .pdf, .svg)')
    parser.add_argument(
        '--overwrite', action='store_true', help='OUT may replace an earlier picture'
    )
    args = parser.parse_args(argv)
    out = Path(args.out)
    if out.suffix not in ('.png', '.pdf', '.svg'):
        raise ValueError(f'{out}: expected a name that ends in .png, .pdf or .svg')
    if out.exists() and not args.overwrite:
        raise FileExistsError(f'{out} is already there; name another file, or add --overwrite')
    stages = [read_log(Path(work_dir)) for work_dir in args.work_dirs]
    atomic_write(out, draw(stages, out.suffix[1:]))
    print(f'wrote {out}')


def read_log(work_dir: Path) -> tuple[Curve, dict[str, Curve]]:
    """The curves of the newest run in ``work_dir``, with the runs it was resumed from.

    Returns:
        (iteration, loss) pairs; for 'J&F' and 'J&F_swapped', (iteration, percent) pairs.

    Raises:
        FileNotFoundError: There is no log.
        ValueError: The log has no loss yet.
    """
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not logs:
        raise FileNotFoundError(
            f'no log in {work_dir}: expected <time stamp>/vis_data/scalars.json, '
            'as tools/train.py writes it'
        )
    starts = [i for i, log in enumerate(logs) if not _resumed(log)]
    losses: dict[int, float] = {}
    scores: dict[str, dict[int, float]] = {}
    for log in logs[starts[-1] if starts else 0 :]:
        # MMEngine numbers validations by epoch or by iteration, as configured: here each belongs
        # to the iteration logged before it.
        iteration = 0
        for row in _rows(log):
            if 'loss' in row:
                # A run that was resumed from an older checkpoint goes over some iterations again.
                iteration = row['iter']
                losses[iteration] = row['loss']
            for name, value in row.items():
                name = name.rsplit('/')[-1]  # without the prefix a config may give its metric
                if name in ('J&F', 'J&F_swapped') and math.isfinite(value):
                    scores.setdefault(name, {})[iteration] = value
    if not losses:
        raise ValueError(f'{logs[-1]} has no loss yet; wait for the first line of the training log')
    return sorted(losses.items()), {name: sorted(curve.items()) for name, curve in scores.items()}


def draw(stages: Sequence[tuple[Curve, dict[str, Curve]]], file_format: str) -> bytes:
    """The picture: the loss; beside it J&F against the object that is meant and another one.

    Args:
        stages: What ``read_log`` gives, for each stage of the training.
        file_format: As matplotlib knows it.
    """
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    panels = 2 if any(scores for _, scores in stages) else 1
    figure, axes = plt.subplots(
        1, panels, figsize=(5.2 * panels, 3.6), squeeze=False, layout='constrained'
    )
    loss_axis = axes[0, 0]
    loss_axis.set_title('Training loss', loc='left', fontweight='bold')
    loss_axis.set_ylabel('loss (smoothed by the logger)')
    start = 0
    for losses, scores in stages:
        iterations, values = zip(*losses)
        loss_axis.plot([start + i for i in iterations], values, color=GREY, linewidth=1.8)
        if scores:
            _draw_scores(axes[0, 1], scores, start)
        start += iterations[-1]
        for axis in axes.flat:
            axis.axvline(start, color='0.8', linewidth=1)
    if panels == 2:
        axes[0, 1].set_title('J&F on the validation videos', loc='left', fontweight='bold')
        axes[0, 1].set_ylabel('J&F in percent')
        handles, labels = axes[0, 1].get_legend_handles_labels()
        unique = dict(zip(labels, handles))
        axes[0, 1].legend(
            unique.values(),
            unique.keys(),
            title='predicted masks compared with',
            frameon=False,
            loc='best',
        )
    for axis in axes.flat:
        axis.set_xlabel('iteration')
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.grid(axis='y', color='0.9')
        axis.spines[['top', 'right']].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=150)
    plt.close(figure)
    return buffer.getvalue()


def _draw_scores(axis, scores: dict[str, Curve], start: int) -> None:
    for name, label, colour, style in (
        ('J&F', 'the object the sentence means', RIGHT, '-'),
        ('J&F_swapped', 'another object of the video', SWAPPED, '--'),
    ):
        if name not in scores:
            continue
        points = [(start + iteration, value) for iteration, value in scores[name]]
        axis.plot(
            *zip(*points), style, color=colour, linewidth=1.8, marker='o', markersize=4, label=label
        )
        axis.annotate(
            f'{points[-1][1]:.1f}',
            points[-1],
            xytext=(0, 6),
            textcoords='offset points',
            color=colour,
            ha='right',
        )


def _resumed(log: Path) -> bool:
    config = log.with_name('config.py')
    return config.is_file() and re.search(r'^resume = True', config.read_text(), re.M) is not None


def _rows(log: Path) -> list[dict]:
    rows = []
    for line in log.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a run that was killed can leave half a line at the end
    return rows


if __name__ == '__main__':
    main()
