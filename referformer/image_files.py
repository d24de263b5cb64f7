"""Image files: what is broken, or too large to be meant, is an error before it is decoded."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

try:
    from zlib_ng import zlib_ng as zlib  # several times as fast on label maps
except ImportError:
    import zlib

# Pixels of one picture; a header can claim any number.
MAX_PIXELS = int(os.environ.get('REFERFORMER_MAX_PIXELS', 100_000_000))
# What Pillow raises on broken files.
BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_HEADER = struct.Struct('>IIBBBBB')  # of a PNG file


def open_image(source: Path | bytes) -> Image.Image:
    """Pillow's image of a file or of the content of one, checked but not decoded yet.

    Raises:
        ValueError: It is no image, has more than ``MAX_PIXELS`` pixels (the environment variable
            ``REFERFORMER_MAX_PIXELS`` changes that), or is a PNG file with a wrong checksum or cut
            off, which Pillow would decode to other pixels.
        OSError: The file cannot be opened.
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    if content.startswith(_SIGNATURE):
        _chunks(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError('it is no image') from None
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    check_pixels(*image.size)
    return image


def check_pixels(width: int, height: int) -> None:
    """Refuse a picture that is larger than ``MAX_PIXELS``.

    Raises:
        ValueError: It is.
    """
    if width * height > MAX_PIXELS:
        raise ValueError(
            f'{width} x {height} pixels are more than {MAX_PIXELS:,}; if that is meant, set the '
            'environment variable REFERFORMER_MAX_PIXELS to a larger number'
        )


def decode_label_map(content: bytes) -> np.ndarray | None:
    """Decode a PNG file of 8-bit palette indices without filters, as label maps are stored.

    Much of loading clips and of scoring is reading label maps, and Pillow inflates row by row.

    Returns:
        (H, W) uint8, or None where Pillow has to look at the file: it is of another kind.

    Raises:
        ValueError: A checksum is wrong, or the file is cut off.
    """
    if not content.startswith(_SIGNATURE):
        return None
    (_, header), *chunks = _chunks(content)
    W, H, *kind = _HEADER.unpack(header)
    # 8 bits, palette, the only compression and filter method, not interlaced
    if kind != [8, 3, 0, 0, 0]:
        return None
    check_pixels(W, H)
    size = H * (W + 1)
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(b''.join(d for name, d in chunks if name == b'IDAT'), size + 1)
    except zlib.error as error:
        raise ValueError(f'its pixels cannot be decompressed ({error})') from None
    if len(body) != size:
        raise ValueError(f'it has pixels for {len(body)} bytes instead of {size}')
    rows = np.frombuffer(body, np.uint8).reshape(H, W + 1)
    # A row starts with the number of its filter.
    return None if rows[:, 0].any() else rows[:, 1:].copy()


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Name and content of the chunks of a PNG file, the first one its header."""
    found, at = [], len(_SIGNATURE)
    while not found or found[-1][0] != b'IEND':
        head = content[at : at + 8]
        length, name = struct.unpack('>I4s', head) if len(head) == 8 else (0, b'')
        data, check = content[at + 8 : at + 8 + length], content[at + 8 + length : at + 12 + length]
        if len(check) != 4:
            raise ValueError('it is cut off')
        if zlib.crc32(data, zlib.crc32(name)) != int.from_bytes(check, 'big'):
            raise ValueError('a checksum is wrong: bytes of it have changed')
        found.append((name, data))
        at += 12 + length
    if found[0][0] != b'IHDR' or len(found[0][1]) != _HEADER.size:
        raise ValueError('it does not start with the header of a PNG file')
    return found
