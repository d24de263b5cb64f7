"""Text on pictures: sentences that wrap, with a square of their colour, in a size that fits."""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GREY, RED, PAPER = (28, 28, 30), (110, 110, 115), (190, 30, 20), (255, 255, 255)
_MIN_FONT = 9


@lru_cache(maxsize=16)
def legend_patch(
    texts: tuple[str, ...], colors: tuple[tuple[int, int, int], ...], height: int, width: int
) -> np.ndarray:
    """A legend for a frame of ``height`` and ``width``, at most a quarter of its height, as RGBA.

    Args:
        texts: Sentences; they wrap, the font shrinks, and what still does not fit is cut.
        colors: RGB of the square before each sentence.
        height: Height of the frame.
        width: Width of the frame.
    """
    limit = height // 4
    room = round(width * (0.6 if width >= 480 else 1.0))
    for size in range(max(_MIN_FONT, min(36, height // 26)), _MIN_FONT - 1, -1):
        pad, line = max(1, size // 5), round(size * 1.2)
        text_width = room - 3 * pad - size
        blocks = [_wrap(text, size, text_width) for text in texts]
        if sum(map(len, blocks)) * line + 2 * pad <= limit:
            break
    capacity = max(1, (limit - 2 * pad) // line)
    blocks = _shorten(blocks, capacity, size, text_width)
    used = max(font(size).getlength(row) for block in blocks for row in block)
    patch_size = (round(used) + 3 * pad + size, sum(map(len, blocks)) * line + 2 * pad)
    patch = Image.new('RGBA', patch_size, (0, 0, 0, 150))
    draw = ImageDraw.Draw(patch)
    y = pad
    for block, color in zip(blocks, colors):
        _swatch(draw, pad, y, size, color)
        for row in block:
            draw.text((2 * pad + size, y), row, (255, 255, 255, 255), font(size))
            y += line
    return np.asarray(patch)


def _shorten(blocks: list[list[str]], capacity: int, size: int, width: int) -> list[list[str]]:
    """Cut wrapped sentences to ``capacity`` lines in all; each keeps one as long as they fit."""
    blocks = [list(block) for block in blocks]
    while sum(map(len, blocks)) > capacity and max(map(len, blocks)) > 1:
        longest = max(blocks, key=len)
        longest.pop()
        longest[-1] = _ellipsis(longest[-1].removesuffix('…'), size, width)
    if len(blocks) > capacity:
        blocks = blocks[:capacity]
        blocks[-1] = [_ellipsis(blocks[-1][0].removesuffix('…'), size, width)]
    return blocks


def _ellipsis(row: str, size: int, width: int) -> str:
    while row and font(size).getlength(row.rstrip() + '…') > width:
        row = row[:-1]
    return row.rstrip() + '…'


def sheet_header(
    texts: Sequence[str],
    colors: Sequence[tuple[int, int, int]],
    notes: Sequence[str],
    width: int,
    size: int,
    small: int,
    remarks: Sequence[str] = (),
) -> np.ndarray:
    """The head of a sheet of ``width`` pixels: sentences in full, with small print under each.

    Args:
        texts: Sentences.
        colors: RGB of the square before each sentence.
        notes: Small print under each sentence, or fewer.
        width: Width of the sheet.
        size: Height of the sentences' font in pixels.
        small: Height of the small print's font.
        remarks: What holds for all of them.
    """
    margin, line = 14, round(size * 1.3)
    notes = [*notes, *[''] * (len(texts) - len(notes))]
    blocks = [_wrap(text, size, width - 3 * margin - size) for text in texts]
    height = margin + sum(
        len(block) * line + (round(small * 1.5) if note else 0)
        for block, note in zip(blocks, notes)
    )
    remarks = [row for remark in remarks for row in _wrap(remark, small, width - 2 * margin)]
    height += len(remarks) * round(small * 1.5)
    header = Image.new('RGB', (width, height + margin // 2), PAPER)
    draw = ImageDraw.Draw(header)
    y = margin
    for block, note, color in zip(blocks, notes, colors):
        _swatch(draw, margin, y, size, color)
        for row in block:
            draw.text((2 * margin + size, y), row, INK, font(size))
            y += line
        if note:
            draw.text((2 * margin + size, y), note, GREY, font(small))
            y += round(small * 1.5)
    for row in remarks:
        draw.text((margin, y), row, RED, font(small))
        y += round(small * 1.5)
    return np.asarray(header)


def _swatch(
    draw: ImageDraw.ImageDraw, x: int, y: int, size: int, color: tuple[int, int, int]
) -> None:
    top = y + max(1, round(size * 0.15))
    draw.rectangle((x, top, x + size - 2, top + size - 2), color)


def _wrap(text: str, size: int, width: float) -> list[str]:
    """Lines of ``text`` that fit into ``width`` pixels; words that are too long are broken."""
    measure, lines, row = font(size).getlength, [], ''
    for word in text.split():
        if measure(f'{row} {word}'.strip()) <= width:
            row = f'{row} {word}'.strip()
            continue
        lines += [row] if row else []
        row = ''
        for letter in word:
            if row and measure(row + letter) > width:
                lines.append(row)
                row = ''
            row += letter
    return [*lines, row]


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along and which knows most alphabets."""
    matplotlib = importlib.util.find_spec('matplotlib')  # importing it would take long
    if matplotlib:
        path = Path(matplotlib.origin).parent / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
