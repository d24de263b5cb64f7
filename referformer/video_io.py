"""Videos in and out: mp4, avi and other files OpenCV decodes, GIFs, folders of frames.

Frames are RGB uint8 (H, W, 3) everywhere outside this file.
"""

import logging
import math
import os
import queue
import re
import struct
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import GifImagePlugin, Image, ImageSequence

# FFmpeg's own messages would stand beside the one clear message of this module. It reads this when
# the first video is opened.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
WRITABLE_SUFFIXES = ('.mp4', '.avi', '.gif')
DEFAULT_FPS = 10.0
_SUPPORTED = (
    'Supported are mp4, avi, mov, mkv, webm and what else FFmpeg decodes, gif, and a folder of '
    f'frames ({", ".join(IMAGE_SUFFIXES)}).'
)
T = TypeVar('T')


class VideoReader:
    """The frames of a video, in order, one at a time.

    Iterating yields RGB uint8 arrays (H, W, 3) and can be repeated. ``len()`` is what the container
    claims, which can be wrong; after a full pass it is the number of frames that could be decoded.

    Args:
        path: A video file, a GIF, or a folder of frames, which are sorted naturally (2 before 10).
        fps: Frame rate to use instead of the file's own. Folders have none: default 10.

    Attributes:
        fps: Frames per second; of a GIF the mean over its frames.
        size: (h, w) of the frames.
        frame_files: The images of a folder in order; None for other videos.

    Raises:
        FileNotFoundError: If ``path`` does not exist.
        ValueError: If it cannot be decoded or holds no frames.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self.path = Path(path)
        if fps is not None and not (math.isfinite(fps) and fps > 0):
            raise ValueError(f'the frame rate must be a positive number, got {fps}.')
        if not self.path.exists():
            raise FileNotFoundError(f'{path} not found. {_SUPPORTED}')
        self.frame_files: list[Path] | None = None
        if self.path.is_dir():
            own_fps = self._open_folder()
        elif self.path.suffix.lower() == '.gif':
            own_fps = self._open_gif()
        else:
            own_fps = self._open_video()
        self.fps = float(fps or own_fps)

    def __len__(self) -> int:
        return self._num_frames

    def __iter__(self) -> Iterator[np.ndarray]:
        if self.frame_files is not None:
            return self._check_sizes(map(_read_image, self.frame_files))
        frames = _gif_frames if self.path.suffix.lower() == '.gif' else _video_frames
        return self._check_sizes(self._count(frames(self.path)))

    @property
    def frame_names(self) -> list[str] | None:
        """Names of a folder's frames without suffix; None for files, whose frames have none."""
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

    def _open_folder(self) -> float:
        files = [
            p for p in self.path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
        ]
        if not files:
            raise ValueError(f'no frames in {self.path}. {_SUPPORTED}')
        self.frame_files = sorted(files, key=lambda file: _natural(file.name))
        stems = [file.stem for file in self.frame_files]
        if len(set(stems)) < len(stems):
            twice = next(stem for stem in stems if stems.count(stem) > 1)
            raise ValueError(f'{self.path} has several images named {twice}; keep one format.')
        self._num_frames = len(files)
        self.size = _read_image(self.frame_files[0]).shape[:2]
        return DEFAULT_FPS

    def _open_gif(self) -> float:
        durations = []
        try:
            with Image.open(self.path) as gif:
                self.size = (gif.height, gif.width)
                for frame in ImageSequence.Iterator(gif):
                    durations.append(frame.info.get('duration', 0))
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            if not durations:
                raise ValueError(
                    f'{self.path} is not a readable GIF ({error}). {_SUPPORTED}'
                ) from None
        self._num_frames = len(durations)
        next(iter(self))
        total = sum(durations) / 1000
        return len(durations) / total if total > 0 else DEFAULT_FPS

    def _open_video(self) -> float:
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        try:
            found, frame = capture.read() if capture.isOpened() else (False, None)
            if not found:
                raise ValueError(
                    f'{self.path} is not a readable video: no frame could be decoded. {_SUPPORTED}'
                )
            # The size of a decoded frame, because a rotation in the container swaps the sides.
            self.size = frame.shape[:2]
            self._num_frames = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
            fps = capture.get(cv2.CAP_PROP_FPS)
        finally:
            capture.release()
        return fps if math.isfinite(fps) and fps > 0 else DEFAULT_FPS

    def _count(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Correct the number of frames at the end of a full pass."""
        decoded = 0
        for frame in frames:
            decoded += 1
            yield frame
        if decoded < self._num_frames:
            print_log(
                f'{self.path} claims {self._num_frames} frames, {decoded} could be decoded: '
                'it may be truncated.',
                'current',
                logging.WARNING,
            )
        self._num_frames = decoded

    def _check_sizes(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for i, frame in enumerate(frames):
            if frame.shape[:2] != self.size:
                name = self.path if self.frame_files is None else self.frame_files[i]
                raise ValueError(
                    f'frame {i} of {name} is {frame.shape[1]}x{frame.shape[0]}, the first frame is '
                    f'{self.size[1]}x{self.size[0]}; all frames of a video need one size.'
                )
            yield frame


class VideoWriter:
    """Writes a video with exactly the frames it is given, as a context manager.

    The file is written under a temporary name in the same folder and renamed on a clean exit; on an
    exception it is removed, so that there is never half a video under ``path``.

    Args:
        path: Ends in ``.mp4`` (MPEG-4 part 2), ``.avi`` (Motion JPEG) or ``.gif``.
        fps: Frames per second. OpenCV's mp4 rounds it to 3 decimals; a GIF counts in 1/100 s: some
            of its frames last longer than others so that the mean is right.
        size: (h, w) of the frames. mp4 needs even numbers: use avi or gif for others.

    Raises:
        ValueError: For another suffix, a wrong frame rate, an odd size in mp4, an unequal frame.
        OSError: If the file cannot be written.
    """

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int]) -> None:
        self.path = Path(path)
        self.fps = float(fps)
        self.size = (int(size[0]), int(size[1]))
        suffix = self.path.suffix.lower()
        if suffix not in WRITABLE_SUFFIXES:
            raise ValueError(f'cannot write {self.path}: use {", ".join(WRITABLE_SUFFIXES)}.')
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f'cannot write {self.path} at {fps} frames per second.')
        if suffix == '.mp4' and (self.size[0] % 2 or self.size[1] % 2):
            raise ValueError(
                f'cannot write {self.path} at {self.size[1]}x{self.size[0]}: mp4 needs even '
                'numbers, avi and gif take any size.'
            )
        self.num_frames = 0

    def __enter__(self) -> 'VideoWriter':
        # The suffix stays at the end, because OpenCV chooses the container by it.
        self._part = self.path.with_name(f'.{self.path.stem}.{os.getpid()}.part{self.path.suffix}')
        suffix = self.path.suffix.lower()
        encoder = {'.mp4': _Mp4, '.avi': _Avi, '.gif': _Gif}[suffix]
        try:
            self._encoder = encoder(self._part, self.fps, self.size)
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
        self._encoder.write(frame)
        self.num_frames += 1

    def __exit__(self, kind: type | None, *_: Any) -> None:
        try:
            self._encoder.close()
            if kind is None:
                if self.num_frames == 0:
                    raise ValueError(f'no frames were written to {self.path}.')
                self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)


class _Mp4:
    """MPEG-4 part 2 by OpenCV's FFmpeg: the codec that every build of OpenCV can write."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._writer = _open_writer(path, cv2.CAP_FFMPEG, 'mp4v', fps, size)

    def write(self, frame: np.ndarray) -> None:
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


class _Avi:
    """Motion JPEG by OpenCV's own muxer, which takes odd sizes but only whole frame rates.

    The frame rate is therefore corrected in the header afterwards.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._path, self._fps = path, fps
        self._writer = _open_writer(path, cv2.CAP_OPENCV_MJPEG, 'MJPG', max(1, round(fps)), size)

    def write(self, frame: np.ndarray) -> None:
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()
        rate = Fraction(self._fps).limit_denominator(1001)
        with open(self._path, 'r+b') as file:
            head = file.read(4096)
            main, stream = head.find(b'avih'), head.find(b'strh')
            if main < 0 or stream < 0:
                return
            file.seek(main + 8)  # dwMicroSecPerFrame
            file.write(struct.pack('<I', round(1e6 / self._fps)))
            file.seek(stream + 8 + 20)  # dwScale, dwRate
            file.write(struct.pack('<II', rate.denominator, rate.numerator))


class _Gif:
    """Full frames with their own palettes, written as they come.

    Pillow's ``save_all`` holds all frames in memory, and merges equal neighbours: fewer frames.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._fps, self._index = fps, 0
        self._file = open(path, 'wb')  # noqa: SIM115  closed by close()
        self._file.write(b'GIF89a' + struct.pack('<HHBBB', size[1], size[0], 0x70, 0, 0))
        self._file.write(b'!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00')  # repeat for ever

    def write(self, frame: np.ndarray) -> None:
        image = Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT)
        end, start = (round(100 * i / self._fps) for i in (self._index + 1, self._index))
        self._index += 1
        blocks = GifImagePlugin.getdata(
            image, duration=10 * max(1, end - start), include_color_table=True
        )
        self._file.writelines(blocks)

    def close(self) -> None:
        self._file.write(b';')
        self._file.close()


