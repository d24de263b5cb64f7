"""A training pipeline over clips of 720p JPEGs, which are made on the spot."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from PIL import Image
from torch.utils.data import DataLoader

from ..datasets import RVOSDataset
from ..files import project_file
from ..video_io import VideoReader
from .measure import measure

SIZE = (720, 1280)
_PIPELINE = 'configs/_base_/datasets/ref_youtube_vos.py'


def loading(
    frames: int,
    clips: int,
    workers: int,
    video: str | None = None,
    config: str | None = None,
    quality: int = 90,
    **rounds: int,
) -> Iterator[dict[str, Any]]:
    """One row: seconds for ``clips`` clips through a loader, and where they go.

    Args:
        frames: T.
        workers: Of the loader; 0: this process loads.
        video: Whose frames are used; noise by default.
        config: File with ``train_pipeline``, by default that of Ref-YouTube-VOS.
        quality: Of the JPEGs.
    """
    pipeline = Config.fromfile(config or project_file(_PIPELINE))['train_pipeline']
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), read_frames(video) if video else make_frames(), quality)
        dataset = SeededClips(RVOSDataset(folder, num_frames=frames, pipeline=pipeline), clips)
        loader = DataLoader(
            dataset, num_workers=workers, persistent_workers=workers > 0, collate_fn=list
        )
        found = measure(lambda: sum(1 for _ in loader), **rounds)
        rate = clips / found['seconds']['median']
        row = {'frames': frames, 'clips': clips, 'workers': workers, 'quality': quality}
        yield row | found | {'parts': dataset.profile(), 'clips_per_second': rate}


class SeededClips:
    """Packed clips of a dataset; item i has the random numbers of seed i."""

    def __init__(self, dataset: RVOSDataset, num: int) -> None:
        self.dataset = dataset
        self.num = num

    def __len__(self) -> int:
        """Number of clips of a round."""
        return self.num

    def __getitem__(self, index: int) -> dict:
        """A packed clip."""
        np.random.seed(index)
        return self.dataset[index % len(self.dataset)]

    def profile(self) -> dict[str, dict[str, float]]:
        """Seconds that each transform takes for all clips, in this process."""
        spent: dict[str, float] = {}
        for index in range(self.num):
            np.random.seed(index)
            results = self.dataset.get_data_info(index % len(self.dataset))
            for transform in self.dataset.pipeline.transforms:
                start = time.perf_counter()
                results = transform(results)
                name = type(transform).__name__
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
        return {name: {'median': seconds} for name, seconds in spent.items()}


def write_dataset(
    root: Path, frames: Iterator[np.ndarray], quality: int, num_videos: int = 3, length: int = 12
) -> None:
    """Write videos of 1280x720 JPEGs with one large object, in the layout of Ref-YouTube-VOS."""
    names = [f'{5 * t:05d}' for t in range(length)]
    videos = {}
    for number in range(num_videos):
        folders = [root / 'train' / kind / f'v{number}' for kind in ('JPEGImages', 'Annotations')]
        for folder in folders:
            folder.mkdir(parents=True)
        for t, name in enumerate(names):
            Image.fromarray(next(frames)).save(folders[0] / f'{name}.jpg', quality=quality)
            mask = np.zeros(SIZE, np.uint8)
            cv2.ellipse(mask, (630 + 2 * t, 360), (430, 260), 5 * number, 0, 360, 1, -1)
            image = Image.fromarray(mask)
            image.putpalette(bytes(range(256)) * 3)
            image.save(folders[1] / f'{name}.png')
        expression = {'exp': 'the dog on the left', 'obj_id': '1'}
        videos[f'v{number}'] = {'frames': names, 'expressions': {'0': expression}}
    path = root / 'meta_expressions/train/meta_expressions.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({'videos': videos}))
    objects = {video_id: {'objects': {'1': {'category': 'dog'}}} for video_id in videos}
    (root / 'train/meta.json').write_text(json.dumps({'videos': objects}))


def read_frames(path: str) -> Iterator[np.ndarray]:
    """Every fifth frame of a video at 1280x720, RGB, over and over."""
    while True:
        for number, frame in enumerate(VideoReader(path)):
            if number % 5 == 0:
                yield cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA)


def make_frames() -> Iterator[np.ndarray]:
    """Smooth random textures with noise, RGB."""
    rng = np.random.default_rng(0)
    while True:
        coarse = rng.integers(0, 256, (23, 40, 3), dtype=np.uint8)
        frame = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
        frame += rng.integers(-12, 13, frame.shape, dtype=np.int16)
        yield frame.clip(0, 255).astype(np.uint8)
