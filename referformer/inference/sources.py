"""What a user may call a video, as a source of frames."""

from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import cv2

from ..files import is_address
from ..video_io import DEFAULT_FPS, IMAGE_SUFFIXES, FrameSource, VideoReader, natural


class FrameReader(FrameSource):
    """Reads frames that are in memory, or come one after the other.

    Args:
        frames: What ``video_io.as_frame`` takes: an array (T, H, W, 3), a tensor (T, 3, H, W), a
            list of arrays or pictures; or a generator of them, which can be read once.
        fps: Frames per second.
        max_frames: Stop after so many.
        name: What to call them.

    Raises:
        ValueError: If there are none; naming the first one that cannot be used.
    """

    def __init__(
        self,
        frames: Iterable[Any],
        fps: float | None = None,
        max_frames: int | None = None,
        name: str = 'the given frames',
    ) -> None:
        self._given = frames
        super().__init__(name, fps, max_frames)

    def _open(self) -> float:
        self._once = isinstance(self._given, Iterator)
        self._claimed = len(self._given) if hasattr(self._given, '__len__') else 0
        return DEFAULT_FPS

    def _frames(self) -> Iterator[Any]:
        return iter(self._given)


def open_source(video: Any, fps: float | None = None, max_frames: int | None = None) -> FrameSource:
    """Open anything that is a video.

    Args:
        video: A file, a GIF, a folder of frames, a pattern of images (``'frames/*.jpg'``), an
            address (``https://...``, ``rtsp://...``), ``-`` for standard input, the number of a
            camera, or what ``FrameReader`` takes. A list of image files is one video, too.
        fps: Frame rate, instead of the video's own; 10 where it has none.
        max_frames: Stop after so many. A camera does not end otherwise.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If an address or a camera does not answer.
        ValueError: If it holds no frames, or several videos.
    """
    if isinstance(video, FrameSource):
        return video
    if isinstance(video, Path):
        video = str(video)
    if is_camera(video):
        frames, own_fps = _open_camera(int(video))
        return FrameReader(frames, fps or own_fps, max_frames, f'camera {video}')
    if isinstance(video, str):
        return VideoReader(_images(video), fps, max_frames)
    if isinstance(video, (list, tuple)) and video and all(map(is_image, video)):
        return VideoReader([Path(file) for file in video], fps, max_frames)
    if isinstance(video, (list, tuple)) and any(isinstance(v, (str, Path)) for v in video):
        raise ValueError('a list of files must name images; use segment_videos for many videos.')
    if not isinstance(video, Iterable):
        raise ValueError(f'{video!r} is no video; give a file, a folder, or frames.')
    return FrameReader(video, fps, max_frames)


def match_files(pattern: str) -> list[str]:
    """Files that a pattern such as ``'videos/*.mp4'`` names, sorted naturally.

    Raises:
        FileNotFoundError: If there are none.
    """
    files = sorted(glob(pattern, recursive=True), key=natural)
    if not files:
        raise FileNotFoundError(f'no file fits to {pattern}; check the pattern.')
    return files


def is_pattern(video: str) -> bool:
    """Whether this is a pattern of file names, and no file or address itself."""
    return has_magic(video) and not is_address(video) and not Path(video).exists()


def is_camera(video: Any) -> bool:
    """Whether this is the number of a camera."""
    if isinstance(video, str):
        return video.isdecimal() and not Path(video).exists()
    return isinstance(video, int)


def is_image(file: Any) -> bool:
    """Whether this is the name of an image."""
    return isinstance(file, (str, Path)) and Path(file).suffix.lower() in IMAGE_SUFFIXES


def _images(video: str) -> str | list[Path]:
    """The images that a pattern names; anything else stays as it is."""
    if video == '-':
        return '/dev/stdin'
    if not is_pattern(video):
        return video
    files = match_files(video)
    if len(files) > 1 and not all(map(is_image, files)):
        raise ValueError(f'{video} names {len(files)} files that are no images of one video.')
    return [Path(file) for file in files] if is_image(files[0]) else files[0]


def _open_camera(number: int) -> tuple[Iterator[Any], float | None]:
    """The endless frames of a camera, and its frame rate."""
    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        found = ', '.join(sorted(p.name[5:] for p in Path('/dev').glob('video*'))) or 'none'
        raise OSError(
            f'camera {number} cannot be opened: it is not there, is in use, or may not be read; '
            f'cameras of this machine: {found}.'
        )

    def frames() -> Iterator[Any]:
        try:
            while (read := camera.read())[0]:
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        finally:
            camera.release()

    return frames(), camera.get(cv2.CAP_PROP_FPS) or None
