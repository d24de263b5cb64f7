"""Flip, resize and crop: one call for all frames, masks and boxes of a clip.

Boxes are moved by arithmetic, as in the reference, and not measured again on the moved masks. An
absent object's zero box moves along, and ``valid`` says that it does not count.
"""

import re
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from mmengine.dataset import Compose
from PIL import Image

from referformer.registry import TRANSFORMS, build

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
    """

    def __init__(
        self, shorter: int, max_size: int | None = None, resize_masks: bool = True
    ) -> None:
        self.shorter = shorter
        self.max_size = max_size
        self.resize_masks = resize_masks

    def __call__(self, results: dict) -> dict:
        """Resize to the given size."""
        size = resized_shape(*results['img_shape'], self.shorter, self.max_size)
        resize_clip(results, *size, resize_masks=self.resize_masks)
        return results


@TRANSFORMS.register_module()
class RandomResize:
    """Resize the clip to one of several shorter sides.

    Args:
        scales: Shorter sides, px.
        max_size: Largest longer side, px. None: no limit.
    """

    def __init__(self, scales: Sequence[int], max_size: int | None = None) -> None:
        self.scales = tuple(scales)
        self.max_size = max_size

    def __call__(self, results: dict) -> dict:
        """Resize to a random size."""
        shorter = int(np.random.choice(self.scales))
        resize_clip(results, *resized_shape(*results['img_shape'], shorter, self.max_size))
        return results


@TRANSFORMS.register_module()
class RandomCrop:
    """Crop all frames to one window of random size and place.

    Args:
        min_size: Smallest height and width, px; smaller frames keep theirs.
        max_size: Largest height and width, px.
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        if not 0 < min_size <= max_size:
            raise ValueError(f'0 < min_size <= max_size is required, not {min_size} and {max_size}')
        self.min_size = min_size
        self.max_size = max_size

    def __call__(self, results: dict) -> dict:
        """Crop at random."""
        height, width = (self._draw(side) for side in results['img_shape'])
        top = np.random.randint(results['img_shape'][0] - height + 1)
        left = np.random.randint(results['img_shape'][1] - width + 1)
        crop_clip(results, top, left, height, width)
        return results

    def _draw(self, side: int) -> int:
        return int(np.random.randint(min(self.min_size, side), min(self.max_size, side) + 1))


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
    object.

    A dropped clip is None, which makes the dataset draw another item. A mask can keep the one
    column or row of pixels that a box without extent stands for, as in the reference.
    """

    def __call__(self, results: dict) -> dict | None:
        """Filter by visibility."""
        extents = results['boxes'][..., 2:] - results['boxes'][..., :2]
        results['valid'] = (extents > 0).all(-1)
        return results if results['valid'].any() else None


def flip_clip(results: dict) -> None:
    """Mirror a clip and its expression, in place."""
    width = results['img_shape'][1]
    results['imgs'] = np.stack([cv2.flip(frame, 1) for frame in results['imgs']])
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
    integer)."""
    short, long = min(height, width), max(height, width)
    if max_size is not None and long / short * shorter > max_size:
        shorter = round(max_size * short / long)
    longer = int(shorter * long / short)
    return (shorter, longer) if height <= width else (longer, shorter)


def resize_clip(results: dict, height: int, width: int, resize_masks: bool = True) -> None:
    """Resize a clip, in place: frames bilinear with antialiasing, masks nearest."""
    old_height, old_width = results['img_shape']
    scale_x, scale_y = width / old_width, height / old_height
    if (height, width) != (old_height, old_width):
        imgs = np.empty((len(results['imgs']), height, width, 3), np.uint8)
        for new, old in zip(imgs, results['imgs']):
            new[:] = Image.fromarray(old).resize((width, height), Image.Resampling.BILINEAR)
        results['imgs'] = imgs
    results['img_shape'] = (height, width)
    before_x, before_y = results.get('scale_factor', (1.0, 1.0))
    results['scale_factor'] = (before_x * scale_x, before_y * scale_y)
    if 'masks' in results:
        results['boxes'] = results['boxes'] * np.tile(np.float32([scale_x, scale_y]), 2)
        if resize_masks:
            results['masks'] = resize_nearest(results['masks'], height, width)


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
    results['imgs'] = np.ascontiguousarray(results['imgs'][:, rows, columns])
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
