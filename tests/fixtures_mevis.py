"""Writes a tiny MeViS in its published layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from fixtures_rvos import COLOURS
from PIL import Image
from pycocotools import mask as coco_mask

# split: {video: (frames, (H, W), objects)}
SPLITS = {
    'train': {'1a2b3c': (7, (48, 64), 3), 'short': (2, (45, 63), 2)},
    'valid_u': {'9f8e7d': (5, (51, 83), 3)},
    'valid': {'0a0b0c': (4, (48, 64), 2)},
}
# Sentence and the objects of the video it names.
EXPRESSIONS = (
    ("The  dogs' owner, déjà vu, moves RIGHT ", (0,)),
    ('both things that move', (0, 1)),
    ('everything that goes along', None),
)
_FIRST_ANNO_ID = {'train': 0, 'valid_u': 100, 'valid': 0}


def write_mevis(root: Path) -> Path:
    """Write horizontal bands that move to the right, overlapping by a row.

    The last object of each video is missing on its first frame: its mask there is None. Numbers of
    masks (``anno_id``) do not start at 0 in each video.

    Args:
        root: Folder to write to.

    Returns:
        ``root``.
    """
    root = Path(root)
    for split, videos in SPLITS.items():
        expressions, masks = {}, {}
        anno_id = _FIRST_ANNO_ID[split]
        for number, (name, (num_frames, size, num_objects)) in enumerate(videos.items()):
            objects = [draw_masks(k, num_frames, size, num_objects) for k in range(num_objects)]
            anno_ids = list(range(anno_id, anno_id + num_objects))
            anno_id += num_objects
            masks.update(
                {str(i): list(map(encode, frames)) for i, frames in zip(anno_ids, objects)}
            )
            for t in range(num_frames):
                frame = np.full((*size, 3), 110, np.uint8)
                for k, frames in enumerate(objects):
                    frame[frames[t]] = COLOURS[k]
                path = root / split / 'JPEGImages' / name / f'{t:05d}.jpg'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame).save(path)
            expressions[name] = {
                'vid_id': number,
                'frames': [f'{t:05d}' for t in range(num_frames)],
                'expressions': _expressions(anno_ids, with_objects=split != 'valid'),
            }
        _save(root / split / 'meta_expressions.json', {'videos': expressions})
        if split != 'valid':
            _save(root / split / 'mask_dict.json', masks)
    return root


def draw_masks(k: int, num_frames: int, size: tuple[int, int], num_objects: int) -> np.ndarray:
    """Masks of object ``k``, bool (T, H, W)."""
    height, width = size
    band = height // num_objects
    masks = np.zeros((num_frames, *size), bool)
    for t in range(num_frames):
        left = t * width // (2 * num_frames)
        masks[t, max(k * band - 1, 0) : (k + 1) * band, left : left + width // 3] = True
    if k == num_objects - 1:
        masks[0] = False
    return masks


def encode(mask: np.ndarray) -> dict[str, Any] | None:
    """Run lengths as the file has them."""
    if not mask.any():
        return None
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {'size': list(mask.shape), 'counts': code['counts'].decode()}


def _expressions(anno_ids: list[int], with_objects: bool) -> dict[str, dict]:
    entries = {}
    for exp_id, (text, objects) in enumerate(EXPRESSIONS):
        entries[str(exp_id)] = {'exp': text}
        if with_objects:
            chosen = range(len(anno_ids)) if objects is None else objects
            ids = {'obj_id': list(chosen), 'anno_id': [anno_ids[k] for k in chosen]}
            entries[str(exp_id)].update(ids)
    return entries


def _save(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')
