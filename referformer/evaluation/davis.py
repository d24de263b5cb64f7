"""The two DAVIS-2017 protocols on label maps: unsupervised and semi-supervised.

Ref-DAVIS17 is scored with the unsupervised one. A label map holds the id of the object at every
pixel: 0 = background, 255 = void (annotations only). T frames, N annotated objects, P predicted
ones.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from .functional import boundary_radius, boundary_score, find_boundary, statistics

VOID = 255


class SequenceScore(NamedTuple):
    """J and F of every annotated object of one video, in the order of ``pred_ids``."""

    gt_ids: np.ndarray  # (N,)
    pred_ids: np.ndarray  # (N,), the predicted object that was compared with it
    j: np.ndarray  # (N, T)
    f: np.ndarray  # (N, T)


def score_unsupervised(gt: np.ndarray, pred: np.ndarray, max_objects: int = 20) -> SequenceScore:
    """Assign predicted objects to annotated ones, one to one, so that J&F is best.

    Void pixels do not count.

    Args:
        gt: Annotated label maps, (T, H, W). Objects are those up to the largest id of the first
            frame; ids that appear only later are ignored.
        pred: Predicted label maps, (T, H, W), in which an id is the same object in every frame.
        max_objects: Most predicted objects that the protocol allows.
    """
    N, P = _count_objects(gt, pred)
    if max_objects < P:
        raise ValueError(f'DAVIS allows {max_objects} predicted objects in a video, got {P}.')
    void = gt == VOID
    gt, pred = np.where(void, 0, gt), np.where(void, 0, pred)
    # Every annotated object needs a partner, if only an empty one.
    P = max(N, P)
    j, f = _all_pairs(gt, pred, N, P)
    rows, columns = linear_sum_assignment(-(j.mean(-1) + f.mean(-1)))
    return SequenceScore(columns + 1, rows + 1, j[rows, columns], f[rows, columns])


def score_semi_supervised(gt: np.ndarray, pred: np.ndarray) -> SequenceScore:
    """Compare objects of the same id, without the first and last frame.

    As in the public scorer, void pixels count as background here.

    Args:
        gt: Annotated label maps, (T, H, W).
        pred: Predicted label maps, (T, H, W), with the ids of the annotation.
    """
    N, P = _count_objects(gt, pred)
    if P > N:
        raise ValueError(f'The first frame has {N} annotated objects, the prediction {P}.')
    if len(gt) < 3:
        raise ValueError(f'Without the first and last frame nothing is left of {len(gt)} frames.')
    gt = np.where(gt == VOID, 0, gt)
    same = np.arange(N)
    j, f = _all_pairs(gt[1:-1], pred[1:-1], N, N, only_same=True)
    return SequenceScore(same + 1, same + 1, j[same, same], f[same, same])


def score_davis(
    sequences: Mapping[str, tuple[np.ndarray, np.ndarray]],
    score: Callable[[np.ndarray, np.ndarray], SequenceScore] = score_unsupervised,
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


def _count_objects(gt: np.ndarray, pred: np.ndarray) -> tuple[int, int]:
    """Largest id of the first annotated frame, void excluded, and of all predicted frames."""
    if gt.shape != pred.shape or gt.ndim != 3 or len(gt) == 0:
        raise ValueError(
            f'Label maps must have the same shape (T, H, W), got {gt.shape} and {pred.shape}.'
        )
    N = int(gt[0].max(initial=0, where=gt[0] != VOID))
    if N == 0:
        raise ValueError('The first annotated frame has no object.')
    return N, int(pred.max())


def _all_pairs(
    gt: np.ndarray, pred: np.ndarray, N: int, P: int, only_same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every predicted object against every annotated one, (P, N, T) each."""
    T, H, W = gt.shape
    radius = boundary_radius(H, W)
    j, f = np.zeros((P, N, T)), np.zeros((P, N, T))
    for t in range(T):
        j[..., t] = _pairwise_iou(gt[t], pred[t], N, P)
        ours = [find_boundary(pred[t] == p, radius) for p in range(1, P + 1)]
        theirs = [find_boundary(gt[t] == n, radius) for n in range(1, N + 1)]
        for p, n in np.ndindex(P, N):
            if not only_same or p == n:
                f[p, n, t] = boundary_score(ours[p], theirs[n])
    return j, f


def _pairwise_iou(gt: np.ndarray, pred: np.ndarray, N: int, P: int) -> np.ndarray:
    """IoU of every predicted with every annotated object of one frame, (P, N), 1 if both are empty.

    One joint histogram of the two label maps has all intersections and all areas.
    """
    size = max(int(gt.max()), N) + 1
    pairs = pred.astype(np.int64) * size + gt
    counts = np.bincount(pairs.ravel(), minlength=(P + 1) * size).reshape(P + 1, size)
    inter = counts[1:, 1 : N + 1]
    union = counts.sum(1)[1:, None] + counts.sum(0)[None, 1 : N + 1] - inter
    return np.divide(inter, union, out=np.ones((P, N)), where=union > 0)
