"""What a model says about a clip and about a video.

Letters: n sentences, T frames, H W size of the frames on disk.
"""

from collections.abc import Iterator, Sequence
from copy import copy
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from ..video_io import FrameSource
from . import export, writer
from .coco import read_coco, to_coco
from .sources import open_source


class ClipPrediction(NamedTuple):
    """What the model says about one clip: the best query of each sentence."""

    start: int  # number of the clip's first frame in the video
    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    scores: np.ndarray  # (n,)
    masks: np.ndarray  # (n, T, H, W) bool
    boxes: np.ndarray  # (n, T, 4) xyxy in pixels
    reference_points: np.ndarray  # (n, T, 2) xy in pixels
    frame_scores: np.ndarray  # (n, T), how sure the model is that the object is in the frame
    relocked: np.ndarray | None = None  # (n,), a stream follows another object from here on

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
    """Masks, boxes and scores of n sentences over a whole video; masks are kept as run lengths.

    >>> print(result)  # a table
    >>> result['the dog'].masks  # bool (frames, H, W)
    >>> result.save('drawn.mp4')

    Attributes:
        texts: The n sentences.
        fps: Frames per second; 0 where there is no such thing.
        size: (h, w) of the frames.
        source: The video, for what is drawn on its frames; a path, or what reads it.
        names: Names of a folder's frames without suffix; None: they have numbers only.
        starts: Number of the first frame of every clip.
        files: What was written to disk, by what it is.
        remarks: What the model's card has to say about this result.
        key_frames: Of a refined result, the frames that each sentence's masks come from.
        seconds: How long it took, where somebody measured; not in files: they repeat exactly.
    """

    def __init__(
        self, texts: Sequence[str], fps: float, size: tuple[int, int], source: Any = None
    ) -> None:
        self.texts = list(texts)
        self.fps = fps
        self.size = size
        self.source = source
        self.names: list[str] | None = getattr(source, 'frame_names', None)
        self.starts: list[int] = []
        self.files: dict[str, Path] = {}
        self.remarks: list[str] = []
        self.key_frames: list[list[int]] | None = None
        self.seconds: float | None = None
        self._scores: list[np.ndarray] = []
        self._frame_scores: list[np.ndarray] = []
        self._boxes: list[np.ndarray] = []
        self._points: list[np.ndarray] = []
        self._masks: list[list[dict]] = [[] for _ in self.texts]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._masks[0])

    def __getitem__(self, sentence: str | int) -> 'SentencePrediction':
        """What was found for one sentence, by its words or its number.

        Raises:
            KeyError: If it is not among the sentences of this result.
        """
        i = self._index(sentence)
        fields = (self.scores.T, self.frame_scores, self.boxes, self.reference_points, self._masks)
        return SentencePrediction(self.texts[i], *(field[i] for field in fields))

    def __iter__(self) -> Iterator['SentencePrediction']:
        """Sentence by sentence."""
        return map(self.__getitem__, range(len(self.texts)))

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

    @property
    def frame_names(self) -> list[str]:
        """(frames,), ``names``, or five digits."""
        return (self.names or [f'{t:05d}' for t in range(len(self))])[: len(self)]

    def masks(self, sentence: str | int) -> np.ndarray:
        """All masks of one sentence, bool (frames, H, W); the same as ``result[...].masks``."""
        return self[sentence].masks

    def mask(self, sentence: str | int, frame: int) -> np.ndarray:
        """The mask of one sentence in one frame, bool (H, W)."""
        return coco_mask.decode(self._masks[self._index(sentence)][frame]).astype(bool)

    def select(self, sentence: str | int) -> 'VideoPrediction':
        """The same for one sentence alone."""
        i = self._index(sentence)
        one = copy(self)
        one.texts, one._masks = [self.texts[i]], [self._masks[i]]
        one.key_frames = self.key_frames and [self.key_frames[i]]
        one._scores = [scores[[i]] for scores in self._scores]
        one._frame_scores = [self.frame_scores[[i]]]
        one._boxes, one._points = [self.boxes[[i]]], [self.reference_points[[i]]]
        return one

    def append(self, clip: ClipPrediction) -> None:
        """Add the next clip."""
        self.starts.append(clip.start)
        self._scores.append(clip.scores)
        self._frame_scores.append(clip.frame_scores)
        self._boxes.append(clip.boxes)
        self._points.append(clip.reference_points)
        for kept, masks in zip(self._masks, clip.masks):
            kept += coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8))

    def open(self, video: Any = None) -> FrameSource:
        """The video, ready to be read again.

        Args:
            video: The video, where ``source`` is not the one or has moved.

        Raises:
            ValueError: If there is none.
        """
        video = self.source if video is None else video
        if video is None:
            raise ValueError('this result knows no video; give it: save(..., video=...).')
        return open_source(video)

    def clips(self, source: FrameSource) -> Iterator[ClipPrediction]:
        """The clips once more, on frames of what ``open`` gave.

        Raises:
            ValueError: If it is not the video of this result.
        """
        frames = iter(source)
        boxes, points, frame_scores = self.boxes, self.reference_points, self.frame_scores
        for scores, start, end in zip(self._scores, self.starts, [*self.starts[1:], len(self)]):
            images = list(islice(frames, end - start))
            if len(images) < end - start or images[0].shape[:2] != tuple(self.size):
                raise ValueError(
                    f'this result has {self._headline()}; the video it is to be drawn on has '
                    'fewer, or another size. Give the right one: save(..., video=...).'
                )
            part = slice(start, end)
            masks = [coco_mask.decode(rles[part]).transpose(2, 0, 1) for rles in self._masks]
            kept = (boxes[:, part], points[:, part], frame_scores[:, part])
            yield ClipPrediction(start, np.stack(images), scores, np.array(masks, bool), *kept)

    def __str__(self) -> str:
        """A table with a line for every sentence, and the remarks."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        columns = ('sentence', 'score', 'frames with mask', 'mean area', 'seconds')
        table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
        for found in self:
            table.add_row(*_cells(found, self.size, self.fps))
        out = StringIO()
        # Sentences are not rich's markup.
        Console(file=out, width=100, markup=False, emoji=False, highlight=False).print(table)
        lines = [line.rstrip() for line in out.getvalue().splitlines()]
        return '\n'.join([self._headline(), *filter(None, lines), *self.remarks])

    __repr__ = __str__

    def to_rle(self) -> list[list[dict]]:
        """COCO's compressed run lengths, ``{'size': [H, W], 'counts': str}``; n lists of frames."""
        return [[{**rle, 'counts': rle['counts'].decode()} for rle in rles] for rles in self._masks]

    def to_coco(self) -> dict:
        """The result as JSON of YouTube-VIS's form; see ``coco.to_coco``."""
        return to_coco(self)

    def to_dataframe(self) -> Any:
        """A pandas frame with a line for every sentence and frame; see ``export``."""
        return export.to_dataframe(self)

    def to_supervision(self) -> Iterator[Any]:
        """``supervision.Detections`` frame by frame; see ``export``."""
        return export.to_supervision(self)

    def save(self, path: str | Path, kind: str | None = None, **options: Any) -> Path:
        """Write the result in the form that the suffix of ``path`` says; see ``writer.save``."""
        return writer.save(self, path, kind, **options)

    def show(self, video: Any = None) -> None:
        """Play the drawn video in a notebook; ``video`` as in ``open``."""
        writer.show(self, video)

    @classmethod
    def load(cls, path: str | Path) -> 'VideoPrediction':
        """Read a result back: the folder that inference wrote, or the JSON of ``save``.

        Masks are exactly those that were written; other numbers are rounded.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it is damaged or not of this form.
        """
        head, names, remarks, clips = read_coco(Path(path))
        video = cls(*head)
        video.names, video.remarks = names, remarks
        for clip in clips:
            video.append(ClipPrediction(*clip))
        return video

    def _index(self, sentence: str | int) -> int:
        if not isinstance(sentence, str):
            return range(len(self.texts))[sentence]
        texts = [text.lower() for text in self.texts]
        words = ' '.join(sentence.lower().split())
        if words not in texts:
            asked = ', '.join(f'"{text}"' for text in self.texts)
            raise KeyError(f'no sentence "{sentence}" in this result; there are: {asked}.')
        return texts.index(words)

    def _headline(self) -> str:
        height, width = self.size
        rate = f', {self.fps:g} frames/s' if self.fps else ''
        took = '' if self.seconds is None else f', found in {self.seconds:.1f} s'
        return f'{len(self)} frames, {width}x{height}{rate}{took}'


