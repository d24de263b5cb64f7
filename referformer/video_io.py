"""Videos in and out: files and addresses by PyAV, folders of frames; mp4, avi and GIF back.

Frames are RGB uint8 (H, W, 3) everywhere outside this file.
"""

import logging
import math
import os
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from mmengine.logging import print_log
from PIL import Image, ImageOps

from .files import is_address, naming
from .image_files import BROKEN_IMAGE, open_image
from .video_codecs import WRITABLE_SUFFIXES, Encoder, decoded_sizes, open_video

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
DEFAULT_FPS = 10.0
SUPPORTED = (
    'Supported are mp4, avi, mov, mkv, webm and what else FFmpeg decodes, gif, and a folder of '
    f'frames ({", ".join(IMAGE_SUFFIXES)}).'
)
T = TypeVar('T')


class FrameSource(ABC):
    """The frames of a video, in order, one at a time.

    Iterating yields RGB uint8 arrays (H, W, 3) of one size. It can be repeated, except where the
    source itself cannot, such as a camera.

    Args:
        name: What it is called in messages and results.
        fps: Frame rate to use instead of its own.
        max_frames: Stop after so many.

    Attributes:
        path: The file or folder; of other sources a path that tells the kind of file at most.
        fps: Frames per second; where frames last differently, the mean.
        size: (h, w) of the frames.
        times: Seconds from the first frame to each one read so far; empty where ``fps`` says it.
        frame_files: The images that are the frames; None for other videos.
        sound: What to open for the sound, and the time of the first frame in it, in seconds; None
            where there is none.

    Raises:
        ValueError: If there are no frames, or the first one cannot be used.
    """

    def __init__(self, name: str, fps: float | None = None, max_frames: int | None = None) -> None:
        for what, value in (('frame rate', fps), ('number of frames', max_frames)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f'the {what} must be a positive number, got {value}.')
        self.name, self.path = name, Path(name)
        self.times: list[float] = []
        self.frame_files: list[Path] | None = None
        self.sound: tuple[str, float] | None = None
        self._limit, self._claimed, self._once = max_frames, 0, False
        self._fixed_rate = fps is not None
        own_fps = self._open()
        self.fps = float(fps or own_fps)
        frames = self._frames()
        first = next(frames, None)
        if first is None:
            raise ValueError(f'{name} has no frames. {SUPPORTED}')
        self.size: tuple[int, int] = as_frame(first, self._frame_name(0)).shape[:2]
        self._started = chain([first], frames) if self._once else None

    def __len__(self) -> int:
        """What the container claims, which can be wrong; 0 where nobody knows.

        After a full pass it is the number of frames that could be decoded.
        """
        return min(self._claimed, self._limit or self._claimed)

    def __iter__(self) -> Iterator[np.ndarray]:
        frames, self._started = (self._started if self._once else self._frames()), None
        if frames is None:
            raise ValueError(f'{self.name} can be read only once; open it again.')
        return self._count(islice(frames, self._limit))

    @property
    def repeatable(self) -> bool:
        """Whether it can be read more than once."""
        return not self._once

    @property
    def frame_names(self) -> list[str] | None:
        """Names of images without suffix; None for other videos, whose frames have none."""
        return None if self.frame_files is None else [file.stem for file in self.frame_files]

    def verify(self) -> None:
        """Decode every image of a folder once: a broken one is found before long work starts.

        Video files and GIFs are decoded as they are read: a broken end there means fewer frames.

        Raises:
            ValueError: Naming the first image that is truncated, unreadable or of another size.
        """
        if self.frame_files is not None:
            for _ in self:
                pass

    @abstractmethod
    def _open(self) -> float:
        """Find out about the source, and return its frame rate."""

    @abstractmethod
    def _frames(self) -> Iterator[Any]:
        """One pass over what ``as_frame`` takes."""

    def _count(self, frames: Iterable[Any]) -> Iterator[np.ndarray]:
        """Correct the number of frames at the end of a full pass."""
        count = 0
        for frame in check_frames(frames, self._frame_name, self.size):
            count += 1
            yield frame
        if count < len(self):
            print_log(
                f'{self.name} claims {self._claimed} frames, {count} could be decoded: '
                'it may be truncated.',
                'current',
                logging.WARNING,
            )
        self._claimed = count

    def _frame_name(self, index: int) -> str:
        files = self.frame_files
        return f'frame {index} of {self.name if files is None else files[index]}'


