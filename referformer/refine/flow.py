"""Propagation by optical flow and appearance, without any learned weights.

Three witnesses vote for each pixel: the mask warped by the flow, as far as the flow there and back
agrees; the labels that pixels of this colour had near the place where the flow says that it comes
from; and the colours of object and surroundings. A guided filter then lets the edges of the image
decide where the edge of the mask runs.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np

from ..registry import PROPAGATORS
from .propagator import Keys, Propagator, Tracker

_FINE = 16  # divisions of each colour axis for the colours of a whole object
_RARE = 1e-5


@PROPAGATORS.register_module()
class FlowPropagator(Propagator):
    """Follows objects by OpenCV's DIS flow; see the module.

    Args:
        shorter: Work in frames of this shorter side, in pixels; smaller frames stay as they are.
        cell: Side of the places that keep their own colours, in pixels of that size.
        bins: Divisions of each colour axis there.
        warp, place, colour: Weights of the three witnesses.
        reach: How far from its warped mask an object can be, in pixels of that size.
        edge: Radius of the guided filter.
        memory: How much of the object's colours a frame leaves as they were; the key frame's count
            as much as those in any case.
    """

    def __init__(
        self,
        shorter: int = 240,
        cell: int = 20,
        bins: int = 12,
        warp: float = 1.5,
        place: float = 1.0,
        colour: float = 0.5,
        reach: int = 12,
        edge: int = 4,
        memory: float = 0.9,
    ) -> None:
        if shorter < 32 or cell < 1 or not 1 <= bins <= 32 or edge < 1 or not 0 <= memory <= 1:
            raise ValueError(
                'FlowPropagator needs shorter >= 32, cell >= 1, bins of 1 to 32, edge >= 1 and '
                f'memory in [0, 1], got {(shorter, cell, bins, edge, memory)}.'
            )
        self.shorter = shorter
        self.options = _Options(cell, bins, warp, place, colour, reach, edge, memory)

    def shrink(self, frame: np.ndarray) -> np.ndarray:
        """A frame of the size that is worked in."""
        scale = min(1.0, self.shorter / min(frame.shape[:2]))
        h, w = (max(16, round(side * scale)) for side in frame.shape[:2])
        return cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)

    def tracker(self) -> 'FlowTracker':
        """Without objects."""
        return FlowTracker(self.options)


class _Options(NamedTuple):
    cell: int
    bins: int
    warp: float
    place: float
    colour: float
    reach: int
    edge: int
    memory: float


class _Frame:
    """What all objects share in one frame.

    Args:
        frame: RGB uint8 (h, w, 3).
    """

    def __init__(self, frame: np.ndarray, options: _Options) -> None:
        self.grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
        self.colours = _quantise(lab, options.bins)
        self.fine_colours = _quantise(lab, _FINE)
        self.guide = GuidedFilter(frame, options.edge)


class _Object(NamedTuple):
    """An object in the last frame."""

    prob: np.ndarray  # (h, w)
    key: np.ndarray  # (2, colours), how often object and surroundings have each, in the key frame
    recent: np.ndarray  # the same in the frames since


class FlowTracker(Tracker):
    """One direction of ``FlowPropagator``."""

    def __init__(self, options: _Options) -> None:
        self.options = options
        preset = cv2.DISOpticalFlow_PRESET_MEDIUM
        self.flows = [cv2.DISOpticalFlow.create(preset) for _ in range(2)]
        self.objects: dict[int, _Object] = {}
        self.last: _Frame | None = None

    def step(self, frame: np.ndarray, given: Keys) -> dict[int, np.ndarray]:
        """See ``Tracker``."""
        now = _Frame(frame, self.options)
        going_on = [n for n in self.objects if n not in given]
        if going_on:
            motion = _Motion(self.last, now, self.flows, self.options)
            with ThreadPoolExecutor(2) as threads:
                moved = threads.map(lambda n: self._move(self.objects[n], now, motion), going_on)
            self.objects.update(zip(going_on, moved))
        for n, mask in given.items():
            h, w = now.grey.shape
            prob = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
            colours = _colours(prob, now.fine_colours)
            self.objects[n] = _Object(prob, colours, colours)
        self.last = now
        return {n: found.prob for n, found in self.objects.items()}

    def _move(self, found: _Object, now: _Frame, motion: '_Motion') -> _Object:
        """The object one frame later."""
        options = self.options
        warped = motion.warp(found.prob)
        logits = options.warp * motion.agreement * _logit(warped)
        logits += options.place * _logit(motion.look_up(found.prob))
        inside, outside = (found.key + found.recent) / 2 + _RARE
        ratios = np.clip(np.log(inside / outside), -3, 3).astype(np.float32)
        logits += options.colour * ratios[now.fine_colours]
        near = cv2.boxFilter(warped, -1, (2 * options.reach + 1,) * 2) > 1e-3
        prob = now.guide(near / (1 + np.exp(-logits)))
        recent = found.recent
        if prob.max() > 0.5:  # what is lost teaches nothing
            kept = options.memory
            recent = kept * recent + (1 - kept) * _colours(prob, now.fine_colours)
        return found._replace(prob=prob, recent=recent)


class _Motion:
    """Where the pixels of a frame come from in the last one, and what they were there."""

    def __init__(
        self, last: _Frame, now: _Frame, flows: list[cv2.DISOpticalFlow], options: _Options
    ) -> None:
        h, w = now.grey.shape
        pairs = ((now.grey, last.grey), (last.grey, now.grey))
        with ThreadPoolExecutor(2) as threads:
            back, forth = threads.map(lambda dis, pair: dis.calc(*pair, None), flows, pairs)
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(np.float32)
        self.source = grid + back
        forth = self.warp(forth)
        # The usual tolerance: half a pixel, and a tenth of the way.
        gap, way = (np.square(x).sum(-1) for x in (back + forth, np.stack([back, forth])))
        self.agreement = np.exp(-gap / (0.01 * way.sum(0) + 0.5))

        cell, colours = options.cell, options.bins**3
        self.shape = (h // cell + 2, w // cell + 2, *[options.bins] * 3)
        self.then = self._places(grid, cell) * colours + last.colours
        self.now = self._places(self.source, cell) * colours + now.colours
        self.seen = self._count(None)

    def warp(self, values: np.ndarray) -> np.ndarray:
        """Values (h, w, ...) of the last frame at the places of this one."""
        return cv2.remap(
            values, self.source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def look_up(self, prob: np.ndarray) -> np.ndarray:
        """How often pixels of this colour near the source belonged to the object, (h, w)."""
        return ((self._count(prob) + 0.1) / (self.seen + 0.2))[self.now]

    def _count(self, weights: np.ndarray | None) -> np.ndarray:
        """Pixels of the last frame by place and colour, spread to the neighbours of both."""
        weights = None if weights is None else weights.ravel()
        counts = np.bincount(self.then.ravel(), weights, int(np.prod(self.shape)))
        return _spread(counts.astype(np.float32).reshape(self.shape)).ravel()

    def _places(self, points: np.ndarray, cell: int) -> np.ndarray:
        x, y = (
            np.clip(points[..., axis] / cell + 0.5, 0, self.shape[1 - axis] - 1).astype(np.int32)
            for axis in (0, 1)
        )
        return y * self.shape[1] + x


class GuidedFilter:
    """The guided filter (He et al., 2010, equations 19 to 21) with one image for many maps.

    Args:
        image: (h, w, 3) uint8.
        radius: Of its windows.
        eps: Variance of colours, in [0, 1], that counts as no edge.
    """

    def __init__(self, image: np.ndarray, radius: int, eps: float = 1e-3) -> None:
        self.window = (2 * radius + 1,) * 2
        self.image = cv2.split(image.astype(np.float32) / 255)
        self.mean = [self._box(c) for c in self.image]
        (rr, rg, rb), (_, gg, gb), (_, _, bb) = [
            [self._box(c * d) - mean * other for d, other in zip(self.image, self.mean)]
            for c, mean in zip(self.image, self.mean)
        ]
        rr, gg, bb = rr + eps, gg + eps, bb + eps
        first = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - gg * rb
        cross = rg * rb - rr * gb
        scale = 1 / (rr * first[0] + rg * first[1] + rb * first[2])
        self.inverse = [
            [x * scale for x in row]
            for row in (
                first,
                (first[1], rr * bb - rb * rb, cross),
                (first[2], cross, rr * gg - rg * rg),
            )
        ]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values (h, w) in [0, 1], smoothed but for the edges of the image."""
        mean = self._box(values)
        shared = [self._box(c * values) - m * mean for c, m in zip(self.image, self.mean)]
        slopes = [sum(x * c for x, c in zip(row, shared)) for row in self.inverse]
        offset = mean - sum(slope * m for slope, m in zip(slopes, self.mean))
        result = self._box(offset)
        for slope, c in zip(slopes, self.image):
            result += self._box(slope) * c
        return np.clip(result, 0, 1)

    def _box(self, values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, self.window)


