"""A clip of one picture in which camera and occluders move steadily, as in real video."""

import cv2
import numpy as np

from referformer.registry import TRANSFORMS

from .loading import boxes_of_masks
from .pseudo_clip import Motion, blur_kernel, homography


@TRANSFORMS.register_module()
class MovingClip:
    """Make a clip of a picture: a camera that moves from one view of it to another.

    Unlike :class:`PseudoClip`, whose copies have nothing to do with each other, frames follow a
    path: zoom, shift, rotation and brightness change steadily, with a little jitter. By chance a
    patch of the picture crosses the view in front of everything, or the path leads so far that
    things leave the frame or enter it (half of the clips run backwards). Masks follow and end where
    something is in front; where nothing is left of them, boxes are zero and ``valid`` False.

    Needs one loaded and annotated frame. Sets what :class:`PseudoClip` sets.

    Args:
        num_frames: T.
        zoom: Largest factor between the first and the last frame.
        shift: Largest shift on the way, of the picture's width and height.
        far: The same for the clips that lead far.
        far_prob: Share of these.
        rotation: Largest angle on the way, degrees.
        brightness: Largest change on the way, of 255.
        jitter: Standard deviation of a frame's shift off the path, of the size.
        occluder_prob: Share of clips with a patch in front.
        blur_prob: Share of frames with motion blur.
    """

    def __init__(
        self,
        num_frames: int = 5,
        zoom: float = 1.3,
        shift: float = 0.12,
        far: float = 0.9,
        far_prob: float = 0.15,
        rotation: float = 8,
        brightness: float = 15,
        jitter: float = 0.008,
        occluder_prob: float = 0.3,
        blur_prob: float = 0.2,
    ) -> None:
        if num_frames < 1 or zoom < 1:
            raise ValueError(
                f'num_frames and zoom must be at least 1, but are {num_frames} and {zoom}'
            )
        self.num_frames = num_frames
        self.zoom = zoom
        self.shift = shift
        self.far = far
        self.far_prob = far_prob
        self.rotation = rotation
        self.brightness = brightness
        self.jitter = jitter
        self.occluder_prob = occluder_prob
        self.blur_prob = blur_prob

    def __call__(self, results: dict) -> dict:
        """Make the clip."""
        if len(results['imgs']) != 1 or results['masks'].shape[1] != 1:
            raise ValueError(f'a clip is made of one picture, not of {len(results["imgs"])} frames')
        image, masks = results['imgs'][0], results['masks'][:, 0]
        views = self._path(*image.shape[:2])
        imgs = np.stack([self._view(image, *view) for view in views])
        moved = np.stack(
            [np.stack([_warp(mask, matrix) for matrix, _ in views]) for mask in masks]
        ).astype(bool)
        if np.random.rand() < self.occluder_prob:
            self._occlude(imgs, moved)
        if np.random.rand() < 0.5:
            imgs, moved = imgs[::-1], moved[:, ::-1]
        results['imgs'], results['masks'] = np.ascontiguousarray(imgs), moved.copy()
        results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
        results['frame_inds'] = np.zeros(self.num_frames, int)
        results['key_frames'] = np.arange(self.num_frames)
        return results

    def _path(self, height: int, width: int) -> list[tuple[np.ndarray, float]]:
        """Where pixels go in each frame, (3, 3), and what is added to the brightness."""
        uniform = np.random.uniform
        reach = self.far if np.random.rand() < self.far_prob else self.shift
        shift = uniform(-reach, reach, 2)
        rotation = uniform(-self.rotation, self.rotation)
        zoom = np.log(self.zoom) * uniform(-1, 1)
        brightness = uniform(-self.brightness, self.brightness)
        centre = np.array([width / 2, height / 2])
        views = []
        for step in np.linspace(0, 1, self.num_frames):
            place = step * shift + np.random.normal(0, self.jitter, 2)
            motion = Motion(rotation=step * rotation, shift=tuple(place.tolist()))
            scale = np.exp(step * zoom)
            scaling = np.array([[scale, 0, 0], [0, scale, 0], [0, 0, 1.0]])
            scaling[:2, 2] = centre * (1 - scale)
            views.append((homography(height, width, motion) @ scaling, step * brightness))
        return views

    def _view(self, image: np.ndarray, matrix: np.ndarray, brightness: float) -> np.ndarray:
        view = cv2.add(_warp(image, matrix, cv2.INTER_LINEAR), (brightness,) * 3)
        if np.random.rand() < self.blur_prob:
            size = int(np.random.choice((3, 5, 7)))
            view = cv2.filter2D(view, -1, blur_kernel(size, np.random.uniform(0, 180), 0))
        return view

    def _occlude(self, imgs: np.ndarray, masks: np.ndarray) -> None:
        """Let an elliptic patch of the picture cross the frames, in place."""
        T, height, width, _ = imgs.shape
        axes = [int(side * np.random.uniform(0.06, 0.2)) + 1 for side in (width, height)]
        start, end = np.random.uniform(-0.1, 1.1, (2, 2)) * [width, height]
        # What is seen on it: another part of the picture, mirrored.
        texture = np.roll(imgs[0, :, ::-1], np.random.randint(height), axis=0)
        for t, step in enumerate(np.linspace(0, 1, T)):
            centre = tuple((start + step * (end - start)).astype(int).tolist())
            patch = np.zeros((height, width), np.uint8)
            cv2.ellipse(patch, centre, axes, 0, 0, 360, 1, -1)
            hidden = patch.astype(bool)
            imgs[t][hidden] = texture[hidden]
            masks[:, t] &= ~hidden


def _warp(
    image: np.ndarray, matrix: np.ndarray, interpolation: int = cv2.INTER_NEAREST
) -> np.ndarray:
    height, width = image.shape[:2]
    image = image.astype(np.uint8) if image.dtype == bool else image
    return cv2.warpPerspective(image, matrix, (width, height), flags=interpolation)
