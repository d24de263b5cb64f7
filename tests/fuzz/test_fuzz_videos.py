"""Broken videos: a clear error, or frames of one size."""

import random

import numpy as np
import pytest
from fuzzing import Child, Tally, damage

from referformer.datasets.transforms.loading_annotations import (
    count_video_frames,
    read_video_frames,
)
from referformer.video_io import VideoReader, VideoWriter


def read(name: str, path) -> tuple:
    if name == 'indexed':
        return read_video_frames(path, [0, 3]).shape
    if name == 'counted':
        return count_video_frames.__wrapped__(str(path))
    reader = VideoReader(path)
    sizes = {frame.shape for frame in reader}
    assert sizes == {(*reader.size, 3)}
    assert 0 < reader.fps < 1e6
    return len(reader)


@pytest.fixture(scope='module')
def videos(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp('videos')
    frames = np.random.default_rng(0).integers(0, 256, (8, 4, 6, 3), np.uint8)
    for suffix in ('.mp4', '.gif', '.avi'):
        with VideoWriter(folder / f'video{suffix}', 5, (48, 64)) as writer:
            for frame in frames:
                writer.write(np.kron(frame, np.ones((12, 11, 1), np.uint8))[:, :64].copy())
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def test_videos(tmp_path, fuzz, videos):
    rng, tally = random.Random(fuzz.seed), Tally()
    with Child(read) as child:
        for number in range(fuzz.count(200)):
            suffix = rng.choice(list(videos))
            path = tmp_path / f'video{suffix}'
            path.write_bytes(damage(videos[suffix], rng))
            name = rng.choice(('whole', 'whole', 'indexed', 'counted'))
            outcome = child(name, path)
            tally.add(outcome, f'video {number} {suffix} {name}')
            if outcome.kind == 'refused':
                assert path.name in outcome.detail
    tally.check()
