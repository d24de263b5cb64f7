"""The annotated objects of a video, by the files that benchmarks keep them in."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from referformer.structures.run_lengths import decode_mask

from .mask_files import (
    BINARY_MODES,
    Problem,
    check_mask,
    frame_names,
    read_binary,
    read_header,
    read_mask,
)

# The object that is the union of all others, and the key of its masks (ReVOS).
FOREGROUND = ('foreground',)


@dataclass(frozen=True)
class PaletteTruth:
    """Annotated objects of a video in palette PNGs."""

    folder: Path

    def check(self, frames: Sequence[str]) -> tuple[list[Problem], tuple[int, int] | None]:
        """What is wrong with the files, and their size."""
        problems, size = [], None
        for frame in frames:
            found, size = check_mask(self.folder / f'{frame}.png', size, ('P', 'L'))
            problems += found
        return problems, size

    def masks(self, t: int, frame: str, keys: Sequence[tuple]) -> dict[tuple, np.ndarray]:
        """Union of the objects of every key on one frame, bool (H, W)."""
        labels = read_mask(self.folder / f'{frame}.png')
        return {key: np.isin(labels, key) for key in keys}


@dataclass(frozen=True)
class RunLengthTruth:
    """Annotated objects of a video in COCO's run-length code, None where an object is absent."""

    objects: dict[Any, list]
    size: tuple[int, int]

    def check(self, frames: Sequence[str]) -> tuple[list[Problem], tuple[int, int] | None]:
        """What is wrong with the annotation, and the size of its masks."""
        return [
            Problem('annotated objects with another number of frames than the video', str(name))
            for name, masks in self.objects.items()
            if not isinstance(masks, list) or len(masks) != len(frames)
        ], self.size

    def masks(self, t: int, frame: str, keys: Sequence[tuple]) -> dict[tuple, np.ndarray]:
        """Union of the objects of every key on one frame, bool (H, W)."""
        out = {}
        for key in keys:
            out[key] = np.zeros(self.size, bool)
            for name in key:
                if self.objects[name][t] is not None:
                    out[key] |= self._decode(name, t)
        return out

    def _decode(self, name: Any, t: int) -> np.ndarray:
        try:
            return decode_mask(self.objects[name][t], self.size)
        except ValueError as error:
            raise ValueError(f'the mask of object {name} on frame {t}: {error}') from None


@dataclass(frozen=True)
class FolderTruth:
    """Annotated objects of a video in folders of binary PNGs, without those of frames that do not
    show them (Long-RVOS)."""

    folder: Path
    objects: tuple[int, ...]

    def check(self, frames: Sequence[str]) -> tuple[list[Problem], tuple[int, int] | None]:
        """What is wrong with the files, and their size."""
        problems, size = [], None
        for name in self.objects:
            folder = self.folder / str(name)
            there = set(frame_names(folder)).intersection(frames)
            if not there:
                problems.append(Problem('annotated objects without masks', str(folder)))
            for frame in sorted(there):
                found, size = check_mask(folder / f'{frame}.png', size, BINARY_MODES)
                problems += found
        return problems, size

    def masks(self, t: int, frame: str, keys: Sequence[tuple]) -> dict[tuple, np.ndarray]:
        """Union of the objects of every key on one frame, bool (H, W)."""
        out = {}
        for key in keys:
            out[key] = np.zeros(self._size, bool)
            for name in key:
                path = self.folder / str(name) / f'{frame}.png'
                if path.is_file():
                    out[key] |= read_binary(path)
        return out

    @cached_property
    def _size(self) -> tuple[int, int]:
        path = next((self.folder / str(self.objects[0])).glob('*.png'))
        return read_header(path).size


Truth = PaletteTruth | RunLengthTruth | FolderTruth
