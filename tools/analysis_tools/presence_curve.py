#!/usr/bin/env python
"""What a threshold of the frame scores (presence_thr) costs and brings:
``presence_curve.py CONFIG [CHECKPOINT] --out OUT.png``.

Over the test set of the config, with sentences about objects that are not in their video besides,
for every threshold: J&F of the sentences about objects that are there; and how many frames get a
mask though the object is out of view, or is not in the video at all.
"""

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.runner import Runner
from torch import nn
from tqdm import tqdm

from referformer.apis import init_model
from referformer.cli import OptionsAction, user_errors
from referformer.evaluation.measures.region_boundary import (
    boundary_radius,
    boundary_score,
    find_boundary,
    region_similarity,
)
from referformer.files import atomic_write
from referformer.structures import ABSENT

PRESENT, LEFT, AWAY = '#0072B2', '#E69F00', '#D55E00'  # Okabe and Ito


class Frames(NamedTuple):
    """The T frames of one sentence, with the masks of threshold 0."""

    absent: bool  # whether the sentence is about an object that is not in the video
    scores: np.ndarray  # (T,)
    jf: np.ndarray  # (T,), J&F with the mask
    jf_without: np.ndarray  # (T,), J&F with an empty mask
    shown: np.ndarray  # (T,) bool, the object is in the frame
    found: np.ndarray  # (T,) bool, the mask has a pixel


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Predict once, then apply every threshold."""
    parser = argparse.ArgumentParser(
        description=__doc__.replace('`', ''), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file or name of a model')
    parser.add_argument('checkpoint', nargs='?', help='default: that of the named model')
    parser.add_argument('--out', required=True, help='picture to write, .png; beside it .json')
    parser.add_argument(
        '--absent-kinds', nargs='+', default=['appearance'], help='kinds of the absent sentences'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, help='changes to the config, key=value'
    )
    parser.add_argument('--device', default='auto', help='cpu, cuda, cuda:1, ...; default: auto')
    parser.add_argument('--overwrite', action='store_true', help='OUT may replace earlier files')
    args = parser.parse_args(argv)
    out = Path(args.out)
    if out.suffix != '.png':
        raise ValueError(f'{out}: expected a name that ends in .png')
    if out.exists() and not args.overwrite:
        raise FileExistsError(f'{out} is already there; name another file, or add --overwrite')
    model = init_model(args.config, args.checkpoint, args.device, args.cfg_options)
    default = model.test_cfg['presence_thr']
    curve = thresholds(watch(model, args.absent_kinds))
    content = {'config': args.config, 'presence_thr': default, 'curve': curve}
    atomic_write(out.with_suffix('.json'), json.dumps(content, indent=1).encode())
    atomic_write(out, draw(curve, default))
    print('threshold     J&F  found: out of view  found: not in video  (percent)')
    for row in curve[::5]:
        print(
            f'{row["threshold"]:9.2f} {row["J&F"]:7.2f} {row["left"]:19.1f} {row["absent"]:20.1f}'
        )
    print(f'wrote {out} and {out.with_suffix(".json")}')


def watch(model: nn.Module, absent_kinds: Sequence[str]) -> list[Frames]:
    """Every sentence of the test set, and those about objects that are not there."""
    model.test_cfg['presence_thr'] = 0.0
    loader = model.cfg.test_dataloader
    loader.dataset.update(shuffled_kinds=(), absent_kinds=tuple(absent_kinds))
    found = []
    for batch in tqdm(Runner.build_dataloader(loader), unit='clip'):
        found += [_measure(sample.to_dict()) for sample in model.test_step(batch)]
    return found


def _measure(sample: dict) -> Frames:
    pred = sample['pred_instances']['masks'][0].cpu().numpy()
    truth = sample['gt_instances']['masks'].any(0).cpu().numpy()
    radius = boundary_radius(*pred.shape[1:])
    boundaries = [find_boundary(mask, radius) for mask in truth]

    def score(masks: np.ndarray) -> np.ndarray:
        pairs = zip(masks, boundaries)
        f = [boundary_score(find_boundary(mask, radius), boundary) for mask, boundary in pairs]
        return (region_similarity(masks, truth) + f) / 2

    return Frames(
        sample['obj_id'] == ABSENT,
        sample['pred_instances']['frame_scores'][0].cpu().numpy(),
        score(pred),
        score(np.zeros_like(pred)),
        truth.any((1, 2)),
        pred.any((1, 2)),
    )


def thresholds(sentences: Sequence[Frames]) -> list[dict[str, float]]:
    """Rows of ``threshold``, and in percent ``J&F``, ``left``, ``absent``."""
    present = [s for s in sentences if not s.absent]
    absent = [s for s in sentences if s.absent]

    def found(group: list[Frames], threshold: float) -> float:
        wrong = [(s.found & (s.scores >= threshold))[~s.shown] for s in group]
        return 100 * float(np.concatenate(wrong).mean())

    rows = []
    for threshold in np.linspace(0, 1, 101):
        jf = [np.where(s.scores >= threshold, s.jf, s.jf_without).mean() for s in present]
        rows.append(
            {
                'threshold': round(float(threshold), 2),
                'J&F': 100 * float(np.mean(jf)),
                'left': found(present, threshold),
                'absent': found(absent, threshold),
            }
        )
    return rows


def draw(curve: Sequence[dict[str, float]], default: float) -> bytes:
    """The picture of the rows that ``thresholds`` gives, a PNG."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout='constrained')
    x = [row['threshold'] for row in curve]
    for key, label, colour, style in (
        ('J&F', 'J&F, objects that are there', PRESENT, '-'),
        ('left', 'frames found while the object is out of view', LEFT, '--'),
        ('absent', 'frames found of objects that are not in the video', AWAY, '-.'),
    ):
        axis.plot(x, [row[key] for row in curve], style, color=colour, linewidth=1.8, label=label)
    axis.axvline(default, color='0.6', linewidth=1)
    axis.annotate(
        f'presence_thr = {default:g}',
        (default, 100),
        xytext=(4, 2),
        textcoords='offset points',
        color='0.4',
    )
    axis.set(xlabel='threshold of the frame score', ylabel='percent', xlim=(0, 1), ylim=(0, 106))
    axis.grid(axis='y', color='0.9')
    axis.spines[['top', 'right']].set_visible(False)
    axis.legend(frameon=False, loc='upper center', bbox_to_anchor=(0.5, -0.17))
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=150)
    plt.close(figure)
    return buffer.getvalue()


if __name__ == '__main__':
    main()