class VideoReader(FrameSource):
    """Reads a video file, a GIF, an address, or images.

    Args:
        video: A file; its address (``https://...``); a folder of frames, which are sorted naturally
            (2 before 10); or the images themselves.
        fps: Frame rate to use instead of the file's own. Images have none: default 10.
        max_frames: Stop after so many.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If an address does not answer.
        ValueError: If it cannot be decoded or holds no frames.
    """

    def __init__(
        self,
        video: str | Path | Sequence[Path],
        fps: float | None = None,
        max_frames: int | None = None,
    ) -> None:
        self._images = None if isinstance(video, (str, Path)) else list(video)
        super().__init__(str(self._images[0].parent if self._images else video), fps, max_frames)

    def _open(self) -> float:
        if is_address(self.name):
            self.path = Path(Path(urlsplit(self.name).path).name or 'video')
        elif not self.path.exists():
            raise FileNotFoundError(f'{self.name} not found. {SUPPORTED}')
        elif self.path.is_dir():
            self.frame_files = self._images or list_images(self.path)
        elif self.path.suffix.lower() in IMAGE_SUFFIXES:
            self.frame_files = [self.path]
        if self.frame_files is not None:
            self._claimed = len(self.frame_files)
            _check_names(self.frame_files)
            return DEFAULT_FPS
        self._video = open_video(self.name)
        self._claimed, self._once = self._video.num_frames, self._video.once
        if self._video.with_sound and not (self._once or self._fixed_rate):
            self.sound = (self.name, 0.0)
        fps = float(self._video.fps)
        return fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS

    def _frames(self) -> Iterator[np.ndarray]:
        if self.frame_files is not None:
            return map(_read_image, self.frame_files)
        return self._timed_frames()

    def _timed_frames(self) -> Iterator[np.ndarray]:
        # The one that told the size serves the first pass: a pipe cannot be opened again.
        video, self._video = self._video or open_video(self.name), None
        self.times, start = [], None
        for image, time in video.frames():
            if time is not None and not self._fixed_rate:
                if start is None:
                    start = time
                    self.sound = self.sound and (self.name, start)
                self.times.append(time - start)
            yield image


class VideoWriter:
    """Writes a video with exactly the frames it is given, as a context manager.

    The file is written under a temporary name in the same folder and renamed on a clean exit; on an
    exception it is removed, so that there is never half a video under ``path``.

    Args:
        path: Ends in ``.mp4`` (H.264 as browsers play it), ``.avi`` (Motion JPEG) or ``.gif``,
            which counts in 1/100 s: some frames last longer, so that the mean is right.
        fps: Frames per second.
        size: (h, w) of the frames. An mp4 of an odd size repeats its last row or column, because
            H.264 counts in pairs.
        like: The video that the frames come from: they keep its times (not in avi) and its sound
            (not in gif).

    Raises:
        ValueError: For another suffix, a wrong frame rate, an unequal frame.
        OSError: If the file cannot be written.
        ModuleNotFoundError: Without PyAV.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        size: tuple[int, int],
        like: FrameSource | None = None,
    ) -> None:
        self.path = Path(path)
        self.fps = float(fps)
        self.size = (int(size[0]), int(size[1]))
        self.like = like
        self.num_frames = 0
        if self.path.suffix.lower() not in WRITABLE_SUFFIXES:
            raise ValueError(f'cannot write {self.path}: use {", ".join(WRITABLE_SUFFIXES)}.')
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f'cannot write {self.path} at {fps} frames per second.')

    def __enter__(self) -> 'VideoWriter':
        # The suffix stays at the end, because FFmpeg chooses the container by it.
        self._part = self.path.with_name(f'.{self.path.stem}.{os.getpid()}.part{self.path.suffix}')
        try:
            sound = None if self.like is None else self.like.sound
            self._encoder = Encoder(self._part, self.fps, self.size, sound)
        except BaseException:
            self._part.unlink(missing_ok=True)
            raise
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one RGB uint8 frame (H, W, 3)."""
        if frame.shape != (*self.size, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f'{self.path} takes uint8 frames of shape {(*self.size, 3)}, '
                f'got {frame.dtype} {frame.shape}.'
            )
        times = [] if self.like is None else self.like.times
        known = self.num_frames < len(times)
        with naming(self.path):
            self._encoder.write(frame, times[self.num_frames] if known else None)
        self.num_frames += 1

    def __exit__(self, kind: type | None, *_: Any) -> None:
        try:
            with naming(self.path):
                self._encoder.close()
            if kind is None:
                if self.num_frames == 0:
                    raise ValueError(f'no frames were written to {self.path}.')
                self._check()
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)

    def _check(self) -> None:
        """Read the file back: what could not be written at the end, FFmpeg does not report."""
        found = decoded_sizes(self._part)
        even = [side + side % 2 * (self.path.suffix.lower() == '.mp4') for side in self.size]
        if found != {tuple(even): self.num_frames}:
            raise OSError(
                f'{self.path} could not be written: of {self.num_frames} frames '
                f'{found.get(tuple(even), 0)} can be decoded. The disk may be full: free space, or '
                'write to another disk.'
            )


