"""A clip from one image, for training on videos and images together."""

from typing import NamedTuple

import cv2
import numpy as np

from referformer.registry import TRANSFORMS

from .loading import boxes_of_masks


class Motion(NamedTuple):
    """One draw of :class:`PseudoClip`; the defaults change nothing."""

    brightness: float = 0.0  # added, of 255
    colour: float = 0.0  # added to the saturation, of 255, and as a part of the circle to the hue
    corners: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 4  # moved inwards, of the size
    rotation: float = 0.0  # degrees
    shift: tuple[float, float] = (0.0, 0.0)  # x and y, of the size
    blur: int = 0  # side of the kernel, px
    blur_angle: float = 0.0  # degrees
    blur_direction: float = 0.0  # -1 to 1: where the trace is strongest


@TRANSFORMS.register_module()
class PseudoClip:
    """Make a clip of an image: the image, and T - 1 moved, recoloured and blurred copies of it, in
    random order.

    A copy gets another brightness, another hue and saturation, or both; then the perspective
    changes, the image turns about its centre and shifts, and is blurred by chance. What comes into
    the frame is black. Every copy is made of the image itself, not of the copy before it.

    Needs one loaded and annotated frame. Sets ``imgs (T, H0, W0, 3)``, ``masks (N, T, H0, W0)``,
    ``boxes`` and ``valid`` of the moved masks (see :func:`boxes_of_masks`), those of the image
    itself too; ``frame_inds`` and ``key_frames``.

    Args:
        num_frames: T.
        rotation: Largest angle, degrees.
        shift: Largest shift to each side, of the image's width and height.
        perspective: Standard deviation of the way a corner moves inwards, of the image's width and
            height.
        brightness: Largest amount that is added or subtracted, of 255.
        colour: Largest amount that is added to or subtracted from hue and saturation, of 255.
        blur_prob: Probability of motion blur.
        blur_sizes: Sides of its kernel, px.
    """

    def __init__(
        self,
        num_frames: int = 5,
        rotation: float = 20,
        shift: float = 0.1,
        perspective: float = 0.08,
        brightness: float = 40,
        colour: float = 5,
        blur_prob: float = 0.25,
        blur_sizes: tuple[int, ...] = (9, 11),
    ) -> None:
        if num_frames < 1:
            raise ValueError(f'num_frames must be at least 1, but is {num_frames}')
        if not all(size % 2 for size in blur_sizes):
            raise ValueError(f'blur_sizes must be odd, but are {blur_sizes}')
        self.num_frames = num_frames
        self.rotation = rotation
        self.shift = shift
        self.perspective = perspective
        self.brightness = brightness
        self.colour = colour
        self.blur_prob = blur_prob
        self.blur_sizes = tuple(blur_sizes)

    def __call__(self, results: dict) -> dict:
        """Make the clip."""
        num_frames, height, width, _ = results['imgs'].shape
        if num_frames != 1 or results['masks'].shape[1] != 1:
            raise ValueError(f'a pseudo clip is made of one image, not of {num_frames} frames')
        image, masks = results['imgs'][0], results['masks'][:, 0]
        T = self.num_frames
        imgs = np.empty((T, height, width, 3), np.uint8)
        moved = np.empty((len(masks), T, height, width), bool)
        order = np.random.permutation(T)
        imgs[order[0]], moved[:, order[0]] = image, masks
        for t in order[1:]:
            imgs[t], moved[:, t] = move(image, masks, self.draw())
        results['imgs'], results['masks'] = imgs, moved
        results['boxes'], results['valid'] = boxes_of_masks(moved)
        results['frame_inds'] = np.zeros(T, int)
        results['key_frames'] = np.arange(T)
        return results

    def draw(self) -> Motion:
        """Draw what happens to one copy."""
        uniform = np.random.uniform
        changed = np.random.randint(1, 4)  # 1: brightness, 2: colour, 3: both
        inwards = np.abs(np.random.normal(0, self.perspective, (4, 2))) % 0.5
        blurred = np.random.rand() < self.blur_prob
        return Motion(
            brightness=uniform(-self.brightness, self.brightness) if changed & 1 else 0.0,
            colour=uniform(-self.colour, self.colour) if changed & 2 else 0.0,
            corners=tuple(map(tuple, inwards.tolist())),
            rotation=uniform(-self.rotation, self.rotation),
            shift=tuple(uniform(-self.shift, self.shift, 2).tolist()),
            blur=int(np.random.choice(self.blur_sizes)) if blurred else 0,
            blur_angle=uniform(0, 360),
            blur_direction=uniform(-1, 1),
        )


def move(image: np.ndarray, masks: np.ndarray, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Apply a motion to an image, uint8 RGB (H, W, 3), and its masks, bool (N, H, W)."""
    height, width, _ = image.shape
    matrix = homography(height, width, motion)
    image = _recolour(image, motion.brightness, motion.colour)
    image = cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    if motion.blur:
        kernel = blur_kernel(motion.blur, motion.blur_angle, motion.blur_direction)
        image = cv2.filter2D(image, -1, kernel)
    warped = [
        cv2.warpPerspective(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
        for mask in masks.astype(np.uint8)
    ]
    return image, np.stack(warped).astype(bool)


def homography(height: int, width: int, motion: Motion) -> np.ndarray:
    """Where pixels of the image go, (3, 3): perspective, then rotation and shift.

    The image is looked at through a quadrangle, whose corners lie inside it and become those of
    the frame.
    """
    size = np.array([width - 1, height - 1], np.float64)
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)  # clockwise
    inside = frame + (1 - 2 * frame) * np.asarray(motion.corners)
    perspective = cv2.getPerspectiveTransform(np.float32(inside * size), np.float32(frame * size))
    affine = np.eye(3)
    affine[:2] = cv2.getRotationMatrix2D((size / 2).tolist(), motion.rotation, 1)
    affine[:2, 2] += np.asarray(motion.shift) * [width, height]
    return affine @ perspective


def blur_kernel(size: int, angle: float, direction: float) -> np.ndarray:
    """Kernel of motion blur: a line through the centre, float32 (size, size), of sum 1.

    Args:
        size: Length of the line and side of the kernel, px, odd.
        angle: Of the line, degrees.
        direction: -1, 1: the trace rises from 0 at one end of the line to the other; 0: it is even.
    """
    line = np.zeros((size, size), np.float32)
    line[:, size // 2] = np.linspace((1 + direction) / 2, (1 - direction) / 2, size)
    centre = (size // 2, size // 2)
    turned = cv2.warpAffine(line, cv2.getRotationMatrix2D(centre, angle, 1), (size, size))
    return turned / turned.sum()


def _recolour(image: np.ndarray, brightness: float, colour: float) -> np.ndarray:
    """Add to brightness, hue and saturation, within their ranges."""
    if brightness:
        image = cv2.add(image, (brightness,) * 3)
    if colour:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue: 256 steps, which wrap around
        steps = round(colour)
        hsv[..., 0] += np.uint8(steps % 256)
        hsv[..., 1] = cv2.add(hsv[..., 1], (float(steps),))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return image
