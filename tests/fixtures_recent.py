"""Writes tiny copies of the data sets younger than the paper, in their published layouts, with
their awkward cases."""

import json
from pathlib import Path

import numpy as np
from fixtures_mevis import draw_masks, encode, write_mevis
from fixtures_rvos import COLOURS
from PIL import Image

SIZE = (48, 64)
# Videos of ReVOS: (frames, objects); ids are folders in folders.
REVOS = {'train': {'UVO/all/a1': (4, 2)}, 'valid': {'TAO/b': (3, 3), 'TAO/c': (4, 2)}}
LONG = {'train': {'one': 6}, 'valid': {'two': 5, 'three': 4}, 'test': {'four': 3}}


def write_mevis_v2(root: Path) -> Path:
    """MeViS as ``write_mevis`` has it, in files of version 2.

    Each video has one sentence more, about nothing; the second video of valid_u, 'nobody', has no
    other. Valid, without ground truth, is a file of its own name.
    """
    write_mevis(root)
    for split in ('train', 'valid_u', 'valid'):
        path = root / split / 'meta_expressions.json'
        content = json.loads(path.read_text(encoding='utf-8'))
        for video in content['videos'].values():
            nothing = {'exp': 'a dragon that flies'}
            if split != 'valid':
                nothing |= {'obj_id': [], 'anno_id': []}
            video['expressions']['3'] = nothing
        if split == 'valid_u':
            for t in range(2):
                save_frame(root / split / 'JPEGImages/nobody' / f'{t:05d}.jpg', [])
            only = {'frames': ['00000', '00001'], 'expressions': {'3': nothing}}
            content['videos']['nobody'] = only
        path.unlink()
        suffix = '_release' if split == 'valid' else ''
        save_json(path.with_name(f'meta_expressions_v2{suffix}.json'), content)
    return root


def write_revos(root: Path) -> Path:
    """ReVOS: sentences of all three types, objects that overlap by a row, both splits' masks in one
    file, and the union of them."""
    root, masks, foreground, anno_id = Path(root), {}, {}, 0
    for split, videos in REVOS.items():
        content = {}
        for video, (length, number) in videos.items():
            objects = [draw_masks(k, length, SIZE, number) for k in range(number)]
            ids = list(range(anno_id, anno_id + number))
            anno_id += number
            masks |= {str(i): list(map(encode, frames)) for i, frames in zip(ids, objects)}
            union = np.any(objects, 0)
            codes = [encode(mask) or encode_empty() for mask in union]
            foreground[video] = {
                'masks_rle': codes,
                'foreground_ratio': union.mean((1, 2)).tolist(),
            }
            write_frames(root / 'JPEGImages' / video, objects)
            sentences = (
                ('the first one', 0, ids[:1]),
                ('what could be eaten?', 1, ids),
                ('the green elephant', 2, []),
            )
            content[video] = {
                'height': SIZE[0],
                'width': SIZE[1],
                'frames': [f'{t:05d}' for t in range(length)],
                'expressions': {
                    str(i): {'exp': text, 'type_id': kind, 'anno_id': named, 'obj_id': named}
                    for i, (text, kind, named) in enumerate(sentences)
                },
            }
        save_json(root / f'meta_expressions_{split}_.json', {'videos': content})
    save_json(root / 'mask_dict.json', masks)
    save_json(root / 'mask_dict_foreground.json', foreground)
    return root


def write_long_rvos(root: Path) -> Path:
    """Long-RVOS: two objects a video, of which the second has no mask on the first frame; test has
    no masks."""
    for split, videos in LONG.items():
        content = {}
        for video, length in videos.items():
            objects = [draw_masks(k, length, SIZE, 2) for k in range(2)]
            write_frames(root / split / 'JPEGImages' / video, objects)
            for k, frames in enumerate(objects):
                for t, mask in enumerate(frames):
                    path = root / split / 'Annotations' / video / str(k + 1) / f'{t:05d}.png'
                    if mask.any() and split != 'test':
                        save_mask(path, mask)
            content[video] = {
                'frames': [f'{t:05d}' for t in range(length)],
                'expressions': {
                    str(i): {'exp': f'the {kind} thing', 'obj_id': str(i % 2 + 1), 'type': kind}
                    for i, kind in enumerate(('static', 'dynamic', 'hybrid'))
                },
            }
        save_json(root / split / 'meta_expressions.json', {'videos': content})
    return root


def write_frames(folder: Path, objects: list[np.ndarray]) -> None:
    """Pictures of the objects, masks (T, H, W)."""
    for t in range(len(objects[0])):
        save_frame(folder / f'{t:05d}.jpg', [frames[t] for frames in objects])


def save_frame(path: Path, masks: list[np.ndarray]) -> None:
    """A grey picture with coloured objects."""
    frame = np.full((*SIZE, 3), 110, np.uint8)
    for mask, colour in zip(masks, COLOURS):
        frame[mask] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path)


def save_mask(path: Path, mask: np.ndarray) -> None:
    """A grey PNG, 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def encode_empty() -> dict:
    """The run lengths of an empty mask, which the file of the foreground has instead of null."""
    return {'size': list(SIZE), 'counts': [SIZE[0] * SIZE[1]]}


def save_json(path: Path, content: dict) -> None:
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')
