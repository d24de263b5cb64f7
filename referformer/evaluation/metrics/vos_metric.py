"""J&F of referring video object segmentation, per expression and per kind of sentence."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger

from referformer.files import atomic_write
from referformer.registry import METRICS
from referformer.structures import box_iou, control_of

from ..measures.protocols import (
    MEASURES,
    REVOS_KINDS,
    averages,
    count_areas,
    measure,
    revos_overall,
)
from ..measures.region_boundary import (
    boundary_radius,
    boundary_score,
    find_boundary,
    region_similarity,
)
from .collect import KeyedMetric, instance_masks

# Order of the rows of the table; other kinds follow in alphabetical order.
_KINDS = ('appearance', 'motion', 'relation')
# Scores of one expression computed twice differ by a few pixels at most.
_SAME_SCORE = 0.01


@dataclass(frozen=True)
class ExpressionScore:
    """Scores of one expression in one video, means over its frames in [0, 1]."""

    video_id: str
    exp_id: str
    kind: str | None
    frames: int
    j: float
    f: float
    # The same prediction against another object of the video; NaN without one.
    j_swapped: float = math.nan
    f_swapped: float = math.nan
    # 'shuffled' where the frames came in random order, 'absent' where the object is not there.
    control: str | None = None
    without: int = 0  # frames that do not show the object
    wrongly_found: int = 0  # those of them that have a mask
    box_iou: float = math.nan  # in the frames that show it; NaN without boxes or such frames
    measures: Mapping[str, float] = field(default_factory=dict)  # of the protocol

    @property
    def key(self) -> tuple[str, ...]:
        """What tells scores apart: (video_id, exp_id), and what it is a control of."""
        return self.video_id, self.exp_id, *filter(None, [self.control])

    @property
    def group(self) -> str | None:
        """The row of the table it belongs to, besides that of all."""
        return '_'.join(filter(None, (self.kind, self.control))) or None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f'Expression {self.exp_id} of video {self.video_id}'

    def difference(self, other: 'ExpressionScore') -> str:
        """How another score of the same expression contradicts this one, empty where it agrees."""
        if max(abs(self.j - other.j), abs(self.f - other.f)) <= _SAME_SCORE:
            return ''
        return f'J {self.j:.4f} and {other.j:.4f}'

    @property
    def jf(self) -> float:
        """J&F against the right object."""
        return (self.j + self.f) / 2

    @property
    def jf_swapped(self) -> float:
        """J&F against the other object."""
        return (self.j_swapped + self.f_swapped) / 2


@METRICS.register_module()
class VOSMetric(KeyedMetric):
    """Region similarity J, boundary measure F and their mean J&F, in percent.

    Each expression has the mean over its frames; all expressions weigh the same. An expression
    scored more than once (padding of the distributed sampler) counts once.

    Where samples bring ``gt_control``, the masks of another object of the same video, the same
    prediction is also scored against that object. A model that ignores the sentence scores as well
    there: ``gap``, the J&F of the right object minus ``J&F_swapped`` over the expressions that have
    a control, is what listening brings. One table is logged per evaluation.

    Sentences that come a second time with the frames of their video in random order (a dataset's
    ``shuffled_kinds``) are in no mean but that of their own group, ``<kind>_shuffled``: what a
    model loses there it owes to watching. So are sentences about objects that their video does not
    show (``absent_kinds``), ``<kind>_absent``.

    Keys: ``J``, ``F``, ``J&F``; with control masks ``J_swapped``, ``F_swapped``, ``J&F_swapped``,
    ``gap``; ``wrongly_found``, the share of the frames without the object that have a mask, where
    there are such frames; where samples bring boxes ``box_IoU``, of the query's box and that of the
    true mask in the frames that have one; and each of these with ``_<group>`` behind it for each
    kind of sentence.

    With a ``protocol`` also its measures (``evaluation/measures/protocols.py``): of 'mevis-v2'
    ``N-acc``, ``T-acc`` and ``final``, of 'long-rvos' ``tIoU`` and ``vIoU``, of 'revos' ``R``,
    where the keys without a kind are means of the kinds 'referring' and 'reasoning', and samples
    bring ``gt_foreground``.

    Where the dataset's metainfo has ``expected``, a list of (video_id, exp_id), every one must have
    been scored, else the evaluation ends with a ``ValueError``.

    Args:
        tolerance: How far boundaries may lie apart, as a fraction of the frame's diagonal.
        outfile_prefix: Write the scores of every expression to
            ``<outfile_prefix>per_expression.csv``, replacing an earlier one.
        protocol: Of a benchmark that measures more: 'mevis-v2', 'long-rvos' or 'revos'.
        kwargs: ``collect_device``, ``prefix``, ``collect_dir`` of ``BaseMetric``.
    """

    default_prefix = ''

    def __init__(
        self,
        tolerance: float = 0.008,
        outfile_prefix: str | None = None,
        protocol: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if protocol is not None and protocol not in MEASURES:
            raise ValueError(f'protocol must be one of {", ".join(MEASURES)}, not {protocol!r}')
        self.protocol = protocol
        self.tolerance = tolerance
        self.csv_file = None
        if outfile_prefix is not None:
            self.csv_file = Path(f'{outfile_prefix}per_expression.csv')
            # A folder that cannot be made fails now, not after the evaluation.
            self.csv_file.parent.mkdir(parents=True, exist_ok=True)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each sample to its scores.

        Args:
            data_batch: Not used.
            data_samples: ``RVOSDataSample.to_dict()`` of every sample, with
                ``pred_instances.masks`` (1, T', H0, W0), ``gt_instances.masks`` (N, T', H0, W0),
                of which the union is the target, and optionally ``gt_control.masks``
                (1, T', H0, W0) and ``pred_instances.boxes`` (1, T', 4), xyxy px.
        """
        self.results.extend(self._score(sample) for sample in data_samples)

    def compute_metrics(self, results: list[ExpressionScore]) -> dict[str, float]:
        """Average the scores, log the table and write the file."""
        scores = self.unique(results)
        names = {s.group for s in scores} - {None}
        groups = {'all': [s for s in scores if not s.control]} | {
            name: [s for s in scores if s.group == name]
            for name in [k for k in _KINDS if k in names] + sorted(names - {*_KINDS})
        }
        if self.protocol == 'revos':  # those about nothing are a row of their own
            groups['all'] = [s for s in groups['all'] if s.kind in REVOS_KINDS] or groups['all']
        rows = {name: _averages(group, self.protocol) for name, group in groups.items()}
        if self.protocol == 'revos':
            rows['all'] = revos_overall(rows) or rows['all']
        MMLogger.get_current_instance().info(_table(rows, groups))
        if self.csv_file is not None:
            atomic_write(self.csv_file, _format_csv(scores, self.protocol).encode())
        per_kind = {
            f'{key}_{name}': value
            for name, row in rows.items()
            if name != 'all'
            for key, value in row.items()
        }
        return rows['all'] | per_kind

    def _score(self, sample: dict) -> ExpressionScore:
        name = f'expression {sample["exp_id"]} of video {sample["video_id"]}'
        gt = instance_masks(sample, 'gt_instances')
        if gt is None or len(gt) == 0:
            raise ValueError(
                f'{name} has no annotated masks, so it cannot be scored here. A split without '
                'annotations, like the official valid split, is scored by its server: write '
                'a submission of its masks instead of using VOSMetric.'
            )
        pred = instance_masks(sample, 'pred_instances')
        if pred is None or len(pred) != 1:
            raise ValueError(
                f'{name} needs one predicted mask per frame, pred_instances.masks (1, T, H, W), '
                f'got {"none" if pred is None else pred.shape}. Keep the best query only.'
            )
        targets = [gt.any(0)]
        control = instance_masks(sample, 'gt_control')
        if control is not None and len(control) > 0:
            targets.append(control.any(0))
        for target in targets:
            if target.shape != pred[0].shape:
                raise ValueError(
                    f'{name} has predicted masks of shape {pred[0].shape}, annotated ones of '
                    f'{target.shape}; both must be (T, H, W) at the original size.'
                )
        numbers = _score_masks(pred[0], targets, self.tolerance)
        measures = self._measure(sample, pred[0], targets[0]) if self.protocol else {}
        without = ~targets[0].any((1, 2))
        ids = str(sample['video_id']), str(sample['exp_id'])
        return ExpressionScore(
            *ids,
            sample.get('kind'),
            len(pred[0]),
            *numbers,
            control=control_of(sample),
            without=int(without.sum()),
            wrongly_found=int(pred[0][without].any((1, 2)).sum()),
            box_iou=_box_overlap(sample['pred_instances'], targets[0]),
            measures=measures,
        )

    def _measure(self, sample: dict, pred: np.ndarray, target: np.ndarray) -> dict[str, float]:
        foreground = instance_masks(sample, 'gt_foreground')
        if self.protocol == 'revos' and foreground is None:
            raise ValueError(
                f'expression {sample["exp_id"]} of video {sample["video_id"]} has no '
                'gt_foreground, which R needs: the masks of all objects, as ReVOS gives them.'
            )
        areas = count_areas(pred, target, None if foreground is None else foreground.any(0))
        return measure(self.protocol, region_similarity(pred, target), areas)


