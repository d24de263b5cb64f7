"""How much of a video is seen at once: all of it, independent windows, or a stream of linked ones.

Letters: H W size of the frames on disk.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..models.linking import overlap_of

DEFAULT_WINDOW = 36
MODES = ('whole', 'window', 'stream')


class Mode(NamedTuple):
    """A mode with its number of frames; ``choose_mode`` makes valid ones."""

    name: str  # of MODES
    window: int  # frames that are seen together; 0: all

    @property
    def overlap(self) -> int:
        """Frames that a window shares with the one before."""
        return overlap_of(self.window) if self.name == 'stream' else 0

    @property
    def delay(self) -> int:
        """A frame's masks are there when at most so many frames after it have been read."""
        return self.window - 1

    def __str__(self) -> str:
        """Words for the user."""
        if self.name == 'whole':
            return 'mode whole'
        if self.name == 'window':
            return f'mode window={self.window}'
        return (
            f'mode stream, window={self.window}, overlap={self.overlap}: a frame leaves at most '
            f'{self.delay} frames after it came'
        )

    def divide(self, frames: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Windows of a video of any length, of which no more than one is held.

        Args:
            frames: (H, W, 3), in order.

        Yields:
            Number of the first frame, and the frames (T, H, W, 3): all ``window`` long, but the
            last one where windows are independent, and a stream that is shorter than one.
        """
        held: list[np.ndarray] = []
        start = new = 0
        for frame in frames:
            held.append(frame)
            new += 1
            if len(held) < self.window or not self.window:
                continue
            if self.name == 'stream' and len(held) > self.window:
                del held[0]
                start += 1
            if self.name == 'window' or not start or new == self.window - self.overlap:
                yield start, np.stack(held)
                if self.name == 'window':
                    held, start = [], start + self.window
                new = 0
        if new:
            yield start, np.stack(held)


def choose_mode(name: str | None = None, window: int | None = None) -> Mode:
    """The mode that a user means.

    Args:
        name: Of ``MODES``; None: what ``window`` says.
        window: Frames that are seen together, 0 for all; None: 36 where it matters.

    Raises:
        ValueError: If there is no such mode, or mode and window contradict each other.
    """
    if window is not None and window < 0:
        raise ValueError(
            f'the window must be a number of frames, or 0 for the whole video, got {window}.'
        )
    if name is None:
        name = 'whole' if window == 0 else 'window'
    if name not in MODES:
        raise ValueError(f'there is no mode {name!r}; there are: {", ".join(MODES)}.')
    if name == 'whole':
        if window:
            raise ValueError(f'mode whole sees all frames: leave out the window of {window}.')
        return Mode('whole', 0)
    window = DEFAULT_WINDOW if window is None else window
    least = 2 if name == 'stream' else 1
    if window < least:
        raise ValueError(f'mode {name} needs a window of at least {least} frames, got {window}.')
    return Mode(name, window)
