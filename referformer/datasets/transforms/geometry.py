"""Flip, resize and crop: one call for all frames, masks and boxes of a clip.

Boxes are moved by arithmetic, as in the reference, and not measured again on the moved masks. An
absent object's zero box moves along, and ``valid`` says that it does not count.
"""

import re
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose
from PIL import Image

from referformer.registry import TRANSFORMS, build
from referformer.structures import is_absent

from .loading import FrameFiles

_MAX_ASPECT = 100
# 'left', 'leftmost', 'left-hand', but neither 'cleft' nor 'bright'
_SIDES = re.compile(r'\b(left|right)(?=(?:s|most|hand|side|wards?)?\b)')


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror the clip horizontally, and swap the words left and right in the expression.

    Args:
        prob: Probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def __call__(self, results: dict) -> dict:
        """Mirror by chance."""
        if np.random.rand() < self.prob:
            flip_clip(results)
        return results


@TRANSFORMS.register_module()
class Resize:
    """Resize the clip, keeping its shape.

    Args:
        shorter: Shorter side, px.
        max_size: Largest longer side, px; it wins over ``shorter``. None: no limit.
        resize_masks: False leaves the masks at the size on disk, for scoring. Boxes follow the
            frames.
        exact: See :func:`resize_frames`.
    """

    def __init__(
        self,
        shorter: int,
        max_size: int | None = None,
        resize_masks: bool = True,
        exact: bool = True,
    ) -> None:
        self.shorter = shorter
        self.max_size = max_size
        self.resize_masks = resize_masks
        self.exact = exact

    def __call__(self, results: dict) -> dict:
        """Resize to the given size."""
        size = resized_shape(*results['img_shape'], self.shorter, self.max_size)
        resize_clip(results, *size, resize_masks=self.resize_masks, exact=self.exact)
        return results


@TRANSFORMS.register_module()
class RandomResize:
    """Resize the clip to one of several shorter sides.

    Args:
        scales: Shorter sides, px.
        max_size: Largest longer side, px. None: no limit.
        exact: See :func:`resize_frames`.
    """

    def __init__(
        self, scales: Sequence[int], max_size: int | None = None, exact: bool = False
    ) -> None:
        self.scales = tuple(scales)
        self.max_size = max_size
        self.exact = exact

    def __call__(self, results: dict) -> dict:
        """Resize to a random size."""
        shorter = int(np.random.choice(self.scales))
        size = resized_shape(*results['img_shape'], shorter, self.max_size)
        resize_clip(results, *size, exact=self.exact)
        return results


