"""What happens in a synthetic video: which objects there are and where they go.

Attributes are drawn independently of each other, of the object's id, of its place and of its depth;
then some are copied between objects, so that most sentences have to be read in full.
Letters: N objects of the video, T frames. Pixels are meant at 96x160; other sizes scale by `unit`.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

SHAPES = ('circle', 'square', 'triangle', 'star', 'cross', 'heart')
COLOURS = {
    'red': (218, 38, 38),
    'yellow': (240, 214, 40),
    'green': (44, 172, 60),
    'blue': (40, 84, 226),
    'purple': (160, 52, 200),
    'white': (242, 242, 242),
    'black': (20, 20, 20),
}
SIZES = {'small': (14.0, 18.0), 'large': (28.0, 38.0)}  # diameter of the disc of equal area, px
MOTIONS = {'still': (0, 0), 'left': (-1, 0), 'right': (1, 0), 'up': (0, -1), 'down': (0, 1)}
SPLITS = ('train', 'valid')

# One shape for every colour that training videos never show.
HELD_OUT = frozenset((SHAPES[(5 * i + 2) % len(SHAPES)], c) for i, c in enumerate(COLOURS))

_SPEED = (2.0, 4.0)  # px a frame
_DRIFT = np.deg2rad(10)  # largest angle between a path and its axis
_VISIBLE_SHARE = 0.4  # a moving object is inside for at least this share of the frames


@dataclass(frozen=True)
class SceneObject:
    """One object: what a sentence can say about it, and how it is drawn.

    Args:
        shape, colour, size, motion: The names sentences use.
        rgb: Its colour after jitter, 0-255.
        diameter: Of the disc with the same area, px.
        angle, spin: Rotation at the first frame, and a frame; radians.
        start: Centre (x, y) at the first frame, px.
        velocity: (x, y) px a frame, constant, so that any part of the video shows the same motion.
    """

    shape: str
    colour: str
    size: str
    motion: str
    rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    diameter: float = 0.0
    angle: float = 0.0
    spin: float = 0.0
    start: tuple[float, float] = (0.0, 0.0)
    velocity: tuple[float, float] = (0.0, 0.0)

    @property
    def area(self) -> float:
        """Pixels it covers when wholly inside the frame and not occluded."""
        return np.pi / 4 * self.diameter**2

    @property
    def unseen(self) -> bool:
        """Whether training videos never show this shape in this colour."""
        return (self.shape, self.colour) in HELD_OUT

    def centres(self, num_frames: int) -> np.ndarray:
        """Centre (x, y) in every frame, (T, 2)."""
        return np.array(self.start) + np.arange(num_frames)[:, None] * np.array(self.velocity)


@dataclass(frozen=True)
class Scene:
    """The objects of a video; object `i` has the id `i + 1`.

    Args:
        objects: N objects.
        depth: Indices of the objects from the farthest to the nearest.
        size: Height and width, px.
        num_frames: T.
    """

    objects: tuple[SceneObject, ...]
    depth: tuple[int, ...]
    size: tuple[int, int]
    num_frames: int

    @property
    def unit(self) -> float:
        """Scale against the 96x160 frame that all lengths are given for."""
        return scale_of(self.size)


def scale_of(size: tuple[int, int]) -> float:
    """Scale of a frame of `size` (height, width) against 96x160."""
    return min(size[0] / 96, size[1] / 160)


def check_options(size: tuple[int, int], num_frames: tuple[int, int]) -> None:
    """Raise `ValueError` for a frame size or a range of lengths that scenes cannot be made for."""
    height, width = size
    if height < 48 or width < 80:
        raise ValueError(
            f'size {height}x{width} is too small for objects one can tell apart: '
            'height must be at least 48 and width at least 80.'
        )
    low, high = num_frames
    longest = int(height / (_SPEED[0] * scale_of(size) * _VISIBLE_SHARE))
    if not 8 <= low <= high <= longest:
        raise ValueError(
            f'num_frames {low}..{high}: videos of {height}x{width} can have 8 to {longest} frames '
            '(fewer show no motion, in more the objects are gone most of the time).'
        )


def draw_objects(rng: Generator, split: str) -> list[SceneObject]:
    """Draw what the 2-4 objects of a video look like and how they move, without places.

    In four of five videos objects share attributes: a shape, a colour, both (then in two sizes), or
    everything but the motion.
    """
    while True:
        num_objects = rng.choice([2, 3, 4], p=[0.2, 0.45, 0.35])
        objects = [_draw_object(rng) for _ in range(num_objects)]
        if split == 'valid':
            shape, colour = sorted(HELD_OUT)[rng.integers(len(HELD_OUT))]
            objects[0] = replace(objects[0], shape=shape, colour=colour)
        plot = rng.choice(['twins', 'shared', 'free'], p=[0.3, 0.5, 0.2])
        if plot == 'twins' and num_objects > 2:
            objects[1] = _twin(rng, objects[0])
        elif plot != 'free':
            objects[1] = _relative(rng, objects[0], objects[1])
        if num_objects == 4 and rng.random() < 0.5:
            objects[3] = _relative(rng, objects[rng.integers(2)], objects[3])
        if any(o.unseen for o in objects) == (split == 'valid'):
            return [objects[i] for i in rng.permutation(num_objects)]


def place(
    rng: Generator, objects: list[SceneObject], size: tuple[int, int], num_frames: int
) -> Scene:
    """Give every object its exact look, its path and its depth.

    In most videos one object's path is moved so that it meets another one's.
    """
    objects = [_set_out(rng, o, size, num_frames) for o in objects]
    if rng.random() < 0.75:
        _cross_paths(rng, objects, num_frames)
    depth = tuple(int(i) for i in rng.permutation(len(objects)))
    return Scene(tuple(objects), depth, tuple(size), num_frames)


def _draw_object(rng: Generator) -> SceneObject:
    names = (SHAPES, tuple(COLOURS), tuple(SIZES), tuple(MOTIONS))
    return SceneObject(*(options[rng.integers(len(options))] for options in names))


def _other(rng: Generator, options: dict, name: str) -> str:
    """Any of the options but `name`."""
    return str(rng.choice([option for option in options if option != name]))


def _twin(rng: Generator, model: SceneObject) -> SceneObject:
    return replace(model, motion=_other(rng, MOTIONS, model.motion))


def _relative(rng: Generator, model: SceneObject, changed: SceneObject) -> SceneObject:
    """`changed` with the shape, the colour, or both of `model`."""
    shared = rng.choice(['shape', 'colour', 'both'], p=[0.4, 0.35, 0.25])
    if shared != 'colour':
        changed = replace(changed, shape=model.shape)
    if shared != 'shape':
        changed = replace(changed, colour=model.colour)
    if shared == 'both':
        changed = replace(changed, size=_other(rng, SIZES, model.size))
    return changed


def _set_out(
    rng: Generator, obj: SceneObject, size: tuple[int, int], num_frames: int
) -> SceneObject:
    """Draw the look and the path of one object."""
    height, width = size
    unit = scale_of(size)
    diameter = rng.uniform(*SIZES[obj.size]) * unit
    axis = np.array(MOTIONS[obj.motion], float)
    along = abs(axis) @ (width, height)  # length of the frame along the path
    top_speed = (along + diameter) / (_VISIBLE_SHARE * num_frames) if along else np.inf
    speed = rng.uniform(_SPEED[0] * unit, max(_SPEED[0] * unit, min(_SPEED[1] * unit, top_speed)))
    angle = rng.uniform(-_DRIFT, _DRIFT)
    velocity = speed * (np.cos(angle) * axis + np.sin(angle) * np.array([-axis[1], axis[0]]))

    travel = abs(velocity) * (num_frames - 1)
    radius = diameter / 2
    slack = np.array([width, height]) - diameter - travel
    middle = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * np.maximum(slack, 0)
    start = middle - velocity * (num_frames - 1) / 2
    crosses_border = along and (rng.random() < 0.45 or slack.min() < 0)
    if crosses_border:
        # Wholly outside from (leaving) or up to (entering) this frame.
        inside = rng.uniform(_VISIBLE_SHARE, 0.9) * (num_frames - 1)
        axis_index = int(abs(axis[1]))
        forward = axis[axis_index] > 0
        leaving = rng.random() < 0.5
        edge = along + radius if forward == leaving else -radius
        frame = inside if leaving else num_frames - 1 - inside
        start[axis_index] = edge - velocity[axis_index] * frame
    jitter = rng.normal(0, 7, 3) + rng.normal(0, 5)
    return replace(
        obj,
        rgb=tuple(float(v) for v in np.clip(np.array(COLOURS[obj.colour]) + jitter, 0, 255)),
        diameter=float(diameter),
        angle=float(rng.uniform(-0.35, 0.35)),
        spin=float(rng.uniform(-0.025, 0.025)),
        start=tuple(float(v) for v in start),
        velocity=tuple(float(v) for v in velocity),
    )


def _cross_paths(rng: Generator, objects: list[SceneObject], num_frames: int) -> None:
    """Shift the path of a moving object, in place, so that it meets another one half-way."""
    pairs = [
        (a, b)
        for a, first in enumerate(objects)
        for b, second in enumerate(objects)
        if a != b and first.motion not in ('still', second.motion)
    ]
    if not pairs:
        return
    a, b = pairs[rng.integers(len(pairs))]
    first, second = objects[a], objects[b]
    meeting = rng.uniform(0.3, 0.7) * (num_frames - 1)
    velocity = np.array(first.velocity)
    sideways = np.array([-velocity[1], velocity[0]]) / np.hypot(*velocity)
    offset = rng.uniform(-0.35, 0.35) * min(first.diameter, second.diameter) * sideways
    where = np.array(second.start) + meeting * np.array(second.velocity) + offset
    objects[a] = replace(first, start=tuple(float(v) for v in where - meeting * velocity))
