"""Random changes of brightness, contrast and colour."""

from typing import NamedTuple

import cv2
import numpy as np

from referformer.registry import TRANSFORMS


class Distortion(NamedTuple):
    """One draw of :class:`PhotometricDistort`; the defaults change nothing."""

    brightness: float = 0.0  # added
    contrast: float = 1.0  # factor
    saturation: float = 1.0  # factor
    hue: float = 0.0  # degrees, added
    contrast_first: bool = False  # before the change of colour, not after it
    channels: tuple[int, ...] = (0, 1, 2)  # their new order


@TRANSFORMS.register_module()
class PhotometricDistort:
    """Photometric distortion of SSD (Liu et al. 2016), with the reference's habits as defaults.

    Brightness, contrast, saturation and hue each change with probability 1/2, contrast before or
    after saturation and hue; then, with probability 1/2, the colour channels are permuted.

    The defaults reproduce the distribution the published recipes were trained with: each frame of a
    clip gets its own draw, values beyond the range wrap around (250 + 10 becomes 4), and channels
    are permuted, so that "the red car" may be blue. ``per_clip=True, clip=True,
    permute_channels=False`` keeps a video steady and its colours near to their names.

    Args:
        brightness: Largest amount that is added or subtracted, of 255.
        contrast: Range of the factor of all values.
        saturation: Range of the factor of the saturation.
        hue: Largest turn of the hue, degrees.
        per_clip: One draw for all frames of a clip.
        clip: Keep values in [0, 255] after each step and round them, where the reference lets them
            wrap.
        permute_channels: Whether channels are permuted.
    """

    def __init__(
        self,
        brightness: float = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: float = 18,
        per_clip: bool = False,
        clip: bool = False,
        permute_channels: bool = True,
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.per_clip = per_clip
        self.clip = clip
        self.permute_channels = permute_channels

    def __call__(self, results: dict) -> dict:
        """Distort all frames."""
        frames = np.asarray(results['imgs'])
        imgs = np.empty_like(frames)
        distortion = self.draw()
        for t, frame in enumerate(frames):
            if t > 0 and not self.per_clip:
                distortion = self.draw()
            imgs[t] = distort(frame, distortion, self.clip)
        results['imgs'] = imgs
        return results

    def draw(self) -> Distortion:
        """Draw what happens to one frame."""
        uniform, heads = np.random.uniform, lambda: np.random.rand() < 0.5
        permuted = self.permute_channels and heads()
        return Distortion(
            brightness=uniform(-self.brightness, self.brightness) if heads() else 0.0,
            contrast=uniform(*self.contrast) if heads() else 1.0,
            saturation=uniform(*self.saturation) if heads() else 1.0,
            hue=uniform(-self.hue, self.hue) if heads() else 0.0,
            contrast_first=heads(),
            channels=tuple(np.random.permutation(3).tolist()) if permuted else (0, 1, 2),
        )


def distort(frame: np.ndarray, distortion: Distortion, clip: bool = False) -> np.ndarray:
    """Apply a distortion to one frame, uint8 RGB (H, W, 3)."""
    limit = (lambda x: np.clip(x, 0, 255, out=x)) if clip else (lambda x: x)
    image = frame.astype(np.float32)
    image += np.float32(distortion.brightness)
    limit(image)
    if distortion.contrast_first:
        image *= np.float32(distortion.contrast)
        limit(image)
    # The way through HSV changes values beyond the range, so that it must be taken where they may
    # wrap.
    if not clip or distortion.saturation != 1 or distortion.hue != 0:
        image = limit(_change_colour(image, distortion))
    if not distortion.contrast_first:
        image *= np.float32(distortion.contrast)
        limit(image)
    if clip:
        image = np.rint(image, out=image)
    # By way of int32: what a negative float is as uint8 depends on the machine.
    image = image.astype(np.int32).astype(np.uint8)
    return image if distortion.channels == (0, 1, 2) else image[..., distortion.channels]


def _change_colour(image: np.ndarray, distortion: Distortion) -> np.ndarray:
    # The reference takes RGB for BGR: hue turns the other way, which makes no difference to a draw
    # that is symmetric around 0. OpenCV takes hues beyond [0, 360) as the angles they are.
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 0] += np.float32(distortion.hue)
    hsv[..., 1] *= np.float32(distortion.saturation)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=hsv)