def _score_masks(pred: np.ndarray, targets: Sequence[np.ndarray], tolerance: float) -> list[float]:
    """J and F of ``pred`` (T, H, W) against each target, one pair of numbers after the other."""
    T, H, W = pred.shape
    radius = boundary_radius(H, W, tolerance)
    pred_boundaries = [find_boundary(mask, radius) for mask in pred]
    numbers = []
    for target in targets:
        numbers.append(float(region_similarity(pred, target).mean()))
        boundaries = (find_boundary(mask, radius) for mask in target)
        numbers.append(sum(map(boundary_score, pred_boundaries, boundaries)) / T)
    return numbers


def _box_overlap(pred: Mapping, target: np.ndarray) -> float:
    """Mean IoU of the boxes and those of the masks (T, H, W), in frames that have a mask."""
    visible = np.flatnonzero(target.any((1, 2)))
    if 'boxes' not in pred or not len(visible):
        return math.nan
    rows, columns = target.any(2)[visible], target.any(1)[visible]
    sides = [
        (along.argmax(1), along.shape[1] - 1 - along[:, ::-1].argmax(1))
        for along in (columns, rows)
    ]
    (left, right), (top, bottom) = sides
    truth = torch.from_numpy(np.stack([left, top, right, bottom], 1)).float()
    return float(box_iou(pred['boxes'][0].float().cpu()[visible], truth)[0].mean())


