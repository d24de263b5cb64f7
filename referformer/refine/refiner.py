"""From the model's masks to refined ones: key frames, propagation, re-detection, fusion.

Letters: n sentences, T frames, H W size of the frames.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..registry import PROPAGATORS, build
from .key_frame import KeyFrames, iou
from .propagator import Propagator
from .samples import refine_samples

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..structures import RVOSDataSample

FUSIONS = ('propagated', 'surer')


class Refined(NamedTuple):
    """What came out for n sentences."""

    masks: np.ndarray  # (n, T, H, W) bool
    scores: np.ndarray  # (n, T), how sure the propagator is
    key_frames: list[list[int]]  # of each sentence; none where the model found nothing


@PROPAGATORS.register_module()
class Refiner:
    """Propagates the model's masks from its best frames.

    Args:
        propagator: What carries them; a ``Propagator`` or its config.
        key_frames: Arguments of ``KeyFrames``.
        fuse: Which mask a frame gets. 'propagated': the propagated one, as in the published
            post-processing; 'surer': that too where it and the model's overlap by half or more,
            else the one whose number is higher: the frame's quality or the propagator's score.
        lost: Where the propagator's score is below this, and the model's quality above it, the
            object was lost: the best such frame becomes another key frame.
        rounds: How often that is tried.
    """

    def __init__(
        self,
        propagator: Propagator | dict,
        key_frames: dict | None = None,
        fuse: str = 'surer',
        lost: float = 0.3,
        rounds: int = 1,
    ) -> None:
        if fuse not in FUSIONS:
            raise ValueError(f'refine.fuse must be one of {", ".join(FUSIONS)}, not {fuse!r}.')
        self.propagator = build(propagator, PROPAGATORS)
        try:
            self.key_frames = KeyFrames(**(key_frames or {}))
        except TypeError as error:
            raise ValueError(f'refine.key_frames: {error}') from None
        self.fuse, self.lost, self.rounds = fuse, lost, rounds

    @classmethod
    def from_config(cls, refine: 'dict | Refiner') -> 'Refiner':
        """From ``dict(type='FlowPropagator', key_frames=..., fuse=..., ...)``: what is not an
        argument of this class is the propagator's."""
        if isinstance(refine, cls):
            return refine
        if 'type' not in refine:
            raise ValueError("refine needs type, such as dict(type='FlowPropagator').")
        ours = ('key_frames', 'fuse', 'lost', 'rounds')
        return cls(
            {key: value for key, value in refine.items() if key not in ours},
            **{key: refine[key] for key in ours if key in refine},
        )

    def __call__(
        self,
        frames: Iterable[np.ndarray],
        masks: np.ndarray,
        frame_scores: np.ndarray,
        certainty: np.ndarray | None = None,
    ) -> Refined:
        """Refine the masks of one video.

        Args:
            frames: RGB uint8 (T, H, W, 3), or what gives them again each time it is iterated.
            masks: The model's, bool (n, T, H, W).
            frame_scores: (n, T), how sure it is that the object is there.
            certainty: (n, T), see ``KeyFrames``.
        """
        n, T = masks.shape[:2]
        certain = [None] * n if certainty is None else certainty
        quality = np.stack(
            [self.key_frames.quality(*one) for one in zip(masks, frame_scores, certain)]
        )
        keys = [self.key_frames.choose(one) for one in quality]
        found, scores = self._propagate(frames, masks, keys)
        for _ in range(self.rounds):
            missed = np.where((scores < self.lost) & (quality > self.lost), quality, 0)
            more = [self.key_frames._replace(count=1).choose(*x) for x in zip(missed, keys)]
            if more == keys:
                break
            keys = more
            found, scores = self._propagate(frames, masks, keys)
        if self.fuse == 'surer':
            for i in range(n):
                for t in range(T):
                    a, b = masks[i, t], found[i, t]
                    if quality[i, t] > scores[i, t] and iou(a, b) < 0.5:
                        found[i, t] = a
        return Refined(found, scores, keys)

    def refine_samples(
        self, inputs: 'Tensor', data_samples: Sequence['RVOSDataSample'], preprocessor: 'nn.Module'
    ) -> None:
        """Refine what a model predicts; see ``samples.refine_samples``."""
        refine_samples(self, inputs, data_samples, preprocessor)

    def _propagate(
        self, frames: Iterable[np.ndarray], masks: np.ndarray, keys: list[list[int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks and scores of all sentences; of those without a key frame empty."""
        found, scores = np.zeros_like(masks), np.zeros(masks.shape[:2], np.float32)
        some = [i for i, one in enumerate(keys) if one]
        if some:
            objects = [{t: masks[i, t] for t in keys[i]} for i in some]
            found[some], scores[some] = self.propagator.propagate(frames, objects)
        return found, scores
