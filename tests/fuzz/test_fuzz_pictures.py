"""Broken pictures: a clear error, or the picture that it was."""

import io
import random

import numpy as np
import pytest
from fuzzing import Child, Tally, damage
from PIL import Image

from referformer.datasets.transforms.loading import read_half_rgb, read_index_map, read_rgb
from referformer.evaluation.scoring.mask_files import read_binary, read_header, read_mask
from referformer.video_io import VideoReader

RNG = np.random.default_rng(0)
RGB = np.kron(RNG.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
IDS = np.kron(RNG.integers(0, 4, (6, 8), np.uint8), np.ones((8, 8), np.uint8))


def encode(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def label_map() -> Image.Image:
    image = Image.fromarray(IDS)
    image.putpalette(bytes(range(12)))
    return image


PICTURES = {
    '.jpg': encode(Image.fromarray(RGB), 'JPEG'),
    '.prog.jpg': encode(Image.fromarray(RGB), 'JPEG', progressive=True),
    '.grey.jpg': encode(Image.fromarray(RGB).convert('L'), 'JPEG'),
    '.cmyk.jpg': encode(Image.fromarray(RGB).convert('CMYK'), 'JPEG'),
    '.png': encode(Image.fromarray(RGB), 'PNG'),
    '.p.png': encode(label_map(), 'PNG'),
    '.l.png': encode(Image.fromarray(IDS), 'PNG'),
    '.1.png': encode(Image.fromarray(IDS > 1), 'PNG'),
    '.16.png': encode(Image.fromarray(IDS.astype(np.uint16) * 9999), 'PNG'),
    '.bmp': encode(Image.fromarray(RGB), 'BMP'),
    '.webp': encode(Image.fromarray(RGB), 'WEBP'),
    '.tif': encode(Image.fromarray(RGB), 'TIFF'),
    '.lzw.tif': encode(Image.fromarray(RGB), 'TIFF', compression='tiff_lzw'),
    '.gif': encode(label_map(), 'GIF'),
}
READERS = {
    reader.__name__: reader
    for reader in (read_rgb, read_half_rgb, read_index_map, read_mask, read_binary, read_header)
}


def read(name: str, path) -> np.ndarray | None:
    if name != 'folder':
        values = READERS[name](path)
        return None if name == 'read_header' else values
    reader = VideoReader([path])
    reader.verify()
    return next(iter(reader))


def test_pictures(tmp_path, fuzz):
    rng, tally = random.Random(fuzz.seed), Tally()
    with Child(read) as child:
        for number in range(fuzz.count(2000)):
            suffix = rng.choice(list(PICTURES))
            content = damage(PICTURES[suffix], rng)
            path = tmp_path / f'picture{suffix}'
            path.write_bytes(content)
            name = rng.choice([*READERS, 'folder'])
            outcome = child(name, path)
            tally.add(outcome, f'picture {number} {suffix} by {name}')
            if outcome.kind == 'refused' and name != 'read_header':
                assert str(path) in outcome.detail or str(tmp_path) in outcome.detail
    tally.check()


@pytest.mark.parametrize('mode', ['P', 'L', 'filters'])
def test_flipped_bits_of_label_maps(tmp_path, fuzz, mode):
    image = label_map() if mode != 'L' else Image.fromarray(IDS)
    content = encode(image, 'PNG') if mode != 'filters' else _filtered(image)
    rng, tally = random.Random(fuzz.seed), Tally()
    path = tmp_path / 'map.png'
    with Child(read) as child:
        for number in range(fuzz.count(334)):
            bit = rng.randrange(8 * len(content))
            broken = bytearray(content)
            broken[bit // 8] ^= 1 << bit % 8
            path.write_bytes(broken)
            for name in ('read_index_map', 'read_mask', 'folder'):
                outcome = child(name, path)
                tally.add(outcome, f'bit {bit} of {mode} by {name}, {number}')
                if outcome.kind == 'accepted' and name != 'folder':
                    np.testing.assert_array_equal(outcome.detail, IDS)
    tally.check()


def _filtered(image: Image.Image) -> bytes:
    """With row filters, which other writers use for palettes too."""
    import cv2

    grey = cv2.imencode('.png', np.asarray(image), [cv2.IMWRITE_PNG_STRATEGY, 1])[1].tobytes()
    return grey