def _quantise(lab: np.ndarray, bins: int) -> np.ndarray:
    """One number for each colour, (h, w); chroma beyond what is common shares the outer bins."""
    values = np.arange(256)
    light = values * bins // 256
    chroma = np.clip((values - 80) * bins // 96, 0, bins - 1)
    tables = (light * bins * bins, chroma * bins, chroma)
    return sum(table.astype(np.int32)[lab[..., c]] for c, table in enumerate(tables))


def _colours(prob: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Frequencies of colours in the object, and in what surrounds it, (2, colours)."""
    near = np.clip(20 * cv2.boxFilter(prob, -1, (81, 81)), 0.05, 1)
    counts = [np.bincount(colours.ravel(), w.ravel(), _FINE**3) for w in (prob, (1 - prob) * near)]
    counts = [_spread(count.astype(np.float32).reshape([_FINE] * 3)).ravel() for count in counts]
    return np.stack([count / max(count.sum(), 1e-6) for count in counts])


def _spread(counts: np.ndarray) -> np.ndarray:
    """Weights 1, 2, 1 along every axis."""
    for axis in range(counts.ndim):
        spread, quarter = counts / 2, np.swapaxes(counts / 4, 0, axis)
        view = np.swapaxes(spread, 0, axis)
        view[1:] += quarter[:-1]
        view[:-1] += quarter[1:]
        counts = spread
    return counts


def _logit(prob: np.ndarray) -> np.ndarray:
    """Of a probability that nobody is surer of than 0.98."""
    prob = np.clip(prob, 0.02, 0.98)
    return np.log(prob / (1 - prob))
