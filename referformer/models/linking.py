"""One object over overlapping windows of a video.

Letters: Q queries, T frames of a window, H W size of the frames.
"""

from collections.abc import Iterator

import torch
from mmengine.structures import InstanceData

# How much full agreement with the mask so far counts, in units of a query's score.
_LOYALTY = 0.5
# With less agreement it is another object that is followed from here on.
_SAME = 0.3


def overlap_of(window: int) -> int:
    """Frames that a window shares with the one before: a sixth, at least one."""
    return max(1, window // 6)


def window_starts(num_frames: int, window: int, overlapping: bool) -> Iterator[int]:
    """First frames of the windows of a video, ``window`` 0: one for all.

    Overlapping ones all have their full length: the last one shares more with the one before.
    """
    step = (window - overlap_of(window) if overlapping else window) or num_frames
    for start in range(0, num_frames, step):
        if not overlapping or start + window < num_frames:
            yield start
        else:
            yield max(0, num_frames - window)
            return


class QueryLink:
    """Follows the object of one sentence from window to window.

    Queries of different windows have nothing to do with each other. The one goes on whose mask
    agrees with what was found in the frames that both windows have, and whose score is high.
    """

    def __init__(self) -> None:
        self._masks: torch.Tensor | None = None
        self._end = 0

    def follow(self, found: InstanceData, start: int) -> tuple[InstanceData, bool]:
        """Choose the query that goes on.

        Args:
            found: All queries of the next window: ``scores`` (Q,), ``masks`` (Q, T, H, W) bool,
                other fields (Q, T, ...).
            start: Number of its first frame.

        Returns:
            The chosen one in the frames that no window had before (1, T_new, ...), and whether it
            is another object than the one in the frames before: the link is locked anew.
        """
        shared = self._end - start if self._masks is not None else 0
        best, relocked = found.scores.argmax(), False
        if shared and self._masks[-shared:].any():
            last, now = self._masks[-shared:], found.masks[:, :shared]
            common = (now & last).flatten(1).sum(1)
            agreement = common / (now | last).flatten(1).sum(1)
            best = (found.scores + _LOYALTY * agreement).argmax()
            relocked = bool(agreement[best] < _SAME and found.masks[best, :shared].any())
        best = int(best)
        self._masks, self._end = found.masks[best], start + found.masks.shape[1]
        fields = [name for name in found.keys() if name != 'scores']  # noqa: SIM118
        kept = {name: found[name][best : best + 1, shared:] for name in fields}
        return InstanceData(scores=found.scores[best : best + 1], **kept), relocked
