"""Whether the right thing was found: shares of sentences instead of means of overlaps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.logging import MMLogger

from referformer.registry import METRICS
from referformer.structures import control_of

from ..measures.region_boundary import region_similarity
from .collect import KeyedMetric, instance_masks

_COLUMNS = ('found', 'found_swapped', 'no_mask')


@dataclass(frozen=True)
class Found:
    """What became of one sentence; NaN where it does not apply."""

    video_id: str
    exp_id: str
    kind: str | None
    found: float = math.nan
    found_swapped: float = math.nan
    no_mask: float = math.nan
    control: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """(video_id, exp_id), and what it is a control of."""
        return self.video_id, self.exp_id, *filter(None, [self.control])

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f'Expression {self.exp_id} of video {self.video_id}'

    def difference(self, other: 'Found') -> str:
        """How another score of the same expression contradicts this one, empty where it agrees."""
        return '' if repr(self) == repr(other) else f'{self} and {other}'


@METRICS.register_module()
class FoundMetric(KeyedMetric):
    """Shares of sentences in percent, of all and of each kind.

    Keys, each of them also with ``_<kind>`` behind it:

    - ``found``: sentences whose mask overlaps the right one by more than half (mean IoU of the
      frames);
    - ``found_swapped``: the same predictions against the control, things of the same category that
      the sentence does not mean, where samples bring ``gt_control``;
    - ``no_mask``: sentences about what is not there that leave at least 90 % of the frames empty.
    """

    default_prefix = ''

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Reduce each sample to its scores; samples as for :class:`VOSMetric`."""
        self.results.extend(_score(sample) for sample in data_samples)

    def compute_metrics(self, results: list[Found]) -> dict[str, float]:
        """Average and log the table."""
        scores = self.unique(results)
        kinds = sorted({s.kind for s in scores} - {None})
        groups = {'all': scores} | {k: [s for s in scores if s.kind == k] for k in kinds}
        rows = {name: _averages(group) for name, group in groups.items()}
        width = max(map(len, rows))
        lines = [' '.join([f'{"":{width}}', *(f'{c:>13}' for c in _COLUMNS)]) + ' expressions']
        for name, row in rows.items():
            cells = (f'{f"{row[c]:.2f}" if c in row else "-":>13}' for c in _COLUMNS)
            lines.append(' '.join([f'{name:{width}}', *cells, f'{len(groups[name]):11}']))
        MMLogger.get_current_instance().info('\n'.join(['Found, in percent', *lines]))
        suffixes = {name: '' if name == 'all' else f'_{name}' for name in rows}
        return {f'{key}{suffixes[name]}': v for name, row in rows.items() for key, v in row.items()}


def _score(sample: dict) -> Found:
    ids = str(sample['video_id']), str(sample['exp_id'])
    pred, gt = instance_masks(sample, 'pred_instances'), instance_masks(sample, 'gt_instances')
    if pred is None or gt is None:
        raise ValueError(
            f'expression {ids[1]} of video {ids[0]} needs pred_instances.masks and '
            'gt_instances.masks to be scored'
        )
    mask, target = pred[0], gt.any(0)
    if not target.any():
        empty = (~mask.any((1, 2))).mean()
        absent = float(empty >= 0.9)
        return Found(*ids, sample.get('kind'), no_mask=absent, control=control_of(sample))
    control = instance_masks(sample, 'gt_control')
    swapped = math.nan
    if control is not None and len(control) > 0:
        swapped = float(region_similarity(mask, control.any(0)).mean() > 0.5)
    return Found(
        *ids,
        sample.get('kind'),
        found=float(region_similarity(mask, target).mean() > 0.5),
        found_swapped=swapped,
        control=control_of(sample),
    )


def _averages(scores: list[Found]) -> dict[str, float]:
    row = {}
    for column in _COLUMNS:
        values = [getattr(s, column) for s in scores]
        values = [v for v in values if not math.isnan(v)]
        if values:
            row[column] = 100 * sum(values) / len(values)
    return row
