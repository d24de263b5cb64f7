"""Frames from video files, and masks from the formats of A2D- and JHMDB-Sentences (h5, mat)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np

# Its import also keeps FFmpeg's own messages from the terminal.
from referformer import video_io  # noqa: F401
from referformer.errors import raised_in
from referformer.image_files import check_pixels
from referformer.registry import TRANSFORMS

from .geometry import resize_clip
from .loading import boxes_of_masks

# Video codecs need even sides: frames may lack a row or column that their masks have.
_MAX_SIZE_DIFFERENCE = 2


@TRANSFORMS.register_module()
class LoadVideoFrames:
    """Decode the frames of the clip from ``video_file``.

    Adds ``imgs (T, H0, W0, 3)`` uint8 RGB, ``ori_shape`` and ``img_shape`` (H0, W0).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no video, or ends before a frame of the clip.
    """

    def __call__(self, results: dict) -> dict:
        """Add ``imgs``, ``ori_shape`` and ``img_shape``."""
        results['imgs'] = read_video_frames(results['video_file'], results['frame_inds'])
        results['ori_shape'] = results['img_shape'] = results['imgs'].shape[1:3]
        return results


@TRANSFORMS.register_module()
class LoadH5Masks:
    """Read the masks of the referred instance on the annotated frames from A2D-Sentences' files
    ``<mask_dir>/<frame>.h5``.

    Adds ``masks (1, T', H0, W0)`` bool, ``boxes (1, T', 4)`` float32 xyxy px (see
    :func:`boxes_of_masks`) and ``valid (1, T')`` bool; an instance without a pixel is not valid.
    Masks decide on ``ori_shape``: frames that are up to 2 px smaller or larger are resized to them,
    because codecs need even sides.

    Raises:
        FileNotFoundError: Naming a file that is not there.
        ValueError: Naming a file that cannot be read, lacks a field or the instance, or differs in
            size.
    """

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``."""
        return _add_masks(results, self.read(results), results['mask_dir'])

    def read(self, results: dict) -> np.ndarray:
        """Masks of the annotated frames, bool (T', H0, W0)."""
        names = [results['frame_names'][i] for i in _annotated(results)]
        paths = [Path(results['mask_dir'], name + results['mask_suffix']) for name in names]
        return np.stack([read_h5_mask(path, results['obj_id']) for path in paths])


@TRANSFORMS.register_module()
class LoadMatMasks:
    """Read the masks of the annotated frames from JHMDB-Sentences' file ``<mask_dir>/<file>``.

    Adds what :class:`LoadH5Masks` does.

    Args:
        file: Its name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, lacks its field or an annotated frame, or differs in size.
    """

    def __init__(self, file: str = 'puppet_mask.mat') -> None:
        self.file = file

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``."""
        return _add_masks(results, self.read(results), results['mask_dir'])

    def read(self, results: dict) -> np.ndarray:
        """Masks of the annotated frames, bool (T', H0, W0)."""
        path = Path(results['mask_dir'], self.file)
        masks = read_mat_masks(path)
        inds = _annotated(results)
        if max(inds) >= len(masks):
            raise ValueError(
                f'{path} has masks of {len(masks)} frames, but frame {max(inds) + 1} is annotated. '
                'Get or extract this file again.'
            )
        return masks[inds]


def read_video_frames(path: str | Path, inds: Sequence[int]) -> np.ndarray:
    """Frames of a video, by index in [0, number of frames).

    The video is decoded from its start to the last wanted frame. Seeking would save little, because
    clips of a few seconds have one or two frames to seek to, and it is not exact in all files.

    Args:
        path: The video.
        inds: Indices, in any order, with repetitions.

    Returns:
        uint8 RGB, (T, H0, W0, 3).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no video, or ends before a wanted frame.
    """
    frames = {}
    with _open_video(path) as capture:
        decoded = 0
        for index in sorted(set(map(int, inds))):
            while decoded <= index and capture.grab():
                decoded += 1
            found, frame = capture.retrieve() if decoded > index else (False, None)
            if not found:
                claimed = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
                raise ValueError(
                    f'{path} ends after {decoded} frames, but claims {claimed}, and frame '
                    f'{index + 1} is needed. It may be truncated: get or extract it again.'
                )
            frames[index] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return np.stack([frames[int(index)] for index in inds])


@cache  # a number for each video of a dataset
def count_video_frames(path: str) -> int:
    """The number of frames that a video file claims to have.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no video.
    """
    with _open_video(path) as capture:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))


