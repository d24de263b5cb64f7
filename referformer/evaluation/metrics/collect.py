"""What metrics of referring segmentation share: results that are told apart by a key."""

import sys
from typing import Any, Protocol, TypeVar

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger


class KeyedResult(Protocol):
    """What a metric keeps of one sample, or of one frame of it."""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells results apart; begins with (video_id, exp_id)."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def difference(self, other: Any) -> str:
        """How another result of the same key contradicts this one; empty where it does not."""


Result = TypeVar('Result', bound=KeyedResult)


class KeyedMetric(BaseMetric):
    """A metric whose results have keys: repeats count once, and none of the dataset may be missing.

    Where the dataset's metainfo has ``expected``, a list of (video_id, exp_id) or of whole keys,
    each of them must have been scored.
    """

    def evaluate(self, size: int) -> dict:
        """Collect the results of all processes and compute the metrics; ``size`` is not used.

        The base class keeps the first ``size`` results, which drops the padding of the default
        sampler but results with the repeats of any other. Here nothing is cut off: repeats are
        found by their key.
        """
        return super().evaluate(sys.maxsize)

    def unique(self, results: list[Result]) -> list[Result]:
        """The first result of every key, sorted by key, once all that is expected is there."""
        kept: dict[tuple[str, ...], Result] = {}
        for result in results:
            difference = kept.setdefault(result.key, result).difference(result)
            if difference:
                MMLogger.get_current_instance().warning(
                    f'{result.name} was scored twice, with different results ({difference}); '
                    'the first one counts.'
                )
        if not kept:
            name = type(self).__name__
            raise ValueError(f'{name} has nothing to score: the dataset gave no samples.')
        self._check_complete(kept)
        return [kept[key] for key in sorted(kept)]

    def _check_complete(self, kept: dict[tuple[str, ...], Any]) -> None:
        expected = (self.dataset_meta or {}).get('expected')
        if expected is None:
            return
        scored = {key[:length] for key in kept for length in range(2, len(key) + 1)}
        missing = {tuple(map(str, key)) for key in expected} - scored
        if missing:
            some = ', '.join('/'.join(key) for key in sorted(missing)[:5])
            raise ValueError(
                f'{len(missing)} of {len(expected)} expressions were not scored: {some}'
                f'{", ..." if len(missing) > 5 else ""}. The averages would not be those of the '
                'dataset; check that the data loader visits all of it.'
            )


def instance_masks(sample: dict, field: str) -> np.ndarray | None:
    """Masks of one group of instances as a bool array, None where the sample has none."""
    masks = sample.get(field, {}).get('masks')
    if masks is None:
        return None
    return np.asarray(masks.cpu() if hasattr(masks, 'cpu') else masks, dtype=bool)