def output_suffix(reader: VideoReader) -> str:
    """The format to write beside an input: its own where that can be written, else mp4.

    Videos with an odd side become avi, because mp4 would lose a row or column.
    """
    suffix = reader.path.suffix.lower()
    suffix = suffix if suffix in WRITABLE_SUFFIXES and reader.frame_files is None else '.mp4'
    odd = reader.size[0] % 2 or reader.size[1] % 2
    return '.avi' if suffix == '.mp4' and odd else suffix


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


def _open_writer(
    path: Path, api: int, codec: str, fps: float, size: tuple[int, int]
) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(
        str(path), api, cv2.VideoWriter_fourcc(*codec), fps, (size[1], size[0])
    )
    if not writer.isOpened():
        raise OSError(
            f'OpenCV cannot write {path.suffix} ({codec}, {fps} frames/s) to {path.parent}.'
        )
    return writer


def _video_frames(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        while True:
            found, frame = capture.read()
            if not found:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def _gif_frames(path: Path) -> Iterator[np.ndarray]:
    with Image.open(path) as gif:
        frames = iter(ImageSequence.Iterator(gif))
        first = True
        while True:
            try:
                image = np.asarray(next(frames).convert('RGB'))
            except StopIteration:
                return
            except (OSError, ValueError, EOFError, SyntaxError) as error:
                if first:
                    raise ValueError(
                        f'{path} is not a readable GIF ({error}). {_SUPPORTED}'
                    ) from None
                return  # a truncated end: what was decoded counts
            first = False
            yield image


def _read_image(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f'cannot read the frame {path} ({error}); it may be truncated: replace or remove it.'
        ) from None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts 2 before 10."""
    parts = re.split(r'(\d+)', name)
    return [(int(part), '') if part.isdigit() else (-1, part) for part in parts] + [(-1, name)]
