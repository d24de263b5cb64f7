#!/usr/bin/env python
"""Draw the loss and the J&F of a training: ``plot_curve.py WORK_DIR OUT.png``."""

import argparse
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from referformer.cli import user_errors
from referformer.engine.checkpoint import atomic_write

# Okabe and Ito: blue and orange stay apart for colour-blind readers and in print.
RIGHT, SWAPPED, GREY = '#0072B2', '#D55E00', '#555555'


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read the log, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.replace('`', ''))
    parser.add_argument('work_dir', help='work dir of tools/train.py')
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
    losses, scores = read_log(Path(args.work_dir))
    atomic_write(out, draw(losses, scores, out.suffix[1:]))
    print(f'wrote {out}')


def read_log(work_dir: Path) -> tuple[list[tuple[int, float]], dict[str, list[tuple[int, float]]]]:
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


def draw(
    losses: Sequence[tuple[int, float]],
    scores: dict[str, Sequence[tuple[int, float]]],
    file_format: str,
) -> bytes:
    """The picture: the loss; beside it J&F against the object that is meant and another one."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    curves = [
        (scores[name], label, colour, style)
        for name, label, colour, style in (
            ('J&F', 'the object the sentence means', RIGHT, '-'),
            ('J&F_swapped', 'another object of the video', SWAPPED, '--'),
        )
        if name in scores
    ]
    panels = 2 if curves else 1
    figure, axes = plt.subplots(
        1, panels, figsize=(5.2 * panels, 3.6), squeeze=False, layout='constrained'
    )
    loss_axis = axes[0, 0]
    loss_axis.plot(*zip(*losses), color=GREY, linewidth=1.8)
    loss_axis.set_title('Training loss', loc='left', fontweight='bold')
    loss_axis.set_ylabel('loss (smoothed by the logger)')
    loss_axis.set_ylim(bottom=0)
    if curves:
        _draw_scores(axes[0, 1], curves)
    for axis in axes.flat:
        axis.set_xlabel('iteration')
        axis.set_xlim(left=0)
        axis.grid(axis='y', color='0.9')
        axis.spines[['top', 'right']].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=file_format, dpi=150)
    plt.close(figure)
    return buffer.getvalue()


def _draw_scores(axis, curves: Sequence[tuple]) -> None:
    for points, label, colour, style in curves:
        axis.plot(
            *zip(*points), style, color=colour, linewidth=1.8, marker='o', markersize=4, label=label
        )
        axis.annotate(
            f'{points[-1][1]:.1f}',
            points[-1],
            xytext=(6, 0),
            textcoords='offset points',
            color=colour,
            va='center',
        )
    axis.set_title('J&F on the validation videos', loc='left', fontweight='bold')
    axis.set_ylabel('J&F in percent')
    axis.set_ylim(
        bottom=0, top=1.1 * max(value for points, *_ in curves for _, value in points) or 1
    )
    axis.legend(title='predicted masks compared with', frameon=False, loc='lower right')


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
