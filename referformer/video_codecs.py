"""What FFmpeg does for ``video_io``: decoding by PyAV or OpenCV, encoding by PyAV.

Frames are RGB uint8 (H, W, 3).
"""

import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .files import is_address
from .image_files import MAX_PIXELS, check_pixels

try:
    import av
except ImportError:  # where there is no wheel of it, OpenCV reads and nothing writes
    av = None

# FFmpeg's own messages would stand beside the one clear message of a caller. It reads this when
# the first video is opened.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_TIMEOUT = (15.0, 60.0)  # seconds: to open an address, to get the next bytes of it
# Encoder, pixel format, options, and the kinds of sound that are copied; others become AAC.
_ENCODERS: dict[str, tuple[str, str, dict[str, str], tuple[str, ...]]] = {
    '.mp4': ('libx264', 'yuv420p', {'crf': '18', 'preset': 'veryfast'}, ('aac', 'mp3')),
    '.avi': ('mjpeg', 'yuvj420p', {'qmin': '2', 'qmax': '2'}, ('mp3', 'ac3', 'pcm_s16le')),
    '.gif': ('gif', 'pal8', {}, ()),
}
WRITABLE_SUFFIXES = tuple(_ENCODERS)
_BT709 = 1  # H.273 numbers it so, for primaries, transfer and matrix


class AvVideo:
    """A video opened by PyAV: every frame with its time, turned as the file says.

    Args:
        address: A file, a pipe, or what FFmpeg opens by its address.

    Attributes:
        fps: Frames per second, on average; 0 where it is unknown.
        num_frames: What the container claims; 0 where it claims nothing.
        with_sound: Whether there is sound, too.
        once: It has no end that is known: a pipe, a live stream.

    Raises:
        OSError, ValueError: As PyAV; ValueError if there is no picture in it.
    """

    def __init__(self, address: str) -> None:
        self._file = _open(address)
        try:
            self._stream = self._file.streams.video[0]
        except IndexError:
            self._file.close()
            raise ValueError('there is sound only') from None
        self._stream.thread_type = 'AUTO'
        _check_pixels(address, self._stream.width, self._stream.height)
        self._stream.codec_context.options = {'max_pixels': str(MAX_PIXELS)}
        self.once = Path(address).is_fifo() or (is_address(address) and not self._file.duration)
        self.with_sound = bool(self._file.streams.audio)
        self.fps = self._stream.average_rate or self._stream.guessed_rate or 0
        seconds = (self._file.duration or 0) / av.time_base
        self.num_frames = self._stream.frames or round(seconds * self.fps)
        if self._file.format.name == 'gif' and not self.once:
            self._measure()

    def _measure(self) -> None:
        """Count frames and their durations where the header is silent."""
        lasts = [packet.duration for packet in self._file.demux(self._stream) if packet.size]
        self.num_frames, total = len(lasts), sum(lasts) * self._stream.time_base
        self.fps = self.num_frames / total if total else 0
        self._file.seek(0)

    def frames(self) -> Iterator[tuple[np.ndarray, float | None]]:
        """Frames and their times in seconds; what cannot be decoded is left out. Then it closes."""
        with self._file:
            for packet in self._packets():
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    continue
                for frame in frames:
                    image = frame.to_ndarray(format='rgb24')
                    yield np.rot90(image, round(frame.rotation / 90)), frame.time

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._file.demux(self._stream)
        except av.FFmpegError:
            return


class CvVideo:
    """A video opened by OpenCV, with the interface of ``AvVideo``; it knows no times."""

    with_sound = once = False

    def __init__(self, address: str) -> None:
        self._capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
        properties = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        _check_pixels(address, *(int(self._capture.get(p)) for p in properties))
        self.fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.num_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self) -> Iterator[tuple[np.ndarray, None]]:
        """Frames, until one cannot be decoded. Then it closes."""
        try:
            while (read := self._capture.read())[0]:
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), None
        finally:
            self._capture.release()


def open_video(address: str) -> AvVideo | CvVideo:
    """Open a file or an address by PyAV, or by OpenCV where PyAV is not there or cannot.

    Raises:
        OSError: If an address does not answer.
    """
    if av is None:
        return CvVideo(address)
    try:
        return AvVideo(address)
    except (av.FFmpegError, ValueError) as error:
        if is_address(address):
            reason = getattr(error, 'strerror', error)
            raise OSError(f'{address} cannot be opened: {reason}; check it in a browser.') from None
        return CvVideo(address)


def decoded_sizes(path: Path) -> Counter[tuple[int, int]]:
    """How many frames of each size (h, w) can be decoded; none of a file that cannot be opened."""
    sizes: Counter[tuple[int, int]] = Counter()
    with suppress(av.FFmpegError, ValueError), av.open(str(path)) as file:
        file.streams.video[0].thread_type = 'AUTO'
        for frame in file.decode(video=0):
            sizes[frame.height, frame.width] += 1
    return sizes