def read_h5_mask(path: str | Path, instance: int) -> np.ndarray:
    """The mask of one instance from a file of A2D-Sentences, bool (H, W).

    The fields are ``instance``, the ids of N instances, and ``reMask``, (N, W, H), or (W, H) where
    there is one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, lacks a field or the instance.
    """
    import h5py

    _require_file(path)
    try:
        with h5py.File(path, 'r') as file:
            missing = [name for name in ('instance', 'reMask') if name not in file]
            if missing:
                raise ValueError(
                    f'the field {missing[0]} is missing; it has {sorted(file) or "none"}'
                )
            ids = np.ravel(file['instance'][()]).astype(int).tolist()
            masks = file['reMask']
            shape = masks.shape if masks.ndim == 3 else (1, *masks.shape)
            check_pixels(*shape[-2:])
            if len(shape) != 3 or shape[0] != len(ids):
                raise ValueError(f'reMask of shape {masks.shape} does not fit the instances {ids}')
            if instance not in ids:
                raise ValueError(f'the instance {instance} is not there; it has {ids}')
            mask = masks[ids.index(instance)] if masks.ndim == 3 else masks[()]
        return mask.T > 0
    except Exception as error:  # h5py raises all kinds of errors on broken files
        if isinstance(error, MemoryError):
            raise
        reason = error if raised_in(error) else 'it is no HDF5 file of this form, or broken'
        raise ValueError(f'{path}: {reason}. Get or extract this file again.') from error


def read_mat_masks(path: str | Path) -> np.ndarray:
    """The masks of a video from a file of JHMDB, bool (T, H, W).

    The field is ``part_mask``, (H, W, T), or (H, W) where there is one frame.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or lacks the field.
    """
    from scipy.io import loadmat, whosmat

    _require_file(path)
    try:
        content = loadmat(path, variable_names=['part_mask'])
        found = [name for name, *_ in whosmat(path)]
    except Exception as error:  # SciPy raises all kinds of errors on broken files
        raise ValueError(
            f'{path} is not a readable MATLAB file ({type(error).__name__}: {error}). '
            'Get or extract this file again.'
        ) from error
    if 'part_mask' not in content:
        raise ValueError(
            f'{path}: the field part_mask is missing; it has {found or "none"}. '
            'Get or extract this file again.'
        )
    masks = content['part_mask']
    if masks.ndim not in (2, 3) or masks.dtype.kind not in 'buif':
        raise ValueError(f'{path}: part_mask must be (H, W, T), but has the shape {masks.shape}')
    return np.moveaxis(masks if masks.ndim == 3 else masks[..., None], -1, 0) > 0


def _annotated(results: dict) -> list[int]:
    return np.asarray(results['frame_inds'])[results['key_frames']].tolist()


def _require_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} not found, but the annotation file names it. '
            'The archive may be extracted in part: extract it again.'
        )


@contextmanager
def _open_video(path: str | Path) -> Iterator[cv2.VideoCapture]:
    _require_file(path)
    # One thread: small videos are decoded faster by it, and there are workers for more.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ValueError(
                f'{path} is not a readable video. It may be truncated: get or extract it again.'
            )
        yield capture
    finally:
        capture.release()


def _add_masks(results: dict, masks: np.ndarray, where: str) -> dict:
    """Add ``masks``, ``boxes`` and ``valid`` from (T', H0, W0), and let the frames fit to them."""
    size = masks.shape[1:]
    if size != tuple(results['img_shape']):
        differences = np.abs(np.subtract(size, results['img_shape']))
        if differences.max() > _MAX_SIZE_DIFFERENCE:
            raise ValueError(
                f'{where}: masks of height and width {size} do not fit to frames of '
                f'{tuple(results["img_shape"])} of video {results["video_id"]}. '
                'Masks must have the size of their frames.'
            )
        resize_clip(results, *size)
        results['ori_shape'] = size
        results['scale_factor'] = (1.0, 1.0)
    results['masks'] = masks[None]
    results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
    return results
