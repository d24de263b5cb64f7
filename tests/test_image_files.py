"""Image files: changed bytes never become other pixels, and no header is believed."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from referformer.datasets.transforms.loading import read_index_map, read_rgb
from referformer.evaluation.scoring.mask_files import BrokenMask, read_mask
from referformer.image_files import open_image

IDS = np.random.default_rng(0).integers(0, 3, (24, 40), np.uint8).repeat(2, 1)


def png(values: np.ndarray, mode: str) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(values)
    if mode == 'P':
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.save(file, 'PNG')
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(name + data).to_bytes(4, 'big')
    return struct.pack('>I', len(data)) + name + data + check


@pytest.mark.parametrize('mode', ['P', 'L'])
def test_a_flipped_bit_of_a_label_map_is_an_error_or_changes_nothing(tmp_path, mode):
    content, path = png(IDS, mode), tmp_path / 'map.png'
    refused = 0
    for bit in np.random.default_rng(1).choice(8 * len(content), 300, replace=False):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        for read in (read_index_map, read_mask):
            try:
                values = read(path)
            except ValueError as error:
                assert str(path) in str(error)
                refused += 1
            else:
                np.testing.assert_array_equal(values, IDS)
    assert refused > 590  # all but those of nothing


def test_pictures_larger_than_the_limit_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    header = struct.pack('>IIBBBBB', 2**31 - 1, 2**31 - 1, 8, 3, 0, 0, 0)
    path = tmp_path / 'large.png'
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IEND', b''))
    for read in (read_index_map, read_rgb, read_mask):
        with pytest.raises(ValueError, match=r'large\.png cannot be .*pixels'):
            read(path)
    monkeypatch.setattr('referformer.image_files.MAX_PIXELS', IDS.size - 1)
    with pytest.raises(ValueError, match='REFERFORMER_MAX_PIXELS'):
        open_image(png(IDS, 'P'))


def test_a_label_map_that_inflates_to_more_than_its_size_is_broken(tmp_path):
    header = struct.pack('>IIBBBBB', 4, 4, 8, 3, 0, 0, 0)
    body = zlib.compress(bytes(10_000_000))
    path = tmp_path / 'bomb.png'
    parts = chunk(b'IHDR', header) + chunk(b'PLTE', bytes(3)) + chunk(b'IDAT', body)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + parts + chunk(b'IEND', b''))
    with pytest.raises(ValueError, match='instead of 20'):
        read_index_map(path)
    with pytest.raises(BrokenMask, match='instead of 20'):
        read_mask(path)
