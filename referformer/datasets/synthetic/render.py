"""Drawing a scene: silhouettes first, then the frames.

Letters: N objects, T frames, H W frame size.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from .scene import SHAPES, Scene, SceneObject

_SUPERSAMPLING = 4
_SHIFT = 4  # fractional bits of the corner coordinates given to OpenCV


class Cutout(NamedTuple):
    """An object in one frame: its coverage in [0, 1] and where that lies in the frame."""

    coverage: np.ndarray  # (h, w) float32
    rows: slice
    cols: slice


class Silhouettes(NamedTuple):
    """All objects of a video.

    Args:
        cutouts: Of every object in every frame, None where it is outside; [N][T].
        whole: Each object as if it were alone, (N, T, H, W) bool.
        ids: The nearest object's id (index + 1) for every pixel, 0 for background, (T, H, W) uint8.
    """

    cutouts: list[list[Cutout | None]]
    whole: np.ndarray
    ids: np.ndarray


@cache
def outline(shape: str) -> np.ndarray:
    """Corners (K, 2) of a shape with its centre of mass at 0 and the area of a disc of diameter 1.

    Equal areas make "small" and "large" mean the same for every shape.
    """
    assert shape in SHAPES
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if shape == 'circle':
        points = np.stack([np.cos(turn), np.sin(turn)], 1)
    elif shape == 'heart':
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        points = np.stack([x, -y], 1)
    elif shape == 'cross':
        a, b = 1.0, 0.32
        corner = np.array([[b, -a], [b, -b], [a, -b]])
        quarter = np.array([[0, -1], [1, 0]])
        points = np.concatenate([corner @ np.linalg.matrix_power(quarter.T, k) for k in range(4)])
    else:
        corners, inner = {'square': (4, None), 'triangle': (3, None), 'star': (5, 0.45)}[shape]
        count = corners * (2 if inner else 1)
        turn = np.arange(count) * 2 * np.pi / count - np.pi / 2
        turn = turn + (np.pi / 4 if shape == 'square' else 0)
        radius = np.where(np.arange(count) % 2, inner or 1, 1)
        points = np.stack([radius * np.cos(turn), radius * np.sin(turn)], 1)
    following = np.roll(points, -1, axis=0)
    wedge = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    area = wedge.sum() / 2
    centre = ((points + following) * wedge[:, None]).sum(0) / (6 * area)
    return (points - centre) * np.sqrt(np.pi / 4 / abs(area))


def draw_silhouettes(scene: Scene) -> Silhouettes:
    """Draw where every object is, with and without those in front of it."""
    height, width = scene.size
    T = scene.num_frames
    whole = np.zeros((len(scene.objects), T, height, width), bool)
    ids = np.zeros((T, height, width), np.uint8)
    cutouts = [[_cut_out(obj, t, scene.size) for t in range(T)] for obj in scene.objects]
    for index in scene.depth:
        for t, cutout in enumerate(cutouts[index]):
            if cutout is not None:
                inside = cutout.coverage > 0.5
                whole[index, t, cutout.rows, cutout.cols] = inside
                ids[t, cutout.rows, cutout.cols][inside] = index + 1
    return Silhouettes(cutouts, whole, ids)


def draw_frames(rng: Generator, scene: Scene, silhouettes: Silhouettes) -> np.ndarray:
    """Paint the background and the objects from far to near; (T, H, W, 3) uint8 RGB."""
    height, width = scene.size
    frames = np.empty((scene.num_frames, height, width, 3), np.uint8)
    speed, heading = rng.choice([0, 0.5, 1.0]) * scene.unit, rng.uniform(0, 2 * np.pi)
    pan = speed * np.array([np.cos(heading), np.sin(heading)])
    margin = int(np.ceil(speed * scene.num_frames)) + 1
    texture = _texture(rng, height + 2 * margin, width + 2 * margin)
    noise = rng.normal(0, rng.uniform(2, 6), (height + 32, width + 32, 3)).astype(np.float32)
    lights = [_shading(rng) for _ in scene.objects]
    for t in range(scene.num_frames):
        x, y = margin + t * pan
        view = cv2.warpAffine(
            texture, np.float32([[1, 0, -x], [0, 1, -y]]), (width, height), flags=cv2.INTER_LINEAR
        )
        for index in scene.depth:
            cutout = silhouettes.cutouts[index][t]
            if cutout is not None:
                _paint(view, cutout, scene.objects[index], t, lights[index])
        row, col = rng.integers(0, 33, 2)
        view += noise[row : row + height, col : col + width]
        frames[t] = np.clip(view + 0.5, 0, 255)
    return frames


def _cut_out(obj: SceneObject, frame: int, size: tuple[int, int]) -> Cutout | None:
    """Draw one object, anti-aliased, and cut it at the borders; None where nothing is left."""
    angle = obj.angle + frame * obj.spin
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array(obj.start) + frame * np.array(obj.velocity)
    corners = outline(obj.shape) * obj.diameter @ rotation + centre
    left, top = np.floor(corners.min(0)).astype(int) - 1
    right, bottom = np.ceil(corners.max(0)).astype(int) + 2
    height, width = size
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        return None
    s = _SUPERSAMPLING
    fine = np.zeros(((bottom - top) * s, (right - left) * s), np.uint8)
    # A pixel of index i has its centre at i + 0.5.
    corners = ((corners - (left, top)) * s - 0.5) * (1 << _SHIFT)
    cv2.fillPoly(fine, [np.round(corners).astype(np.int32)], 255, shift=_SHIFT)
    coverage = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    rows, cols = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    coverage = coverage[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    return Cutout(coverage.astype(np.float32) / 255, rows, cols)


def _shading(rng: Generator) -> np.ndarray:
    """Change of brightness across an object: (x, y), as a share per diameter."""
    angle = rng.uniform(0, 2 * np.pi)
    return rng.uniform(0, 0.25) * np.array([np.cos(angle), np.sin(angle)])


def _paint(
    view: np.ndarray, cutout: Cutout, obj: SceneObject, frame: int, light: np.ndarray
) -> None:
    """Blend an object into `view` (H, W, 3), in place."""
    x, y = np.array(obj.start) + frame * np.array(obj.velocity)
    columns = (np.arange(cutout.cols.start, cutout.cols.stop) + 0.5 - x) / obj.diameter
    rows = (np.arange(cutout.rows.start, cutout.rows.stop) + 0.5 - y) / obj.diameter
    bright = (1 + light[0] * columns[None] + light[1] * rows[:, None]).astype(np.float32)
    region = view[cutout.rows, cutout.cols]
    colour = bright[..., None] * np.float32(obj.rgb)
    region += cutout.coverage[..., None] * (colour - region)


def _texture(rng: Generator, height: int, width: int) -> np.ndarray:
    """A background in two muted colours: noise of several grains, waves and a slope."""
    pattern = np.zeros((height, width), np.float32)
    roughness = rng.uniform(0.4, 0.8)
    for octave in range(4):
        cells = 3 * 2**octave
        grid = rng.normal(0, roughness**octave, (cells, cells * 3 // 2)).astype(np.float32)
        pattern += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    angle = rng.uniform(0, 2 * np.pi, 2)
    slope = np.cos(angle[0]) * x + np.sin(angle[0]) * y
    waves = np.sin(rng.uniform(10, 50) * (np.cos(angle[1]) * x + np.sin(angle[1]) * y))
    pattern += rng.uniform(0, 2) * slope + (
        rng.uniform(0.3, 1.2) * waves if rng.random() < 0.4 else 0
    )
    low, high = pattern.min(), pattern.max()
    mix = ((pattern - low) / (high - low))[..., None]
    first = _muted_colour(rng, 65, 105)
    second = _muted_colour(rng, 120, 165)
    return np.ascontiguousarray(first + mix * (second - first), np.float32)


def _muted_colour(rng: Generator, darkest: float, brightest: float) -> np.ndarray:
    """Of middle brightness and little saturation, so that no object's colour is like it."""
    return (rng.uniform(darkest, brightest) + rng.uniform(-20, 20, 3)).astype(np.float32)
