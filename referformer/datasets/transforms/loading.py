"""Frames and masks from files."""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from referformer.image_files import BROKEN_IMAGE, decode_label_map, open_image
from referformer.registry import TRANSFORMS
from referformer.structures import ABSENT

Result = TypeVar('Result')
Window = tuple[slice, slice]  # rows and columns
_WHOLE: Window = np.s_[:, :]


@TRANSFORMS.register_module()
class LoadFrames:
    """Decode the frames of the clip.

    Adds ``imgs (T, H0, W0, 3)`` uint8 RGB, ``ori_shape`` and ``img_shape`` (H0, W0). Orientation
    tags (EXIF) are ignored, as masks have none.

    Args:
        keep_last: Keep the clip just read, for the next sentence about the same one
            (``VideoBatchSampler``). The arrays are read-only then.
        draft: For training. ``imgs`` is a :class:`FrameFiles`, decoded when a transform needs its
            pixels: at half the size where the first one is a resize to that or less.

    Raises:
        FileNotFoundError: Naming a frame that is listed, but not there.
        ValueError: Naming a frame that cannot be decoded or differs in size from the others.
    """

    def __init__(self, keep_last: bool = False, draft: bool = False) -> None:
        if keep_last and draft:
            raise ValueError('keep_last is for testing, draft for training: not both')
        self.read_clip = _read_kept_clip if keep_last else _read_clip
        self.draft = draft

    def __call__(self, results: dict) -> dict:
        """Add ``imgs``, ``ori_shape`` and ``img_shape``."""
        names = [results['frame_names'][i] for i in results['frame_inds']]
        paths = tuple(Path(results['img_dir'], name + results['img_suffix']) for name in names)
        results['imgs'] = FrameFiles(paths) if self.draft else self.read_clip(paths, read_rgb)
        results['ori_shape'] = results['img_shape'] = results['imgs'].shape[1:3]
        return results


class FrameFiles:
    """The frames of a clip before they are decoded.

    ``np.asarray`` decodes them; every transform takes them where it takes an array.

    Args:
        paths: Their files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        width, height = _read(paths[0], lambda image, content: image.size)
        self.paths = paths
        self.shape = (len(paths), height, width, 3)
        self.window: Window | None = None

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Decode to (T, H0, W0, 3), or the window of it, uint8 RGB."""
        return _read_clip(self.paths, read_rgb, self.window or _WHOLE)

    def crop(self, rows: slice, columns: slice) -> 'FrameFiles | np.ndarray':
        """Keep a window only."""
        if self.window:
            return np.asarray(self)[:, rows, columns]
        cropped = copy.copy(self)
        cropped.window = (rows, columns)
        cropped.shape = (len(self.paths), rows.stop - rows.start, columns.stop - columns.start, 3)
        return cropped

    def read(self, height: int, width: int) -> np.ndarray:
        """Decode to frames that are at least of the given size: to half the size where that is
        enough, which takes JPEGs less time, else to the full one."""
        if self.window is None and 2 * height <= self.shape[1] and 2 * width <= self.shape[2]:
            return _read_clip(self.paths, read_half_rgb)
        return np.asarray(self)


@TRANSFORMS.register_module()
class LoadMasks:
    """Read the masks of the referred object, or of a list of objects, on the annotated frames.

    Adds ``masks (N, T', H0, W0)`` bool, ``boxes (N, T', 4)`` float32 xyxy px (see
    :func:`boxes_of_masks`) and ``valid (N, T')`` bool, N the objects of ``obj_id``. Items without
    ground truth (``mask_dir`` None) pass as they are.

    Args:
        with_control: Add ``control_masks (1, T', H0, W0)``, those of ``control_obj_id``, where
            there is one.
        keep_last: Keep the index maps just read, as ``LoadFrames`` does.

    Raises:
        FileNotFoundError: Naming a mask file that is not there.
        ValueError: Naming a mask file that cannot be decoded, is not an index map, or differs in
            size; or objects of which no mask of the whole video has any (those that are only out of
            view on the frames of the clip are no error).
    """

    def __init__(self, with_control: bool = False, keep_last: bool = False) -> None:
        self.with_control = with_control
        self.read_clip = _read_kept_clip if keep_last else _read_clip

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``, where there is ground truth."""
        if results['mask_dir'] is None:
            return results
        paths = _mask_paths(results, results['frame_inds'][results['key_frames']])
        maps = self.read_clip(paths, read_index_map)
        if maps.shape[1:] != tuple(results['ori_shape']):
            raise ValueError(
                f'{paths[0]} has height and width {maps.shape[1:]}, but its frame in '
                f'{results["img_dir"]} has {tuple(results["ori_shape"])}. '
                'Masks must have the size of their frames.'
            )
        results['masks'] = maps == np.reshape(results['obj_id'], (-1, 1, 1, 1))
        results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
        if not results['valid'].any() and results['obj_id'] != ABSENT:
            _require_object(results)
        if self.with_control and results.get('control_obj_id') is not None:
            results['control_masks'] = (maps == results['control_obj_id'])[None]
        return results


def boxes_of_masks(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounding boxes of masks.

    Args:
        masks: Bool, (..., H, W).

    Returns:
        boxes: xyxy of the first and last foreground column and row (not + 1), zeros where there is
            none; float32, (..., 4).
        valid: Where there is foreground, (...).
    """
    height, width = masks.shape[-2:]
    rows, columns = masks.any(-1), masks.any(-2)
    boxes = (
        columns.argmax(-1),
        rows.argmax(-1),
        width - 1 - columns[..., ::-1].argmax(-1),
        height - 1 - rows[..., ::-1].argmax(-1),
    )
    valid = rows.any(-1)
    return np.stack(boxes, -1).astype(np.float32) * valid[..., None], valid


