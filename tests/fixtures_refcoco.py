"""Writes a tiny release of `refer` with its COCO images, as published, and converts it."""

import importlib.util
import json
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from toy_project import REPO

SIZES = ((61, 83), (50, 70), (96, 64), (72, 55))  # height and width, odd ones too
GREY, ROTATED = 1, 2  # images without colour, and with an EXIF tag that asks for a rotation
CATEGORIES = {1: 'person', 17: 'cat', 90: 'toothbrush'}
# Python 2 wrote sentences as bytes; read as Latin-1 the é is two letters.
SENTENCES = ("Man's  HAT on the left ", 'right caf\xc3\xa9 table')
FILES = {'refcoco': 'refs(unc).p', 'refcoco+': 'refs(unc).p', 'refcocog': 'refs(umd).p'}
SPLITS = {
    'refcoco': ('train', 'val', 'testA', 'testB'),
    'refcoco+': ('train', 'val', 'testA', 'testB'),
    'refcocog': ('train', 'val', 'test'),
}


def write_refcoco(root: Path) -> Path:
    """Write what the readers read: the images, and the files that the tool makes.

    Returns:
        The folder of COCO.
    """
    write_refer(root)
    load_converter().main([str(root / 'refer'), str(root / 'coco')])
    return root / 'coco'


def load_converter() -> ModuleType:
    """tools/dataset_tools/convert_refcoco.py as a module."""
    path = REPO / 'tools' / 'dataset_tools' / 'convert_refcoco.py'
    spec = importlib.util.spec_from_file_location('convert_refcoco', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_refer(root: Path) -> Path:
    """Write the three datasets below ``root/refer`` and the images in ``root/coco/train2014``.

    Every image has two objects, of which the first has a mask of two polygons (a crowd's run
    lengths in the last image), and each object two sentences. Every split holds all images; refs
    are in no order.

    Returns:
        ``root``.
    """
    root = Path(root)
    images, annotations = [], []
    for number, size in enumerate(SIZES):
        image_id = 1000 + 7 * number
        file_name = f'COCO_train2014_{image_id:012d}.jpg'
        objects = [_annotate(number, size, k) for k in range(2)]
        _save(root / 'coco' / 'train2014' / file_name, number, size, objects)
        images.append({'id': image_id, 'file_name': file_name, 'height': size[0], 'width': size[1]})
        for k, entry in enumerate(objects):
            annotations.append({'id': 50 * number + k, 'image_id': image_id, **entry})
    instances = {
        'info': {},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i, 'name': n, 'supercategory': n} for i, n in CATEGORIES.items()],
    }
    for name, splits in SPLITS.items():
        folder = root / 'refer' / name
        folder.mkdir(parents=True)
        (folder / 'instances.json').write_text(json.dumps(instances))
        refs = [ref for split in splits for ref in _refer(annotations, split)]
        for number, ref in enumerate(refs):
            ref['ref_id'] = (7 * number) % len(refs)
        (folder / FILES[name]).write_bytes(pickle.dumps(refs, protocol=2))
    return root


def _annotate(number: int, size: tuple[int, int], k: int) -> dict:
    height, width = size
    left, top = (5.25, 8.5) if k == 0 else (width / 2 + 1.1, height / 2 - 7.3)
    box = [left, top, round(width / 3, 2), round(height / 3, 2)]
    crowd = number == len(SIZES) - 1 and k == 0
    x1, y1, x2, y2 = left, top, left + box[2], top + box[3]
    middle = (x1 + x2) / 2
    halves = [[x1, middle - 3], [middle + 3, x2]] if k == 0 else [[x1, x2]]
    polygons = [[a, y1, b, y1, b, y2, a, y2] for a, b in halves]
    return {
        'category_id': list(CATEGORIES)[(number + k) % len(CATEGORIES)],
        'bbox': box,
        'area': box[2] * box[3],
        'iscrowd': int(crowd),
        'segmentation': _runs(size, box) if crowd else polygons,
    }


def _runs(size: tuple[int, int], box: list[float]) -> dict:
    """Uncompressed run lengths, down the columns, of a filled box."""
    mask = np.zeros(size, np.uint8)
    x, y, width, height = (int(value) for value in box)
    mask[y : y + height, x : x + width] = 1
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    return {'size': list(size), 'counts': np.diff([0, *changes, flat.size]).tolist()}


def _save(path: Path, number: int, size: tuple[int, int], objects: list[dict]) -> None:
    rng = np.random.default_rng(number)
    image = rng.integers(80, 120, (*size, 3), dtype=np.uint8)
    for entry, colour in zip(objects, ((230, 40, 40), (40, 60, 230))):
        x, y, width, height = (int(value) for value in entry['bbox'])
        image[y : y + height, x : x + width] = colour
    image = Image.fromarray(image)
    exif = Image.Exif()
    if number == ROTATED:
        exif[0x0112] = 6  # orientation: turn by 90 degrees
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert('L') if number == GREY else image).save(path, quality=95, exif=exif)


def _refer(annotations: list[dict], split: str) -> list[dict]:
    return [
        {
            'ann_id': annotation['id'],
            'image_id': annotation['image_id'],
            'category_id': annotation['category_id'],
            'file_name': f'COCO_train2014_{annotation["image_id"]:012d}_{annotation["id"]}.jpg',
            'split': split,
            'sent_ids': [0, 1],
            'sentences': [
                {'sent_id': i, 'sent': text, 'raw': text, 'tokens': text.split()}
                for i, text in enumerate(SENTENCES)
            ],
        }
        for annotation in reversed(annotations)
    ]
