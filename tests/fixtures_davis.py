"""Writes a tiny Ref-DAVIS17 as it is published: DAVIS-2017 Unsupervised, semantics, sentences."""

import json
from pathlib import Path

import numpy as np
from fixtures_rvos import COLOURS, PALETTE
from PIL import Image

# name: (split in ImageSets, frames, (H, W), categories of the objects)
VIDEOS = {
    'classic-car': ('train', 6, (48, 64), ('car', 'person')),
    'dogs-scale': ('train', 3, (45, 63), ('dog',)),
    'motorbike': ('train', 5, (48, 64), ('motorcycle',)),
    'judo': ('val', 7, (51, 83), ('person', 'person', 'potted plant')),
    'blackswan': ('val', 3, (48, 64), ('bird',)),
}
UNNAMED = ('judo', 3)  # annotated, but no sentence is about it
# As the published files misspell them.
_MISSPELLED = {'classic-car': 'clasic-car', 'dogs-scale': 'dog-scale', 'motorbike': 'motor-bike'}
_FILES = ('annot1', 'annot1_full_video', 'annot2', 'annot2_full_video')


def write_ref_davis(root: Path, archives: bool = False) -> Path:
    """Write horizontal bands that move to the right, and all files of the three archives.

    The last object of a video with several is missing on the second frame, and void pixels are
    around the first one on the last frame. The second person's files are in Latin-1.

    Args:
        root: Folder to write to.
        archives: Put each archive into a folder of its name, as graphical tools extract it.

    Returns:
        ``root``.
    """
    root = Path(root)
    names = ('DAVIS-2017-Unsupervised-trainval-480p', 'DAVIS-2017_semantics-480p', '')
    davis, semantics, texts = (root / name if archives else root for name in names)
    davis, semantics = davis / 'DAVIS', semantics / 'DAVIS'
    for name, (_, num_frames, size, categories) in VIDEOS.items():
        for t in range(num_frames):
            frame, labels = _draw(t, num_frames, size, len(categories))
            _save(davis / 'JPEGImages/480p' / name / f'{t:05d}.jpg', Image.fromarray(frame))
            mask = Image.fromarray(labels)
            mask.putpalette(PALETTE + bytes(3 * 250) + b'\xff\xff\xff')
            _save(davis / 'Annotations_unsupervised/480p' / name / f'{t:05d}.png', mask)
    for split in ('train', 'val'):
        listed = [name for name, video in VIDEOS.items() if video[0] == split]
        path = davis / 'ImageSets/2017' / f'{split}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(listed) + '\n')
    content = {
        name: {str(i): category for i, category in enumerate(video[3], start=1)}
        for name, video in VIDEOS.items()
    }
    semantics.mkdir(parents=True, exist_ok=True)
    (semantics / 'davis_semantics.json').write_text(json.dumps(content))
    _write_texts(texts / 'davis_text_annotations')
    return root


def _draw(
    t: int, num_frames: int, size: tuple[int, int], num_objects: int
) -> tuple[np.ndarray, np.ndarray]:
    height, width = size
    frame = np.full((height, width, 3), 110, np.uint8)
    labels = np.zeros(size, np.uint8)
    band = height // num_objects
    for k in range(num_objects):
        if num_objects > 1 and k == num_objects - 1 and t == 1:
            continue
        left = (t + 1) * width // (2 * num_frames)
        window = np.s_[k * band + 2 : (k + 1) * band - 2, left : left + width // 3]
        frame[window] = COLOURS[k]
        labels[window] = k + 1
        if k == 0 and t == num_frames - 1:
            labels[window][:2] = 255
    return frame, labels


def _write_texts(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(_FILES):
        lines = []
        for video, (_, _, _, categories) in VIDEOS.items():
            for i, category in enumerate(categories, start=1):
                if (video, i) == UNNAMED:
                    continue
                sentence = f"the {category}'s café no {i}, by {number} "
                lines.append(f'{_MISSPELLED.get(video, video)} {i} "{sentence}"')
        lines.append('girl-dog 1 "a video of another split"')
        # Objects need not be in order.
        content = '\n'.join(reversed(lines)) + '\n'
        encoding = 'latin-1' if 'annot2' in name else 'utf-8'
        (folder / f'Davis17_{name}.txt').write_bytes(content.encode(encoding))


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
