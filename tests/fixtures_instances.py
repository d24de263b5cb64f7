"""Three small pictures with masks in COCO's format."""

import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

DOG, CAT, ZEBRA = 18, 17, 24
NAMES = {CAT: 'cat', DOG: 'dog', ZEBRA: 'zebra'}
SIZE = (60, 80)


def mask(left: int, top: int, side: int = 20) -> np.ndarray:
    found = np.zeros(SIZE, bool)
    found[top : top + side, left : left + side] = True
    return found


PICTURES = {  # name: [(category, mask)], ids of incomplete categories
    'one': ([(DOG, mask(30, 20))], []),
    'two': ([(DOG, mask(5, 20)), (DOG, mask(50, 20))], []),
    'both': ([(DOG, mask(5, 20)), (CAT, mask(50, 20))], [CAT]),
}


def encode(found: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(found.astype(np.uint8)))
    return {'size': list(SIZE), 'counts': code['counts'].decode()}


def write_pictures(root: Path) -> Path:
    """Write them, once for each split, below ``root``."""
    (root / 'images').mkdir(parents=True)
    images, annotations = [], []
    for number, (name, (things, incomplete)) in enumerate(PICTURES.items()):
        picture = np.full((*SIZE, 3), 90, np.uint8)
        for category, found in things:
            picture[found] = (0, 0, 230) if category == DOG else (230, 230, 230)  # BGR
            annotations.append(
                {
                    'id': len(annotations),
                    'image_id': number,
                    'category_id': category,
                    'segmentation': encode(found),
                    'group': False,
                    'iscrowd': 0,
                }
            )
        cv2.imwrite(str(root / 'images' / f'{name}.png'), picture)
        images.append(
            {
                'id': number,
                'file_name': f'{name}.png',
                'height': SIZE[0],
                'width': SIZE[1],
                'source': 'coco',
                'incomplete': incomplete,
            }
        )
    content = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i, 'name': name} for i, name in NAMES.items()],
    }
    for split in ('train', 'val'):
        (root / f'instances_{split}.json').write_text(json.dumps(content))
    return root