def read_rgb(path: Path) -> np.ndarray:
    """Decode an image file to uint8 RGB, (H, W, 3)."""
    return _read(path, _decode_rgb)


def read_half_rgb(path: Path) -> np.ndarray:
    """Decode an image file to uint8 RGB, (ceil(H / 2), ceil(W / 2), 3): means of 2x2 pixels, which
    a JPEG gives at once."""
    return _read(path, partial(_decode_rgb, half=True))


def read_index_map(path: Path) -> np.ndarray:
    """Decode a palette (or grey) image file to its indices, (H, W)."""

    def indices(image: Image.Image, content: bytes) -> np.ndarray:
        if image.mode not in ('P', 'L'):
            raise ValueError(
                f'a palette image of object ids was expected, not one of mode {image.mode}'
            )
        plain = decode_label_map(content)
        return np.asarray(image) if plain is None else plain

    return _read(path, indices)


def _decode_rgb(image: Image.Image, content: bytes, half: bool = False) -> np.ndarray:
    # OpenCV gives the same numbers (libjpeg-turbo in both) in a third of the time, because Pillow
    # copies. It takes truncated files for complete, so only what ends as a JPEG does goes there.
    if image.format == 'JPEG' and image.mode in ('RGB', 'L') and content.endswith(b'\xff\xd9'):
        flags = cv2.IMREAD_REDUCED_COLOR_2 if half else cv2.IMREAD_COLOR
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        frame = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if frame is not None:
            return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB, dst=frame)
    image = image.convert('RGB')
    return np.asarray(image.reduce(2) if half else image)


def _mask_paths(results: dict, inds: Iterable[int]) -> tuple[Path, ...]:
    names, suffix = results['frame_names'], results['mask_suffix']
    return tuple(Path(results['mask_dir'], names[i] + suffix) for i in inds)


def _require_object(results: dict) -> None:
    """Raise ValueError where no mask of the video has the object of the item."""
    found: set[int] = set()
    for path in _mask_paths(results, range(len(results['frame_names']))):
        found.update(np.unique(read_index_map(path)).tolist())
        if found.intersection(np.atleast_1d(results['obj_id']).tolist()):
            return
    raise ValueError(
        f'{results["mask_dir"]}: no mask has the object {results["obj_id"]} of the expression '
        f'{results["exp_id"]} ({results["text"]!r}); they have {sorted(found - {0})}. '
        'Correct obj_id in the expression file, or get the masks again.'
    )


def _read(path: Path, convert: Callable[[Image.Image, bytes], Result]) -> Result:
    try:
        content = path.read_bytes()
        return convert(open_image(content), content)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{path} not found, but the expression file lists this frame. '
            'The archive may be extracted in part: extract it again.'
        ) from None
    except BROKEN_IMAGE as error:
        raise ValueError(
            f'{path} cannot be read: {error}. Get or extract this file again.'
        ) from error


def _read_clip(
    paths: Sequence[Path], read: Callable[[Path], np.ndarray], window: Window = _WHOLE
) -> np.ndarray:
    """Read files of one size, or the same window of each, into one array; each file once."""
    clip: np.ndarray | None = None
    position: dict[Path, int] = {}
    for t, path in enumerate(paths):
        if path in position:
            clip[t] = clip[position[path]]
            continue
        frame = read(path)
        if clip is None:
            size, shape = frame.shape[:2], frame[window].shape
            clip = np.empty((len(paths), *shape), frame.dtype)
        if frame.shape[:2] != size:
            raise ValueError(
                f'{path} has height and width {frame.shape[:2]}, but {paths[0]} has {size}. '
                'All frames of a video must have one size.'
            )
        clip[t] = frame[window]
        position[path] = t
    return clip


@lru_cache(maxsize=2)  # the frames and the masks of one clip
def _read_kept_clip(paths: tuple[Path, ...], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    clip = _read_clip(paths, read)
    clip.flags.writeable = False
    return clip
