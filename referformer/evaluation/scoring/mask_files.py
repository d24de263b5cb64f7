"""Masks in PNG files: reading them, and one message about all that is wrong with a tree of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from referformer.image_files import BROKEN_IMAGE, decode_label_map, open_image

LABEL_MODES = ('P',)
BINARY_MODES = ('L', '1', 'P')


class BrokenMask(ValueError):
    """A mask file that cannot be decoded; the message names it."""


class Problem(NamedTuple):
    """One thing that is wrong with the input; those of one kind are reported together."""

    kind: str
    where: str


class MaskHeader(NamedTuple):
    """What the head of an image file says, without decoding it."""

    mode: str  # as Pillow names it
    size: tuple[int, int]  # (H, W)


def read_header(path: Path) -> MaskHeader | None:
    """Mode and size of an image file, None where it is not one."""
    try:
        with Image.open(path) as image:
            return MaskHeader(image.mode, image.size[::-1])
    except BROKEN_IMAGE:
        return None


def read_mask(path: Path) -> np.ndarray:
    """Decode a palette or grey image to its values, (H, W) uint8.

    Raises:
        BrokenMask: If the file is cut off or otherwise broken.
    """
    try:
        content = path.read_bytes()
        plain = decode_label_map(content)
        if plain is not None:
            return plain
        return np.asarray(open_image(content)).astype(np.uint8, copy=False)
    except BROKEN_IMAGE as error:
        raise BrokenMask(f'{path} cannot be decoded: {error}') from error


def read_binary(path: Path) -> np.ndarray:
    """Decode a mask of one object, 0 and one other value, to bool (H, W).

    Raises:
        ValueError: If the file is broken or has more than two values.
    """
    values = read_mask(path)
    mask = values > 0
    top = values.max(initial=0)
    if np.count_nonzero(values == top) != np.count_nonzero(mask) and top > 0:
        raise ValueError(f'{path} has more values than 0 and {top}, so it is no mask of one object')
    return mask


def frame_names(folder: Path) -> list[str]:
    """Stems of the PNG files of a folder, sorted; none where there is no such folder."""
    return sorted(path.stem for path in folder.glob('*.png')) if folder.is_dir() else []


def folder_names(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))


def check_folder_of_masks(
    folder: Path, frames: Sequence[str], size: tuple[int, int] | None, modes: Sequence[str]
) -> list[Problem]:
    """What is wrong with the predicted masks ``<folder>/<frame>.png``, by their heads.

    Args:
        folder: Where they are.
        frames: Names that have to be there; others are not looked at.
        size: (H, W) they must have; None: any, but all the same.
        modes: Modes they may have.
    """
    if not folder.is_dir():
        return [Problem('missing folders', str(folder))]
    there = set(frame_names(folder))
    if not there:
        return [Problem('folders without PNG files', str(folder))]
    problems = []
    for frame in frames:
        path = folder / f'{frame}.png'
        if frame not in there:
            problems.append(Problem('missing frames', str(path)))
            continue
        found, size = check_mask(path, size, modes)
        problems += found
    return problems


def check_mask(
    path: Path, size: tuple[int, int] | None, modes: Sequence[str]
) -> tuple[list[Problem], tuple[int, int] | None]:
    """What is wrong with one file, and the size that the next one must have."""
    header = read_header(path)
    if header is None:
        return [Problem('files that are no images', str(path))], size
    problems = []
    if header.mode not in modes:
        names = {'P': 'palette images (object id = index)', 'L': 'black and white images'}
        kind = f'masks that are not {names[modes[0]]}'
        problems.append(Problem(kind, f'{path} (mode {header.mode})'))
    if size is not None and header.size != size:
        sizes = [f'{w}x{h}' for h, w in (header.size, size)]
        problems.append(
            Problem('masks of another size than the truth', f'{path} ({sizes[0]}, not {sizes[1]})')
        )
    return problems, size or header.size


def raise_problems(
    problems: Iterable[Problem], what: str, advice: str = '', limit: int = 3
) -> None:
    """Raise one ``ValueError`` about all problems: the first few of each kind, and how many.

    Args:
        problems: Nothing is raised where there are none.
        what: What was looked at.
        advice: What to do, the end of the message.
        limit: How many of each kind are named.
    """
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem.where)
    if not kinds:
        return
    parts = [
        f'{len(where)} {kind}: {", ".join(where[:limit])}{", ..." if len(where) > limit else ""}'
        for kind, where in kinds.items()
    ]
    raise ValueError(f'{what} cannot be used: {"; ".join(parts)}. {advice}'.strip())
