"""Writes a tiny dataset in the published layout of A2D-Sentences: mp4, h5 and JSON files."""

import json
import struct
from pathlib import Path

import cv2
import h5py
import numpy as np
from fixtures_rvos import COLOURS

# As YouTube has them.
VIDEO_IDS = {'train': ('-1EtDaIh8Zk', '_0djNz7Bg4I'), 'test': ('0Ab-cd_Ef12', 'zz9_-xYw3Q0')}
TEXTS = ("The DOG's  ball rolls ", 'the café cat on the left')
INSTANCES = (2, 5)  # ids need not begin with 1, nor be consecutive


def write_a2d_sentences(
    root: Path, num_frames: int = 12, size: tuple[int, int] = (48, 64), num_videos: int = 2
) -> Path:
    """Write videos of moving rectangles, each annotated on its first, middle and last frame.

    The background of frame t (from 0) is grey, ``background(t)``. The first video of a split shows
    the instances 2 and 5, of which 5 is missing on the last frame, where its mask is empty. The
    second video shows only instance 2: its mask is stored as a 2-D array.

    Args:
        root: Folder to write to.
        num_frames: Frames of each video.
        size: Height and width of the masks; videos lose the last row or column of odd sizes.
        num_videos: Of each split, up to 2.

    Returns:
        ``root``.
    """
    root = Path(root)
    for split, video_ids in VIDEO_IDS.items():
        rows = []
        for number, video_id in enumerate(video_ids[:num_videos]):
            instances = INSTANCES[: 2 - number]
            masks = _draw_masks(instances, num_frames, size)
            _write_video(root / 'Release' / 'clips320H' / f'{video_id}.mp4', masks)
            for t in sorted({0, num_frames // 2, num_frames - 1}):
                path = mask_file(root, video_id, t + 1)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_h5(path, instances, masks[:, t])
                rows += [[text, video_id, t + 1, obj_id] for text, obj_id in zip(TEXTS, instances)]
        path = root / f'a2d_sentences_single_frame_{split}_annotations.json'
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding='utf-8')
    return root


def background(t: int) -> int:
    """Grey of the background of frame t: frames of a compressed video can be told by it."""
    return 60 + 12 * t


def mask_file(root: Path, video_id: str, frame: int) -> Path:
    """The masks of one annotated frame, counted from 1."""
    folder = root / 'text_annotations' / 'a2d_annotation_with_instances' / video_id
    return folder / f'{frame:05d}.h5'


def write_h5(path: Path, instances: tuple[int, ...], masks: np.ndarray, **fields: object) -> None:
    """Write bool masks (N, H, W) as MATLAB's arrays look in h5: transposed, 2-D where N is 1.

    ``fields`` are written instead, or left out where they are None.
    """
    stored = masks.transpose(0, 2, 1).astype(np.uint8)
    fields = {'instance': instances, 'reMask': stored[0] if len(stored) == 1 else stored, **fields}
    with h5py.File(path, 'w') as file:
        for name, value in fields.items():
            if value is not None:
                file[name] = value


def cut_video(path: Path, share: float = 0.6) -> None:
    """Leave only the first part of a video's frames in a file that still claims to have all.

    The index goes to the front, where files made for the web have it, and the end of the file, as
    that of a download, is cut off.
    """
    content = path.read_bytes()
    boxes, start = {}, 0
    while start < len(content):
        length = struct.unpack('>I', content[start : start + 4])[0]
        boxes[content[start + 4 : start + 8]] = content[start : start + length]
        start += length
    index = bytearray(boxes[b'moov'])
    table = index.find(b'stco') + 8
    (count,) = struct.unpack('>I', index[table : table + 4])
    offsets = struct.unpack(f'>{count}I', index[table + 4 : table + 4 + 4 * count])
    moved = [offset + len(index) for offset in offsets]
    index[table + 4 : table + 4 + 4 * count] = struct.pack(f'>{count}I', *moved)
    rest = b''.join(box for name, box in boxes.items() if name not in (b'ftyp', b'moov'))
    path.write_bytes(boxes[b'ftyp'] + index + rest[: int(len(rest) * share)])


def _draw_masks(instances: tuple[int, ...], num_frames: int, size: tuple[int, int]) -> np.ndarray:
    """Rectangles that move to the right, each in its own band of rows, bool (N, T, H, W)."""
    height, width = size
    masks = np.zeros((len(instances), num_frames, *size), bool)
    band = height // len(instances)
    for k in range(len(instances)):
        for t in range(num_frames):
            left = (t + 1) * width // (2 * num_frames)
            masks[k, t, k * band + 4 : (k + 1) * band - 4, left : left + width // 3] = True
    if len(instances) > 1:
        masks[-1, -1] = False
    return masks


def _write_video(path: Path, masks: np.ndarray) -> None:
    _, num_frames, height, width = masks.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    even = (width // 2 * 2, height // 2 * 2)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'mp4v'), 24.0, even)
    for t in range(num_frames):
        frame = np.full((height, width, 3), background(t), np.uint8)
        for k in range(len(masks)):
            frame[masks[k, t]] = COLOURS[k]
        writer.write(np.ascontiguousarray(frame[: even[1], : even[0], ::-1]))
    writer.release()