@TRANSFORMS.register_module()
class RandomCrop:
    """Crop all frames to one window of random size and place.

    Args:
        min_size: Smallest height and width, px; smaller frames keep theirs.
        max_size: Largest height and width, px.
        shorter: Shorter sides; one is drawn, and ``min_size`` and ``max_size`` count in pixels of a
            frame resized to it, while the window is cut from the frame as it is. Instead of resize,
            crop, resize then only the window is resized, once: less work, and less blur. None:
            pixels of the frame.
    """

    def __init__(self, min_size: int, max_size: int, shorter: Sequence[int] | None = None) -> None:
        if not 0 < min_size <= max_size:
            raise ValueError(f'0 < min_size <= max_size is required, not {min_size} and {max_size}')
        self.min_size = min_size
        self.max_size = max_size
        self.shorter = shorter and tuple(shorter)

    def __call__(self, results: dict) -> dict:
        """Crop at random."""
        crop_clip(results, *self.draw(*results['img_shape']))
        return results

    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a random window of a frame of the given size."""
        shape = (height, width)
        if self.shorter:
            shape = resized_shape(height, width, int(np.random.choice(self.shorter)))
        sizes = [
            np.random.randint(min(self.min_size, side), min(self.max_size, side) + 1)
            for side in shape
        ]
        starts = [np.random.randint(side - size + 1) for side, size in zip(shape, sizes)]
        scales = (height / shape[0], width / shape[1])
        # Both ends are rounded, so that windows at the border end there.
        ends = [round((start + size) * k) for start, size, k in zip(starts, sizes, scales)]
        top, left = (round(start * k) for start, k in zip(starts, scales))
        return top, left, ends[0] - top, ends[1] - left


@TRANSFORMS.register_module()
class RandomChoice:
    """Apply one of several sequences of transforms.

    Args:
        transforms: The sequences; an empty one changes nothing.
        prob: Their probabilities; by default equal ones.
    """

    def __init__(
        self, transforms: Sequence[Sequence[dict | Callable]], prob: Sequence[float] | None = None
    ) -> None:
        if prob is not None and len(prob) != len(transforms):
            raise ValueError(
                f'{len(transforms)} sequences of transforms have {len(prob)} probabilities'
            )
        self.transforms = [
            Compose([build(t, TRANSFORMS) for t in sequence]) for sequence in transforms
        ]
        self.prob = prob

    def __call__(self, results: dict) -> dict | None:
        """Choose and apply."""
        return self.transforms[np.random.choice(len(self.transforms), p=self.prob)](results)


@TRANSFORMS.register_module()
class FilterVisible:
    """Set ``valid`` by the boxes (both extents above 0), and drop a clip that does not show its
    object, unless its sentence is about none of its video.

    A dropped clip is None, which makes the dataset draw another item. A mask can keep the one
    column or row of pixels that a box without extent stands for, as in the reference.
    """

    def __call__(self, results: dict) -> dict | None:
        """Filter by visibility."""
        extents = results['boxes'][..., 2:] - results['boxes'][..., :2]
        results['valid'] = (extents > 0).all(-1)
        return results if results['valid'].any() or is_absent(results.get('obj_id')) else None


def flip_clip(results: dict) -> None:
    """Mirror a clip and its expression, in place.

    Raises:
        TypeError: Objects have labels of their attributes, which may say "left".
    """
    if np.ndim(results.get('label')):
        raise TypeError(
            'a flip does not change the labels of attributes, such as "left": leave RandomFlip out'
        )
    width = results['img_shape'][1]
    imgs = np.asarray(results['imgs'])
    results['imgs'] = np.empty_like(imgs)
    for new, old in zip(results['imgs'], imgs):
        cv2.flip(old, 1, dst=new)
    results['text'] = swap_sides(results['text'])
    if 'masks' in results:
        results['masks'] = np.ascontiguousarray(results['masks'][..., ::-1])
        x1, y1, x2, y2 = np.moveaxis(results['boxes'], -1, 0)
        results['boxes'] = np.stack([width - x2, y1, width - x1, y2], -1)


def swap_sides(text: str) -> str:
    """Exchange the words left and right, also in leftmost, left-hand and the like."""
    return _SIDES.sub(lambda match: 'right' if match[1] == 'left' else 'left', text)


def resized_shape(
    height: int, width: int, shorter: int, max_size: int | None = None
) -> tuple[int, int]:
    """Height and width after a resize, by the reference's rounding (the longer side is cut to an
    integer).

    Raises:
        ValueError: The frame is so narrow that nothing of it would be left.
    """
    short, long = min(height, width), max(height, width)
    if long > _MAX_ASPECT * short:
        raise ValueError(
            f'a frame of {width} x {height} pixels is too narrow: one side may be {_MAX_ASPECT} '
            'times as long as the other. Crop it.'
        )
    if max_size is not None and long / short * shorter > max_size:
        shorter = round(max_size * short / long)
    longer = int(shorter * long / short)
    return (shorter, longer) if height <= width else (longer, shorter)


def resize_clip(
    results: dict, height: int, width: int, resize_masks: bool = True, exact: bool = True
) -> None:
    """Resize a clip, in place: frames bilinear with antialiasing (see :func:`resize_frames`), masks
    nearest."""
    old_height, old_width = results['img_shape']
    scale_x, scale_y = width / old_width, height / old_height
    if (height, width) != (old_height, old_width):
        results['imgs'] = resize_frames(results['imgs'], height, width, exact)
    results['img_shape'] = (height, width)
    before_x, before_y = results.get('scale_factor', (1.0, 1.0))
    results['scale_factor'] = (before_x * scale_x, before_y * scale_y)
    if 'masks' in results:
        results['boxes'] = results['boxes'] * np.tile(np.float32([scale_x, scale_y]), 2)
        if resize_masks:
            results['masks'] = resize_nearest(results['masks'], height, width)


def resize_frames(
    imgs: np.ndarray | FrameFiles, height: int, width: int, exact: bool = True
) -> np.ndarray:
    """Bilinear resize with antialiasing of uint8 (T, H, W, 3).

    Args:
        imgs: The frames.
        height: New height.
        width: New width.
        exact: Pillow's numbers, which the published weights were made and tested with. Otherwise
            PyTorch's, which round differently by at most 1 and take a tenth of the time; and frames
            that are not decoded yet may be at half the size first (see :class:`FrameFiles`).
    """
    late = isinstance(imgs, FrameFiles) and not exact
    imgs = imgs.read(height, width) if late else np.asarray(imgs)
    if imgs.shape[1:3] == (height, width):
        return imgs
    if not exact:
        clip = torch.from_numpy(imgs).permute(0, 3, 1, 2)  # channels last: one call, no copy
        clip = torch.nn.functional.interpolate(
            clip, (height, width), mode='bilinear', antialias=True
        )
        return np.ascontiguousarray(clip.permute(0, 2, 3, 1).numpy())
    resized = np.empty((len(imgs), height, width, 3), np.uint8)
    for new, old in zip(resized, imgs):
        new[:] = Image.fromarray(old).resize((width, height), Image.Resampling.BILINEAR)
    return resized


def resize_nearest(masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest-neighbour resize of (..., H, W), with the choice of pixels of ``torch``'s
    'nearest'."""
    for axis, new in ((-2, height), (-1, width)):
        old = masks.shape[axis]
        if new != old:
            index = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
            masks = masks.take(np.minimum(index.astype(np.int64), old - 1), axis)
    return masks


def crop_clip(results: dict, top: int, left: int, height: int, width: int) -> None:
    """Crop a clip to a window, in place. A box that is left without extent becomes zero and
    invisible."""
    rows, columns = slice(top, top + height), slice(left, left + width)
    imgs = results['imgs']
    late = isinstance(imgs, FrameFiles)
    results['imgs'] = (
        imgs.crop(rows, columns) if late else np.ascontiguousarray(imgs[:, rows, columns])
    )
    results['img_shape'] = (height, width)
    if 'masks' in results:
        results['masks'] = np.ascontiguousarray(results['masks'][..., rows, columns])
        corners = results['boxes'].reshape(*results['boxes'].shape[:-1], 2, 2) - np.float32(
            [left, top]
        )
        corners = corners.clip(0, np.float32([width, height]))
        kept = (corners[..., 1, :] > corners[..., 0, :]).all(-1)
        results['boxes'] = corners.reshape(results['boxes'].shape) * kept[..., None]
        results['valid'] = results['valid'] & kept
