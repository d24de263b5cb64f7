"""Which frames the propagation of an object starts from."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class KeyFrames(NamedTuple):
    """Chooses the frames in which the model's mask can be trusted most.

    The quality of a frame is the product of three numbers in [0, 1], each to the power of its
    option; 0 leaves it out. Frames without a mask have quality 0 and are never chosen.

    Attributes:
        score: How sure the model is that the object is in the frame.
        certainty: How far the probabilities of the mask's pixels are above one half, where known.
        stability: IoU with the masks of the frames beside it, their mean.
        count: So many key frames at most.
        gap: They are at least so many frames apart.
    """

    score: float = 1.0
    certainty: float = 1.0
    stability: float = 1.0
    count: int = 1
    gap: int = 10

    def quality(
        self, masks: np.ndarray, scores: np.ndarray, certainty: np.ndarray | None = None
    ) -> np.ndarray:
        """Quality of every frame, (T,).

        Args:
            masks: Bool, (T, H, W).
            scores: (T,) in [0, 1].
            certainty: (T,) in [0, 1]; None: not known.
        """
        certainty = np.ones(len(masks)) if certainty is None else certainty
        parts = (scores, certainty, _stability(masks))
        powers = (self.score, self.certainty, self.stability)
        quality = np.prod([np.asarray(x, float) ** p for x, p in zip(parts, powers)], 0)
        return quality * masks.any((1, 2))

    def choose(self, quality: np.ndarray, known: tuple[int, ...] = ()) -> list[int]:
        """The best frames in order of time, no two of them near each other.

        Args:
            quality: (T,).
            known: Key frames that there are already; these are added to.
        """
        left, chosen = np.array(quality, float), list(known)
        for t in chosen:
            left[max(0, t - self.gap + 1) : t + self.gap] = 0
        for _ in range(self.count):
            best = int(left.argmax()) if len(left) else 0
            if not len(left) or left[best] <= 0:
                break
            chosen.append(best)
            left[max(0, best - self.gap + 1) : best + self.gap] = 0
        return sorted(chosen)


def _stability(masks: np.ndarray) -> np.ndarray:
    """Mean IoU of every mask with those before and after it, (T,); 1 where there is no other."""
    T = len(masks)
    if T == 1:
        return np.ones(1)
    pairs = np.array([iou(a, b) for a, b in pairwise(masks)])
    both = np.concatenate([pairs[:1], pairs, pairs[-1:]])
    return (both[:-1] + both[1:]) / 2


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of two masks; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0