class SentencePrediction(NamedTuple):
    """What was found for one sentence of a video."""

    text: str
    scores: np.ndarray  # (clips,)
    frame_scores: np.ndarray  # (frames,)
    boxes: np.ndarray  # (frames, 4) xyxy in pixels
    reference_points: np.ndarray  # (frames, 2) xy in pixels
    rles: list[dict]  # COCO's run lengths of each frame

    @property
    def areas(self) -> np.ndarray:
        """(frames,), pixels of each mask."""
        # One by one: pycocotools counts those of a list in 8 bits.
        return np.array([coco_mask.area(rle) for rle in self.rles], np.int64)

    @property
    def masks(self) -> np.ndarray:
        """Bool (frames, H, W), decoded when asked for."""
        return coco_mask.decode(self.rles).transpose(2, 0, 1).astype(bool)

    @property
    def span(self) -> str:
        """The score in words: ``0.82``, or ``0.31 to 0.82 over 3 clips``."""
        low, high = f'{self.scores.min():.2f}', f'{self.scores.max():.2f}'
        return low if low == high else f'{low} to {high} over {len(self.scores)} clips'

    @property
    def absence(self) -> str:
        """``no mask in 3 of 20 frames``; empty where every frame has one."""
        empty = int((self.areas == 0).sum())
        return f'no mask in {empty} of {len(self.areas)} frames' if empty else ''


def _cells(found: SentencePrediction, size: tuple[int, int], fps: float) -> tuple[str, ...]:
    """A line of the table; seconds are when the first mask begins and the last one ends."""
    frames = np.flatnonzero(found.areas)
    if not len(frames):
        return found.text, found.span, found.absence, '-', '-'
    area = found.areas[frames].mean() / np.prod(size)
    seconds = f'{frames[0] / fps:.1f} to {(frames[-1] + 1) / fps:.1f}' if fps else '-'
    return found.text, found.span, f'{len(frames)} of {len(found.areas)}', f'{area:.1%}', seconds
