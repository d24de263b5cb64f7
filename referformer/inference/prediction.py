"""What a model says about a clip and about a video.

Letters: n sentences, T frames, H W size of the frames on disk.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class ClipPrediction(NamedTuple):
    """What the model says about one clip: the best query of each sentence."""

    start: int  # number of the clip's first frame in the video
    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    scores: np.ndarray  # (n,)
    masks: np.ndarray  # (n, T, H, W) bool
    boxes: np.ndarray  # (n, T, 4) xyxy in pixels
    reference_points: np.ndarray  # (n, T, 2) xy in pixels
    frame_scores: np.ndarray  # (n, T), how sure the model is that the object is in the frame

    def hide(self, below: float = 0.0, presence_thr: float = 0.0) -> 'ClipPrediction':
        """The same with nothing found for the sentences that score less than ``below``, and in the
        frames that score less than ``presence_thr``."""
        low = (self.scores < below)[:, None] | (self.frame_scores < presence_thr)
        shown = ~low[..., None]
        return self._replace(
            masks=self.masks & shown[..., None],
            boxes=self.boxes * shown,
            reference_points=np.where(shown, self.reference_points, np.nan),
        )


class VideoPrediction:
    """Masks, boxes and scores of n sentences over a whole video; masks are kept compressed.

    Attributes:
        texts: The n sentences.
        fps: Frames per second.
        size: (h, w) of the frames.
        starts: Number of the first frame of every clip.
        files: What was written to disk, by what it is.
    """

    def __init__(self, texts: Sequence[str], fps: float, size: tuple[int, int]) -> None:
        self.texts = list(texts)
        self.fps = fps
        self.size = size
        self.starts: list[int] = []
        self.files: dict[str, Path] = {}
        self._scores: list[np.ndarray] = []
        self._frame_scores: list[np.ndarray] = []
        self._boxes: list[np.ndarray] = []
        self._points: list[np.ndarray] = []
        self._masks: list[list[bytes]] = [[] for _ in self.texts]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._masks[0])

    @property
    def scores(self) -> np.ndarray:
        """(clips, n), score of each sentence in each clip."""
        return np.stack(self._scores)

    @property
    def frame_scores(self) -> np.ndarray:
        """(n, frames), how sure the model is that the object is in the frame."""
        return np.concatenate(self._frame_scores, axis=1)

    @property
    def boxes(self) -> np.ndarray:
        """(n, frames, 4), xyxy in pixels."""
        return np.concatenate(self._boxes, axis=1)

    @property
    def reference_points(self) -> np.ndarray:
        """(n, frames, 2), xy in pixels; where the last decoder layer began to look."""
        return np.concatenate(self._points, axis=1)

    def masks(self, sentence: int) -> np.ndarray:
        """All masks of one sentence, bool (frames, H, W)."""
        return np.stack([self.mask(sentence, t) for t in range(len(self))])

    def mask(self, sentence: int, frame: int) -> np.ndarray:
        """The mask of one sentence in one frame, bool (H, W)."""
        bits = np.frombuffer(zlib.decompress(self._masks[sentence][frame]), np.uint8)
        H, W = self.size
        return np.unpackbits(bits, count=H * W).astype(bool).reshape(H, W)

    def append(self, clip: ClipPrediction) -> None:
        """Add the next clip."""
        self.starts.append(clip.start)
        self._scores.append(clip.scores)
        self._frame_scores.append(clip.frame_scores)
        self._boxes.append(clip.boxes)
        self._points.append(clip.reference_points)
        for kept, masks in zip(self._masks, clip.masks):
            kept += [zlib.compress(np.packbits(mask).tobytes(), 1) for mask in masks]
