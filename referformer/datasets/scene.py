"""What a picture with masks shows: things, their places and colours, as sentences need them."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import cv2
import numpy as np

# Of 255: below it a pixel is grey, or too dark for a hue.
_MIN_SATURATION = 60
_MIN_VALUE = 60
_DARK, _BRIGHT = 65, 185
# Ends of the hues, of OpenCV's 180 steps.
_HUES = ((8, 'red'), (22, 'orange'), (34, 'yellow'), (85, 'green'), (130, 'blue'), (150, 'purple'))
COLOURS = ('red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'black', 'grey', 'white')
_CORE = 0.65  # a thing is of a colour that so many of its pixels have,
_TRACE = 0.1  # and surely not of one that only so few have


class Thing(NamedTuple):
    """One annotated mask."""

    category: str
    group: bool  # several objects in one mask
    area: int  # px
    box: tuple[float, float, float, float]  # xyxy, of the picture's width and height
    colours: dict[str, float]  # share of its pixels

    @property
    def centre(self) -> tuple[float, float]:
        """Of its box, x and y in [0, 1]."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def colour(self) -> str | None:
        """Its colour, where it is plain."""
        return next((name for name, share in self.colours.items() if share >= _CORE), None)

    def may_be(self, colour: str) -> bool:
        """Whether somebody could call it so."""
        return self.colours.get(colour, 0.0) > _TRACE


class Scene(NamedTuple):
    """Things, and of which categories there is nothing else."""

    things: tuple[Thing, ...]
    complete: frozenset[str]  # every object of them is among the things; those without are absent

    def of(self, category: str) -> list[int]:
        """Indices of the things of a category."""
        return [i for i, thing in enumerate(self.things) if thing.category == category]


def describe(
    image: np.ndarray,
    masks: np.ndarray,
    categories: Sequence[str],
    groups: Sequence[bool],
    complete: Collection[str],
    min_area: int = 60,
) -> tuple[Scene, list[int]]:
    """Measure a picture.

    Args:
        image: uint8 RGB (H, W, 3).
        masks: bool (N, H, W).
        categories: Of the N masks.
        groups: Whether a mask holds several objects.
        complete: Categories of which every object has a mask here.
        min_area: Smaller things, px, are left out, and their categories are no longer complete.

    Returns:
        The scene, and for each thing of it the index of its mask.
    """
    height, width = image.shape[:2]
    hues = colour_map(image)
    things, kept, unsure = [], [], set()
    for i, mask in enumerate(masks):
        area = int(mask.sum())
        if area < min_area:
            unsure.add(categories[i])
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (
            columns[0] / width,
            rows[0] / height,
            (columns[-1] + 1) / width,
            (rows[-1] + 1) / height,
        )
        counts = np.bincount(hues[mask], minlength=len(COLOURS)) / area
        colours = dict(zip(COLOURS, counts.tolist()))
        things.append(Thing(categories[i], bool(groups[i]), area, box, colours))
        kept.append(i)
    return Scene(tuple(things), frozenset(complete) - unsure), kept


def colour_map(image: np.ndarray) -> np.ndarray:
    """Index in ``COLOURS`` of every pixel, uint8 RGB (H, W, 3) -> uint8 (H, W)."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    table = np.full(256, COLOURS.index('pink'), np.uint8)  # from 150; red again from 172
    start = 0
    for end, name in _HUES:
        table[start:end] = COLOURS.index(name)
        start = end
    table[172:] = COLOURS.index('red')
    names = table[hue]
    grey = (saturation < _MIN_SATURATION) | (value < _MIN_VALUE)
    names[grey] = COLOURS.index('grey')
    names[grey & (value < _DARK)] = COLOURS.index('black')
    names[grey & (value > _BRIGHT)] = COLOURS.index('white')
    return names
