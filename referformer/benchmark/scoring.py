"""Scoring of files of masks, as ``referformer score`` does it: checking, reading, measuring."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ..evaluation.scoring.videos import davis_jobs, run_jobs
from .measure import measure

_OBJECTS = 2


def scoring(
    videos: int, frames: int, shape: tuple[int, int], processes: Sequence[int], **rounds: int
) -> Iterator[dict[str, Any]]:
    """A row for each number of processes: videos of two moving, ragged objects, predicted a little
    beside the truth."""
    with tempfile.TemporaryDirectory() as folder:
        pred, truth = Path(folder, 'pred'), Path(folder, 'truth')
        for i in range(videos):
            for place, shift in ((pred, 3), (truth, 0)):
                _write_video(place / f'{i:03d}', frames, shape, shift, seed=i)
        for nproc in processes:
            # Found and checked anew in every round, as in a run of the command.
            step = lambda n=nproc: run_jobs(davis_jobs(pred, truth, True), n, progress=False)  # noqa: E731
            found = measure(step, **rounds)
            pairs = videos * frames * _OBJECTS
            rate = pairs / found['seconds']['median']
            row = {'videos': videos, 'frames': frames, 'height': shape[0], 'width': shape[1]}
            yield row | {'processes': nproc} | found | {'masks_per_second': rate}


def _write_video(folder: Path, frames: int, shape: tuple[int, int], shift: int, seed: int) -> None:
    """Label maps of objects whose outlines are noise."""
    folder.mkdir(parents=True)
    H, W = shape
    noise = np.random.default_rng(seed).random((max(2, H // 12), max(2, W // 12)), np.float32)
    ragged = cv2.resize(noise, (W, H), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:H, :W]
    for t in range(frames):
        labels = np.zeros(shape, np.uint8)
        for n in range(_OBJECTS):
            centre = W * (0.3 + 0.35 * n) + 2 * t + shift
            distance = ((x - centre) / (W / 6)) ** 2 + ((y - H / 2) / (H / 3)) ** 2
            labels[distance + ragged - 0.5 < 1] = n + 1
        image = Image.fromarray(labels)
        image.putpalette(bytes(range(256)) * 3)
        image.save(folder / f'{t:05d}.png')
