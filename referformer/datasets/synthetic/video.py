"""One synthetic video from a seed: for the data set's writer, or fresh in a loader's workers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import SeedSequence

from .facts import Facts, is_promising, is_watchable, measure
from .render import Silhouettes, draw_frames, draw_silhouettes
from .scene import SPLITS, Scene, check_options, draw_objects, place
from .sentences import Expression, write_sentences

_PLACINGS = 8  # of the same objects, before others are drawn
_ATTEMPTS = 500


class SyntheticVideo(NamedTuple):
    """A video with its truth.

    Args:
        frames: RGB, (T, H, W, 3) uint8.
        ids: Object id of every pixel, 0 for background, (T, H, W) uint8.
        expressions: Two or three for every object, in order of ids.
        scene: What is shown; the object with id `i` is `scene.objects[i - 1]`.
        facts: Measurements on it.
    """

    frames: np.ndarray
    ids: np.ndarray
    expressions: list[Expression]
    scene: Scene
    facts: Facts


def make_video(
    seed: int | Sequence[int],
    split: str = 'train',
    size: tuple[int, int] = (96, 160),
    num_frames: int | tuple[int, int] = (16, 24),
) -> SyntheticVideo:
    """Make the video of a seed, the same one every time.

    Args:
        seed: One or several integers (such as a base seed, an epoch and an index).
        split: 'train' shows no object of `HELD_OUT`, 'valid' at least one.
        size: Height and width, px.
        num_frames: A number, or the least and the most.

    Raises:
        ValueError: An option is out of range.
    """
    rng = np.random.default_rng(SeedSequence(seed))
    lengths = (num_frames, num_frames) if isinstance(num_frames, int) else tuple(num_frames)
    if split not in SPLITS:
        raise ValueError(f"split '{split}' does not exist, choose one of {SPLITS}.")
    check_options(size, lengths)
    scene, silhouettes, facts, expressions = _find_scene(rng, split, size, lengths)
    frames = draw_frames(rng, scene, silhouettes)
    return SyntheticVideo(frames, silhouettes.ids, expressions, scene, facts)


def _find_scene(
    rng: np.random.Generator, split: str, size: tuple[int, int], lengths: tuple[int, int]
) -> tuple[Scene, Silhouettes, Facts, list[Expression]]:
    """Draw scenes until all objects can be seen and each has its sentences."""
    length = int(rng.integers(lengths[0], lengths[1] + 1))
    for _ in range(_ATTEMPTS):
        objects = draw_objects(rng, split)
        for _ in range(_PLACINGS):
            scene = place(rng, objects, size, length)
            if not is_promising(scene):
                continue
            silhouettes = draw_silhouettes(scene)
            facts = measure(scene, silhouettes)
            expressions = write_sentences(rng, facts) if is_watchable(facts) else None
            if expressions is not None:
                return scene, silhouettes, facts, expressions
    raise AssertionError(f'no scene in {_ATTEMPTS} attempts at size {size}, {length} frames')
