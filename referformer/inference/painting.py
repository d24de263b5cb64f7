"""Videos and pictures of a result, written clip by clip, so that a video of any length fits.

Letters: n sentences, H W size of the frames.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..files import naming
from ..video_io import FrameSource, VideoWriter
from ..visualization import EvenSample, contact_sheet, draw_tile, overlay, palette

if TYPE_CHECKING:
    from .prediction import ClipPrediction, VideoPrediction

Paint = Callable[['ClipPrediction', int], np.ndarray]  # of frame t of a clip
_PENDING = 64  # pictures that may wait to be written


class Recorder:
    """Paints on every frame of the clips it gets, into videos and folders, as a context manager.

    Args:
        names: Names of the frames; None: their numbers.
        fps: Frames per second of the videos.
        size: (h, w) of the frames.
        like: What the frames come from; videos keep its times and sound.
    """

    def __init__(
        self,
        names: Sequence[str] | None,
        fps: float,
        size: tuple[int, int],
        like: FrameSource | None = None,
    ) -> None:
        self.names, self.fps, self.size, self.like = names, fps, size, like
        self._videos: list[tuple[VideoWriter, Paint]] = []
        self._folders: list[tuple[Path, str, Paint]] = []
        self._pending: deque[Future] = deque()

    def video(self, path: Path, paint: Paint) -> None:
        """Make a video."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._videos.append(
            (self._stack.enter_context(VideoWriter(path, self.fps, self.size, self.like)), paint)
        )

    def pictures(self, folder: Path, paint: Paint, suffix: str = '.png') -> None:
        """Make a folder with a picture of every frame."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folders.append((folder, suffix, paint))

    def name(self, index: int) -> str:
        """Name of a frame."""
        return f'{index:05d}' if self.names is None else self.names[index]

    def write(self, clip: 'ClipPrediction') -> None:
        """Paint the next clip."""
        for t in range(len(clip.frames)):
            for video, paint in self._videos:
                video.write(paint(clip, t))
            for folder, suffix, paint in self._folders:
                path = folder / f'{self.name(clip.start + t)}{suffix}'
                self._pending.append(self._pool.submit(_write, path, paint, clip, t))
            while len(self._pending) > _PENDING:
                self._pending.popleft().result()

    def __enter__(self) -> 'Recorder':
        self._stack = ExitStack().__enter__()
        self._pool = ThreadPoolExecutor(2)
        return self

    def __exit__(self, kind: type | None, *details: Any) -> None:
        try:
            self._stack.__exit__(kind, *details)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        while kind is None and self._pending:
            self._pending.popleft().result()


class Sheet:
    """A contact sheet of evenly spaced frames."""

    def __init__(self, result: 'VideoPrediction', boxes: bool = True, frames: int = 12) -> None:
        self.result, self.boxes = result, boxes
        self.colors = palette(len(result.texts))
        self._tiles: EvenSample[tuple[int, np.ndarray]] = EvenSample(frames)

    def write(self, clip: 'ClipPrediction') -> None:
        """Take what is needed from the next clip."""
        for t, frame in enumerate(clip.frames):
            if self._tiles.wants(clip.start + t):
                tile = draw_tile(frame, clip.masks[:, t], *_marks(clip, t, self.boxes), self.colors)
                self._tiles.add((clip.start + t, tile))

    def image(self) -> np.ndarray:
        """The sheet, when ``result`` is whole."""
        numbers, tiles = zip(*self._tiles.result())
        names = self.result.frame_names
        labels = [f'frame {names[number]}' for number in numbers]
        notes = [', '.join(filter(None, (f'score {s.span}', s.absence))) for s in self.result]
        return contact_sheet(
            tiles, labels, self.result.texts, self.colors, notes, remarks=self.result.remarks
        )


def plain(clip: 'ClipPrediction', t: int) -> np.ndarray:
    """The frame as it is."""
    return clip.frames[t]


def drawn(texts: Sequence[str], boxes: bool = True) -> Paint:
    """The frame with everything that was found."""
    colors = palette(len(texts))

    def paint(clip: 'ClipPrediction', t: int) -> np.ndarray:
        return overlay(clip.frames[t], clip.masks[:, t], *_marks(clip, t, boxes), texts, colors)

    return paint


def masked(kind: str, sentence: int | None = None) -> Paint:
    """Pictures made with a mask: of one sentence, or of all together.

    Args:
        kind: ``mask``: 0 and 255, (H, W). ``matte``: the same as RGB, for videos. ``cutout``: the
            object on black. ``rgba``: on nothing, (H, W, 4).
        sentence: Its number; None: all of them.
    """

    def paint(clip: 'ClipPrediction', t: int) -> np.ndarray:
        masks, frame = clip.masks[:, t], clip.frames[t]
        mask = (masks.any(0) if sentence is None else masks[sentence]).astype(np.uint8)
        if kind == 'cutout':
            return frame * mask[..., None]
        alpha = mask * 255
        if kind == 'rgba':
            return np.dstack([frame, alpha])
        return np.dstack([alpha] * 3) if kind == 'matte' else alpha

    return paint


def _marks(clip: 'ClipPrediction', t: int, boxes: bool) -> tuple[np.ndarray | None, ...]:
    return (clip.boxes[:, t], clip.reference_points[:, t]) if boxes else (None, None)


def _write(path: Path, paint: Paint, clip: 'ClipPrediction', t: int) -> None:
    options = {'quality': 95} if path.suffix == '.jpg' else {}
    with naming(path):
        Image.fromarray(paint(clip, t)).save(path, **options)