def output_suffix(reader: FrameSource) -> str:
    """The format to write beside an input: its own where that can be written, else mp4."""
    suffix = reader.path.suffix.lower()
    return suffix if suffix in WRITABLE_SUFFIXES and reader.frame_files is None else '.mp4'


def prefetch(items: Iterable[T], depth: int = 8) -> Iterator[T]:
    """Iterate ``items`` in a background thread that stays at most ``depth`` items ahead.

    Exceptions of ``items`` are raised here; the thread ends when the consumer stops early.
    """
    ahead: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[str, Any]) -> None:
        while not stop.is_set():
            try:
                return ahead.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(('item', item))
                if stop.is_set():
                    return
            put(('end', None))
        except BaseException as error:
            put(('error', error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ahead.get()
            if kind == 'end':
                return
            if kind == 'error':
                raise value
            yield value
    finally:
        stop.set()
        thread.join()


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, sorted naturally.

    Raises:
        ValueError: If there are none.
    """
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    if not files:
        raise ValueError(f'no frames in {folder}. {SUPPORTED}')
    return sorted(files, key=lambda file: natural(file.name))


def check_frames(
    frames: Iterable[Any],
    name: Callable[[int], str] = 'frame {}'.format,
    size: tuple[int, int] | None = None,
) -> Iterator[np.ndarray]:
    """What ``as_frame`` makes of them, all of one size.

    Args:
        frames: What ``as_frame`` takes.
        name: What to call frame number i.
        size: (h, w); that of the first frame by default.

    Raises:
        ValueError: Naming the first frame that is none or has another size.
    """
    for i, frame in enumerate(frames):
        image = as_frame(frame, name(i))
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            raise ValueError(
                f'{name(i)} is {image.shape[1]}x{image.shape[0]}, the first frame is '
                f'{size[1]}x{size[0]}; all frames of a video need one size.'
            )
        yield image


def as_frame(frame: Any, name: str) -> np.ndarray:
    """RGB uint8 (H, W, 3) of an array, a tensor (also (3, H, W)) or a picture of Pillow's.

    Raises:
        ValueError: Saying what ``name`` is instead.
    """
    if isinstance(frame, Image.Image):
        frame = frame.convert('RGB')
    image = np.asarray(frame.cpu() if hasattr(frame, 'cpu') else frame)
    if image.ndim == 3 and image.shape[0] == 3 != image.shape[2]:
        image = np.moveaxis(image, 0, -1)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f'{name} is {image.dtype} {image.shape}; frames are uint8 (height, width, 3), RGB, '
            'from 0 to 255.'
        )
    return np.ascontiguousarray(image)


def natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts 2 before 10."""
    parts = re.split(r'(\d+)', name)
    return [(int(part), '') if part.isdigit() else (-1, part) for part in parts] + [(-1, name)]


def _read_image(path: Path) -> np.ndarray:
    try:
        return np.asarray(ImageOps.exif_transpose(open_image(path)).convert('RGB'))
    except BROKEN_IMAGE as error:
        raise ValueError(
            f'cannot read the frame {path} ({error}); it may be truncated: replace or remove it.'
        ) from None


def _check_names(files: list[Path]) -> None:
    """Masks are named after frames: each name may be there once."""
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ValueError(f'{files[0].parent} has several images named {twice}; keep one format.')
