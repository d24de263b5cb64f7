"""What is true of a scene's objects, measured on their silhouettes.

Statements have three values: True, False, and None where people could disagree. A sentence is only
used if it is True of one object and False of all others.
"""

from typing import NamedTuple

import numpy as np

from .render import Silhouettes
from .scene import Scene

RELATIONS = ('left of', 'right of', 'above', 'below', 'bigger', 'smaller', 'behind', 'in front')

_CLEAR = 0.5  # an object is clear in a frame if this share of its area is visible
_SEEN = 0.4  # share of the frames in which every object has to be clear
_TOUCHING = 0.75  # largest share of the frames in which two objects may overlap
_AXES = {'left of': (0, -1), 'right of': (0, 1), 'above': (1, -1), 'below': (1, 1)}


class Facts(NamedTuple):
    """Measurements on N objects in T frames.

    Args:
        scene: The scene measured.
        centres: (x, y) of every object, px, (N, T, 2).
        inside: Share of every object's area that lies inside the frame, (N, T).
        visible: The same without what other objects hide, (N, T).
        overlap: Pixels that two objects alone would share, (N, N, T).
    """

    scene: Scene
    centres: np.ndarray
    inside: np.ndarray
    visible: np.ndarray
    overlap: np.ndarray

    @property
    def clear(self) -> np.ndarray:
        """Whether each object is clearly visible, (N, T) bool."""
        return self.visible >= _CLEAR

    @property
    def occluded(self) -> np.ndarray:
        """Whether others hide a fifth of the object in some frame, (N,) bool."""
        return (self.inside - self.visible).max(1) >= 0.2

    @property
    def crossing_border(self) -> np.ndarray:
        """Whether half of the object is outside in some frame, (N,) bool."""
        return self.inside.min(1) <= 0.5


def is_promising(scene: Scene) -> bool:
    """Whether `is_watchable` could hold, from the paths alone: spares drawing most other scenes."""
    height, width = scene.size
    centres = np.stack([obj.centres(scene.num_frames) for obj in scene.objects])
    is_inside = ((centres >= 0) & (centres <= (width, height))).all(-1)
    radii = np.array([obj.diameter for obj in scene.objects]) / 2
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    touching = (distances < 0.8 * (radii[:, None] + radii)[..., None]).mean(-1)
    np.fill_diagonal(touching, 0)
    return bool(is_inside.mean(1).min() >= _SEEN and touching.max() <= _TOUCHING)


def measure(scene: Scene, silhouettes: Silhouettes) -> Facts:
    """Measure what statements about `scene` rest on."""
    N, T = silhouettes.whole.shape[:2]
    centres = np.stack([obj.centres(T) for obj in scene.objects])
    areas = np.array([obj.area for obj in scene.objects])
    counts = np.stack([np.bincount(frame.ravel(), minlength=N + 1) for frame in silhouettes.ids], 1)
    overlap = np.zeros((N, N, T), int)
    for a in range(N):
        for b in range(a):
            shared = silhouettes.whole[a] & silhouettes.whole[b]
            overlap[a, b] = overlap[b, a] = np.count_nonzero(shared.reshape(T, -1), axis=1)
    inside = silhouettes.whole.sum((2, 3)) / areas[:, None]
    return Facts(scene, centres, inside, counts[1:] / areas[:, None], overlap)


def is_watchable(facts: Facts) -> bool:
    """Whether every object can be seen long enough, and none sticks to another one."""
    seen_enough = facts.clear.mean(1).min() >= _SEEN
    apart_enough = (facts.overlap > 0).mean(-1).max() <= _TOUCHING
    return bool(seen_enough and apart_enough)


def holds(facts: Facts, relation: str, index: int, landmark: int) -> bool | None:
    """Whether object `index` stands in `relation` to object `landmark`, None if debatable."""
    if relation in _AXES:
        return _lies(facts, relation, index, landmark)
    if relation in ('bigger', 'smaller'):
        return _compares(facts, relation, index, landmark)
    return _passes(facts, relation, index, landmark)


def _lies(facts: Facts, relation: str, index: int, landmark: int) -> bool | None:
    """Position: the same in all frames that show both objects clearly."""
    both = facts.clear[index] & facts.clear[landmark]
    if both.mean() < 0.4:
        return None
    axis, sign = _AXES[relation]
    offset = (facts.centres[index] - facts.centres[landmark])[both]
    distance = sign * offset[:, axis]
    sizes = facts.scene.objects[index].diameter + facts.scene.objects[landmark].diameter
    is_aside = distance.min() > max(10 * facts.scene.unit, 0.4 * sizes)
    if is_aside and distance.mean() > 0.6 * abs(offset[:, 1 - axis]).mean():
        return True
    return False if distance.max() < 0 else None


def _compares(facts: Facts, relation: str, index: int, landmark: int) -> bool | None:
    """Size, by diameter."""
    ratio = facts.scene.objects[index].diameter / facts.scene.objects[landmark].diameter
    ratio = ratio if relation == 'bigger' else 1 / ratio
    if ratio > 1.4:
        return True
    return False if ratio < 1.1 else None


def _passes(facts: Facts, relation: str, index: int, landmark: int) -> bool | None:
    """Depth: a moving object that visibly crosses another one, and is apart from it for a while."""
    scene = facts.scene
    overlap = facts.overlap[index, landmark]
    is_behind = scene.depth.index(index) < scene.depth.index(landmark)
    if not overlap.any() or is_behind != (relation == 'behind'):
        return False
    smaller = min(scene.objects[index].area, scene.objects[landmark].area)
    is_crossing = (overlap >= 0.2 * smaller).sum() >= 3 and (overlap == 0).mean() >= 0.2
    return True if is_crossing and scene.objects[index].motion != 'still' else None
