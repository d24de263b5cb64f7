"""What benchmarks younger than the paper measure of a sentence, beside J and F.

MeViS version 2 asks whether sentences about nothing are told from others, Long-RVOS for the frames
that show the object, ReVOS for how little else is segmented. All are means over sentences; a
measure that has no meaning for a sentence is NaN, and left out of the mean.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Names of the measures, by protocol.
MEASURES = {'mevis-v2': ('N-acc', 'T-acc'), 'long-rvos': ('tIoU', 'vIoU'), 'revos': ('R',)}
# The kinds of sentences of which ReVOS's overall numbers are the mean.
REVOS_KINDS = ('referring', 'reasoning')


class Areas(NamedTuple):
    """Numbers of pixels on the T frames of a sentence, each (T,)."""

    pred: np.ndarray
    truth: np.ndarray
    outside: np.ndarray  # predicted, but not annotated
    foreground: np.ndarray  # of any annotated object of the video


def count_areas(pred: np.ndarray, truth: np.ndarray, foreground: np.ndarray | None = None) -> Areas:
    """Areas of bool masks (T, H, W), or of those of one frame; that of no foreground is 0."""
    foreground = np.zeros_like(truth) if foreground is None else foreground
    masks = (pred, truth, pred & ~truth, foreground)
    return Areas(*(np.count_nonzero(mask, (-2, -1)) for mask in masks))


def measure(protocol: str, j: np.ndarray, areas: Areas) -> dict[str, float]:
    """The measures of one sentence, see ``MEASURES``.

    Args:
        protocol: Its name.
        j: Region similarity of each frame, (T,).
        areas: Of the same frames, with ``foreground`` for ReVOS.
    """
    shown, true = areas.pred > 0, areas.truth > 0
    if protocol == 'mevis-v2':
        values = no_target_accuracy(shown, true)
    elif protocol == 'long-rvos':
        values = temporal_iou(shown, true), volume_iou(j, shown, true)
    else:
        values = (robustness(areas.outside, areas.foreground),)
    return dict(zip(MEASURES[protocol], values))


def no_target_accuracy(shown: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Whether one sentence is rightly answered with nothing, or with something: (N-acc, T-acc).

    Nothing is a video of empty masks. The one that does not apply is NaN, so that the means are
    TP / (TP + FN) and TN / (TN + FP), with "no target" as positive.

    Args:
        shown: Frames with a predicted mask, bool (T,).
        true: Frames with an annotated one, bool (T,).
    """
    right = float(shown.any() == true.any())
    return (math.nan, right) if true.any() else (right, math.nan)


def temporal_iou(shown: np.ndarray, true: np.ndarray) -> float:
    """Frames with both masks over frames with either, tIoU; 1 where there are none."""
    either = np.count_nonzero(shown | true)
    return np.count_nonzero(shown & true) / either if either else 1.0


def volume_iou(j: np.ndarray, shown: np.ndarray, true: np.ndarray) -> float:
    """Sum of J over the frames with both masks, over frames with either, vIoU; 1 where there are
    none."""
    either = np.count_nonzero(shown | true)
    return float(j[shown & true].sum()) / either if either else 1.0


def robustness(outside: np.ndarray, foreground: np.ndarray) -> float:
    """Mean over frames of one minus what is wrongly segmented, as a share of all objects, R."""
    return float(np.maximum(1 - outside / (foreground + 1e-6), 0).mean())


def averages(
    protocol: str | None, jf: float, scores: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Means over sentences, without those that apply to none of them.

    Args:
        protocol: Its name; None: there are no measures.
        jf: J&F of the same sentences.
        scores: Of :func:`measure`.

    Returns:
        The measures, and for MeViS version 2 ``final``, the mean of J&F and them.
    """
    columns = {name: [s[name] for s in scores] for name in MEASURES.get(protocol, ())}
    means = {
        name: float(np.nanmean(values))
        for name, values in columns.items()
        if not np.isnan(values).all()
    }
    if protocol == 'mevis-v2' and len(means) == 2:
        means['final'] = (jf + sum(means.values())) / 3
    return means


def revos_overall(rows: Mapping[str, dict[str, float]]) -> dict[str, float] | None:
    """The mean of the rows 'referring' and 'reasoning', of one where there is only one; None where
    there is neither."""
    parts = [rows[kind] for kind in REVOS_KINDS if kind in rows]
    if not parts:
        return None
    values = {key: [part[key] for part in parts if key in part] for key in parts[0] | parts[-1]}
    return {key: sum(found) / len(found) for key, found in values.items()}
