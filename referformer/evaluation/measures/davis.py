"""The two DAVIS-2017 protocols on label maps: unsupervised and semi-supervised.

Ref-DAVIS17 is scored with the unsupervised one. A label map holds the id of the object at every
pixel: 0 = background, 255 = void (annotations only). T frames, N annotated objects, P predicted
ones.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from .label_maps import pairwise_scores
from .region_boundary import boundary_radius, statistics

VOID = 255
# T frames, (H, W) uint8 each, or one array (T, H, W). An iterator is asked for frame after frame.
LabelMaps = Iterable[np.ndarray]


class SequenceScore(NamedTuple):
    """J and F of every annotated object of one video, in the order of ``pred_ids``."""

    gt_ids: np.ndarray  # (N,)
    pred_ids: np.ndarray  # (N,), the predicted object that was compared with it
    j: np.ndarray  # (N, T)
    f: np.ndarray  # (N, T)


def score_unsupervised(gt: LabelMaps, pred: LabelMaps, max_objects: int = 20) -> SequenceScore:
    """Assign predicted objects to annotated ones, one to one, so that J&F is best.

    Void pixels do not count.

    Args:
        gt: Annotated label maps. Objects are those up to the largest id of the first frame; ids
            that appear only later are ignored.
        pred: Predicted label maps, in which an id is the same object in every frame.
        max_objects: Most predicted objects that the protocol allows.
    """
    j, f, P = _all_pairs(gt, pred, skip_void=True)
    if max_objects < P:
        raise ValueError(f'DAVIS allows {max_objects} predicted objects in a video, got {P}.')
    rows, columns = linear_sum_assignment(-(j.mean(-1) + f.mean(-1)))
    return SequenceScore(columns + 1, rows + 1, j[rows, columns], f[rows, columns])


def score_semi_supervised(gt: LabelMaps, pred: LabelMaps) -> SequenceScore:
    """Compare objects of the same id, without the first and last frame.

    As in the public scorer, void pixels count as background here.

    Args:
        gt: Annotated label maps.
        pred: Predicted label maps with the ids of the annotation.
    """
    j, f, P = _all_pairs(gt, pred, skip_void=False)
    _, N, T = j.shape
    if P > N:
        raise ValueError(f'The first frame has {N} annotated objects, the prediction {P}.')
    if T < 3:
        raise ValueError(f'Without the first and last frame nothing is left of {T} frames.')
    same = np.arange(N)
    return SequenceScore(same + 1, same + 1, j[same, same, 1:-1], f[same, same, 1:-1])


def score_davis(
    sequences: Mapping[str, tuple[LabelMaps, LabelMaps]],
    score: Callable[[LabelMaps, LabelMaps], SequenceScore] = score_unsupervised,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Score a dataset.

    Args:
        sequences: (annotated, predicted) label maps by the name of the video.
        score: The protocol.

    Returns:
        averages: ``J&F-Mean``, ``J-Mean``, ``J-Recall``, ``J-Decay`` and those of F in [0, 1],
            means over all objects.
        objects: The same without ``J&F-Mean`` by object, ``<video>_<number>``; numbers count the
            rows of ``SequenceScore`` from 1, in the unsupervised protocol they are not object ids.
    """
    if not sequences:
        raise ValueError('There are no sequences to score.')
    objects = {}
    for name, (gt, pred) in sequences.items():
        result = score(gt, pred)
        for i, (j, f) in enumerate(zip(result.j, result.f), start=1):
            objects[f'{name}_{i}'] = {
                f'{measure}-{statistic}': value
                for measure, values in (('J', j), ('F', f))
                for statistic, value in zip(('Mean', 'Recall', 'Decay'), statistics(values))
            }
    names = next(iter(objects.values()))
    averages = {name: float(np.mean([row[name] for row in objects.values()])) for name in names}
    return {'J&F-Mean': (averages['J-Mean'] + averages['F-Mean']) / 2} | averages, objects


def _all_pairs(
    gt: LabelMaps, pred: LabelMaps, skip_void: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """J and F of every predicted object against every annotated one.

    Args:
        gt: Annotated label maps.
        pred: Predicted label maps.
        skip_void: Void pixels do not count, instead of being background.

    Returns:
        j, f: (max(P, N), N, T) each; every annotated object has a partner, if only an empty one.
        P: Largest predicted id.
    """
    frames: list[tuple[np.ndarray, np.ndarray]] = []
    for theirs, ours in zip_longest(gt, pred, fillvalue=np.empty(0)):
        if not frames:
            N, shape = _count_objects(theirs), theirs.shape
        if {(m.shape, str(m.dtype)) for m in (theirs, ours)} != {(shape, 'uint8')}:
            got = ' and '.join(f'{m.dtype} {m.shape}' for m in (theirs, ours))
            raise ValueError(
                f'All label maps must be uint8 and have the same shape, got {got} where the first '
                f'one has {shape}.'
            )
        void = theirs == VOID
        if void.any():
            theirs, ours = theirs * ~void, ours * ~(void & skip_void)
        # The object after the last one stands for all that are empty on this frame.
        count = int(ours.max()) + 1
        frames.append(pairwise_scores(ours, theirs, count, N, boundary_radius(*shape)))
    if not frames:
        raise ValueError('There are no label maps.')
    P = max(len(j) for j, _ in frames) - 1
    rows = [np.minimum(np.arange(max(P, N)), len(j) - 1) for j, _ in frames]
    j, f = (np.stack([x[i] for x, i in zip(part, rows)], -1) for part in zip(*frames))
    return j, f, P


def _count_objects(gt: np.ndarray) -> int:
    """Largest id of the first annotated frame, void excluded."""
    N = int(gt.max(initial=0, where=gt != VOID))
    if N == 0:
        raise ValueError('The first annotated frame has no object.')
    return N