def _averages(scores: list[ExpressionScore], protocol: str | None) -> dict[str, float]:
    """Means over expressions in percent; those of the swapped scores only where there are any."""

    def mean(values: list[float]) -> float:
        return 100 * sum(values) / len(values)

    row = {
        'J': mean([s.j for s in scores]),
        'F': mean([s.f for s in scores]),
        'J&F': mean([s.jf for s in scores]),
    }
    controlled = [s for s in scores if not math.isnan(s.j_swapped)]
    if controlled:
        row |= {
            'J_swapped': mean([s.j_swapped for s in controlled]),
            'F_swapped': mean([s.f_swapped for s in controlled]),
            'J&F_swapped': mean([s.jf_swapped for s in controlled]),
            'gap': mean([s.jf - s.jf_swapped for s in controlled]),
        }
    measures = [s.measures for s in scores]
    row |= {k: 100 * v for k, v in averages(protocol, row['J&F'] / 100, measures).items()}
    boxed = [s.box_iou for s in scores if not math.isnan(s.box_iou)]
    if boxed:
        row['box_IoU'] = mean(boxed)
    without = sum(s.without for s in scores)
    if without:
        row['wrongly_found'] = 100 * sum(s.wrongly_found for s in scores) / without
    return row


def _table(rows: dict[str, dict[str, float]], groups: dict[str, list[ExpressionScore]]) -> str:
    """The averages as text, a row for each group of expressions."""
    columns = ['J', 'F', 'J&F', 'J&F_swapped', 'gap', 'wrongly_found', 'box_IoU']
    columns += [key for key in rows['all'] if key == 'final' or key in sum(MEASURES.values(), ())]
    width = max(map(len, rows))
    lines = [
        ' '.join([f'{"":{width}}', *(f'{c.replace("_", " "):>{max(11, len(c))}}' for c in columns)])
        + ' expressions'
    ]
    for name, row in rows.items():
        cells = (f'{f"{row[c]:.2f}" if c in row else "-":>{max(11, len(c))}}' for c in columns)
        lines.append(' '.join([f'{name:{width}}', *cells, f'{len(groups[name]):11}']))
    scores = groups['all']
    uncontrolled = sum(math.isnan(s.j_swapped) for s in scores)
    if 0 < uncontrolled < len(scores):
        lines.append(f'{uncontrolled} expressions without a control: not in J&F swapped and gap.')
    return '\n'.join(['Scores in percent, means over expressions', *lines])


def _format_csv(scores: list[ExpressionScore], protocol: str | None) -> str:
    """One line per expression, in percent."""
    header = ['video_id', 'exp_id', 'kind', 'frames', 'J', 'F', 'J&F']
    header += [
        'J_swapped',
        'F_swapped',
        'J&F_swapped',
        'frames_without',
        'wrongly_found',
        'box_IoU',
        *MEASURES.get(protocol, ()),
    ]
    file = io.StringIO(newline='')
    writer = csv.writer(file)
    writer.writerow(header)
    for s in scores:
        numbers = (s.j, s.f, s.jf, s.j_swapped, s.f_swapped, s.jf_swapped)
        cells, others = (
            ['' if math.isnan(x) else f'{100 * x:.4f}' for x in part]
            for part in (numbers, (s.box_iou, *s.measures.values()))
        )
        frames = (s.without, s.wrongly_found)
        writer.writerow([s.video_id, s.exp_id, s.group or '', s.frames, *cells, *frames, *others])
    return file.getvalue()