class Encoder:
    """Writes a video file by PyAV.

    Args:
        path: The file, whose suffix is one of ``WRITABLE_SUFFIXES``.
        fps: Frames per second, where frames have no times.
        size: (h, w) of the frames.
        sound: What to open for the sound, and what time in it is the first frame's, in seconds.

    Raises:
        OSError: If the file cannot be written.
        ModuleNotFoundError: Without PyAV.
    """

    def __init__(
        self, path: Path, fps: float, size: tuple[int, int], sound: tuple[str, float] | None
    ) -> None:
        if av is None:
            raise ModuleNotFoundError('writing videos needs PyAV: pip install av')
        self._suffix = path.suffix.lower()
        codec, pixels, options, copied = _ENCODERS[self._suffix]
        self._rate, self._num_frames, self._last = Fraction(fps).limit_denominator(1001), 0, -1
        even = self._suffix == '.mp4'
        self._edge = [(0, side % 2 if even else 0) for side in size] + [(0, 0)]
        # A frame of the constant rate is a whole number of ticks; they are at most 1/90 000 s.
        fine = Fraction(1, self._rate.numerator * math.ceil(90000 / self._rate.numerator))
        self._tick = {'.avi': 1 / self._rate, '.gif': Fraction(1, 100)}.get(self._suffix, fine)
        self._file = av.open(str(path), 'w', options={'movflags': '+faststart'} if even else {})
        self._stream = self._file.add_stream(codec, self._rate, options=options)
        self._stream.height, self._stream.width = (n + e[1] for n, e in zip(size, self._edge))
        self._stream.pix_fmt = pixels
        context = self._stream.codec_context
        context.time_base = self._tick
        if even:
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = 1  # from 16 to 235
        self._sound = self._packets_of_sound(*sound, copied) if sound and copied else iter(())
        self._heard = next(self._sound, None)

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Append a frame, at its time in seconds where that is given."""
        if time is None or self._suffix == '.avi':
            time = self._num_frames / self._rate
        frame = self._frame(image)
        frame.time_base = self._tick
        frame.pts = self._last = max(self._last + 1, round(time / self._tick))
        frame.duration = max(1, round((time + 1 / self._rate) / self._tick) - frame.pts)
        self._file.mux(self._stream.encode(frame))
        self._num_frames += 1
        self._mux_sound(time)

    def close(self) -> None:
        """Write what is left, and the sound up to the end of the last frame."""
        with self._file:
            if self._num_frames:
                self._file.mux(self._stream.encode(None))
                self._mux_sound(self._last * self._tick + 1 / self._rate)

    def _frame(self, image: np.ndarray) -> Any:
        if self._suffix == '.gif':
            quantized = Image.fromarray(image).quantize(256, Image.Quantize.MEDIANCUT)
            palette = np.full((256, 4), 255, np.uint8)  # ARGB
            colours = np.reshape(quantized.getpalette(), (-1, 3))
            palette[: len(colours), 1:] = colours
            return av.VideoFrame.from_ndarray((np.asarray(quantized), palette), 'pal8')
        frame = av.VideoFrame.from_ndarray(np.pad(image, self._edge, 'edge'), 'rgb24')
        if self._suffix == '.mp4':
            frame = frame.reformat(format='yuv420p', dst_colorspace=_BT709)
        return frame

    def _mux_sound(self, until: float) -> None:
        while self._heard is not None and self._heard.pts * self._heard.time_base < until:
            self._file.mux(self._heard)
            self._heard = next(self._sound, None)

    def _packets_of_sound(
        self, address: str, start: float, copied: tuple[str, ...]
    ) -> Iterator[Any]:
        """The sound from time ``start`` on; it ends where it cannot be read."""
        try:
            with _open(address) as file:
                source = file.streams.audio[0]
                shift = round(start / source.time_base)
                if source.codec_context.name in copied:
                    stream = self._file.add_stream_from_template(source)
                    for packet in file.demux(source):
                        if packet.pts is not None and packet.pts + packet.duration >= shift:
                            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                            packet.stream = stream
                            yield packet
                else:
                    context = source.codec_context
                    layout = context.layout.name
                    stream = self._file.add_stream('aac', context.sample_rate, layout=layout)
                    for frame in file.decode(source):
                        frame.pts -= shift
                        yield from stream.encode(frame)
                    yield from stream.encode(None)
        except av.FFmpegError:
            return


def _check_pixels(address: str, width: int, height: int) -> None:
    try:
        check_pixels(width, height)
    except ValueError as error:
        raise ValueError(f'{address}: {error}.') from None


def _open(address: str) -> Any:
    return av.open(address, timeout=_TIMEOUT if is_address(address) else None)
