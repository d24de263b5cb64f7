"""Writes a tiny dataset in the published layout of JHMDB-Sentences: PNG, mat and JSON files."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

# (action, name): names as the real ones have them.
VIDEOS = (
    ('pullup', '30_(dead-hang)_pull-ups_pullup_u_cm_np1_ba_med_0'),
    ('clap', '@20_Rhythm_clap_u_nm_np1_fr_goo_0'),
    ('wave', 'Abschieds-winken_!!!!!!_Gruss_Guido_wave_u_cm_np1_fr_bad_1'),
)
TEXTS = ("a man's  Pulling UP ", 'the girl with the bérét claps ', 'man in black waves')
COLOUR = (220, 60, 40)


def write_jhmdb_sentences(
    root: Path, num_videos: int = 2, num_frames: int = 8, size: tuple[int, int] = (48, 63)
) -> Path:
    """Write videos of a rectangle that moves to the right, each annotated on three frames.

    The background of frame t (from 0) is the grey 60 + 10 t. On its last frame, which is annotated,
    the rectangle has left. The frames that count are the first, the middle and the last one.

    Args:
        root: Folder to write to.
        num_videos: Up to 3.
        num_frames: Frames of each video.
        size: Height and width.

    Returns:
        ``root``.
    """
    root = Path(root)
    rows = []
    height, width = size
    for (action, video_id), text in list(zip(VIDEOS, TEXTS))[:num_videos]:
        frames = root / 'Rename_Images' / action / video_id
        masks = root / 'puppet_mask' / action / video_id
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        part_mask = np.zeros((*size, num_frames), np.uint8)
        for t in range(num_frames):
            left = (t + 1) * width // (2 * num_frames)
            if t < num_frames - 1:
                part_mask[8 : height - 8, left : left + width // 3, t] = 1
            frame = np.full((*size, 3), 60 + 10 * t, np.uint8)
            frame[part_mask[..., t] > 0] = COLOUR
            Image.fromarray(frame).save(frames / f'{t + 1:05d}.png')
        savemat(masks / 'puppet_mask.mat', {'part_mask': part_mask}, do_compression=True)
        rows += [
            [
                video_id,
                f'./jhmdb_sentences/Rename_Images/{action}/{video_id}/{t + 1:05d}.png',
                f'./jhmdb_sentences/puppet_mask/{action}/{video_id}/puppet_mask.mat',
                num_frames,
                text,
            ]
            for t in sorted({0, num_frames // 2, num_frames - 1})
        ]
    path = root / 'jhmdb_sentences_samples_metadata.json'
    path.write_text(json.dumps(rows), encoding='utf-8')
    return root
