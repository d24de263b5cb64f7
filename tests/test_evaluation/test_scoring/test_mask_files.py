"""Reading masks: every kind of PNG file gives what Pillow gives, broken ones are named."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fixtures_rvos import PALETTE
from PIL import Image

from referformer.evaluation.scoring.mask_files import read_mask

LABELS = np.random.default_rng(0).integers(0, 4, (13, 17), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return struct.pack('>I', len(data)) + checked + struct.pack('>I', zlib.crc32(checked))


def write_palette_png(path: Path, labels: np.ndarray, filters: int = 0, parts: int = 1) -> None:
    """A PNG with one filter (0 none, 1 left, 2 above) in all rows and several IDAT chunks."""
    H, W = labels.shape
    before = np.zeros_like(labels)
    if filters == 1:
        before[:, 1:] = labels[:, :-1]
    elif filters == 2:
        before[1:] = labels[:-1]
    rows = np.concatenate([np.full((H, 1), filters, np.uint8), labels - before], axis=1)
    body = zlib.compress(rows.tobytes())
    step = -(-len(body) // parts)
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', W, H, 8, 3, 0, 0, 0))
        + chunk(b'PLTE', PALETTE)
        + b''.join(chunk(b'IDAT', body[i : i + step]) for i in range(0, len(body), step))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('filters', [0, 1, 2])
@pytest.mark.parametrize('parts', [1, 3])
def test_palette_images_keep_their_indices(tmp_path, filters, parts):
    path = tmp_path / 'a.png'
    write_palette_png(path, LABELS, filters, parts)
    with Image.open(path) as image:
        assert (np.asarray(image) == LABELS).all()
    labels = read_mask(path)
    assert labels.dtype == np.uint8
    assert labels.flags.c_contiguous
    assert (labels == LABELS).all()


@pytest.mark.parametrize('options', [{}, {'bits': 2}, {'bits': 4}, {'transparency': 0}])
def test_palette_images_of_pillow(tmp_path, options):
    image = Image.fromarray(LABELS)
    image.putpalette(PALETTE)
    image.save(tmp_path / 'a.png', **options)
    assert (read_mask(tmp_path / 'a.png') == LABELS).all()


def test_grey_and_black_and_white_images(tmp_path):
    Image.fromarray(LABELS * 85).save(tmp_path / 'grey.png')
    assert (read_mask(tmp_path / 'grey.png') == LABELS * 85).all()
    Image.fromarray(LABELS > 1).save(tmp_path / 'two.png')
    assert (read_mask(tmp_path / 'two.png') == (LABELS > 1)).all()


def test_broken_files_are_named(tmp_path):
    path = tmp_path / 'a.png'
    write_palette_png(path, LABELS)
    whole = path.read_bytes()
    middle = whole.index(b'IDAT') + 20
    for broken in (
        b'',
        whole[:40],
        whole[:middle],
        whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        b'no image at all, but long enough for a header',
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r'a\.png cannot be decoded'):
            read_mask(path)
