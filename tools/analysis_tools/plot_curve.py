#!/usr/bin/env python
"""Draw the loss and the J&F of a training: ``plot_curve.py WORK_DIR OUT.png``.

Several work dirs are the stages of one training, in their order.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from referformer.cli import user_errors
from referformer.engine.training_log import Curve, read_log
from referformer.files import atomic_write

# Okabe and Ito: blue and orange stay apart for colour-blind readers and in print.
RIGHT, SWAPPED, GREY = '#0072B2', '#D55E00', '#555555'


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


if __name__ == '__main__':
    main()
