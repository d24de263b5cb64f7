"""Frames and masks from files."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadFrames:
    """Decode the frames of the clip.

    Adds ``imgs (T, H0, W0, 3)`` uint8 RGB, ``ori_shape`` and ``img_shape`` (H0, W0). Orientation
    tags (EXIF) are ignored, as masks have none.

    Args:
        keep_last: Keep the clip just read, for the next sentence about the same one
            (``VideoBatchSampler``). The arrays are read-only then.

    Raises:
        FileNotFoundError: Naming a frame that is listed, but not there.
        ValueError: Naming a frame that cannot be decoded or differs in size from the others.
    """

    def __init__(self, keep_last: bool = False) -> None:
        self.read_clip = _read_kept_clip if keep_last else _read_clip

    def __call__(self, results: dict) -> dict:
        """Add ``imgs``, ``ori_shape`` and ``img_shape``."""
        names = [results['frame_names'][i] for i in results['frame_inds']]
        paths = tuple(Path(results['img_dir'], name + results['img_suffix']) for name in names)
        results['imgs'] = self.read_clip(paths, read_rgb)
        results['ori_shape'] = results['img_shape'] = results['imgs'].shape[1:3]
        return results


@TRANSFORMS.register_module()
class LoadMasks:
    """Read the masks of the referred object on the annotated frames.

    Adds ``masks (N, T', H0, W0)`` bool, ``boxes (N, T', 4)`` float32 xyxy px (see
    :func:`boxes_of_masks`) and ``valid (N, T')`` bool, N = 1. Items without ground truth
    (``mask_dir`` None) pass as they are.

    Args:
        with_control: Add ``control_masks (1, T', H0, W0)``, those of ``control_obj_id``, where
            there is one.
        keep_last: Keep the index maps just read, as ``LoadFrames`` does.

    Raises:
        FileNotFoundError: Naming a mask file that is not there.
        ValueError: Naming a mask file that cannot be decoded, is not an index map, or differs in
            size.
    """

    def __init__(self, with_control: bool = False, keep_last: bool = False) -> None:
        self.with_control = with_control
        self.read_clip = _read_kept_clip if keep_last else _read_clip

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``, where there is ground truth."""
        if results['mask_dir'] is None:
            return results
        inds = results['frame_inds'][results['key_frames']]
        names = [results['frame_names'][i] for i in inds]
        paths = tuple(Path(results['mask_dir'], name + results['mask_suffix']) for name in names)
        maps = self.read_clip(paths, read_index_map)
        if maps.shape[1:] != tuple(results['ori_shape']):
            raise ValueError(
                f'{paths[0]} has height and width {maps.shape[1:]}, but its frame in '
                f'{results["img_dir"]} has {tuple(results["ori_shape"])}. '
                'Masks must have the size of their frames.'
            )
        results['masks'] = (maps == results['obj_id'])[None]
        results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
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
    return _read(path, lambda image: np.asarray(image.convert('RGB')))


def read_index_map(path: Path) -> np.ndarray:
    """Decode a palette (or grey) image file to its indices, (H, W)."""

    def indices(image: Image.Image) -> np.ndarray:
        if image.mode not in ('P', 'L'):
            raise ValueError(
                f'a palette image of object ids was expected, not one of mode {image.mode}'
            )
        return np.asarray(image)

    return _read(path, indices)


def _read(path: Path, convert: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return convert(image)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{path} not found, but the expression file lists this frame. '
            'The archive may be extracted in part: extract it again.'
        ) from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
    ) as error:  # what Pillow raises on broken files
        raise ValueError(
            f'{path} cannot be read: {error}. Get or extract this file again.'
        ) from error


def _read_clip(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Read files of one size into one array, each file once."""
    first = read(paths[0])
    clip = np.empty((len(paths), *first.shape), first.dtype)
    clip[0] = first
    position = {paths[0]: 0}
    for t, path in enumerate(paths[1:], start=1):
        if path in position:
            clip[t] = clip[position[path]]
            continue
        frame = read(path)
        if frame.shape != first.shape:
            raise ValueError(
                f'{path} has height and width {frame.shape[:2]}, but {paths[0]} has '
                f'{first.shape[:2]}. All frames of a video must have one size.'
            )
        clip[t] = frame
        position[path] = t
    return clip


@lru_cache(maxsize=2)  # the frames and the masks of one clip
def _read_kept_clip(paths: tuple[Path, ...], read: Callable[[Path], np.ndarray]) -> np.ndarray:
    clip = _read_clip(paths, read)
    clip.flags.writeable = False
    return clip
