"""Writing synthetic videos to disk, in the layout in which Ref-YouTube-VOS is published."""

import json
import multiprocessing
import shutil
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from mmengine.logging import print_log
from PIL import Image
from tqdm import tqdm

from .scene import SPLITS, check_options
from .tokenizer import train_tokenizer
from .video import SyntheticVideo, make_video

MARKER = 'synthetic.json'
VERSION = 1

_FRAME_STEP = 5  # frames are numbered 00000, 00005, ... as in Ref-YouTube-VOS
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
_PALETTE = [0, 0, 0, 236, 95, 103, 249, 145, 87, 250, 200, 99, 153, 199, 148]


def generate_dataset(
    root: str | Path,
    num_train: int = 300,
    num_valid: int = 60,
    size: tuple[int, int] = (96, 160),
    num_frames: int | tuple[int, int] = (16, 24),
    seed: int = 0,
    num_workers: int = 2,
    overwrite: bool = False,
    reuse: bool = False,
) -> dict[str, Any]:
    """Write a data set of synthetic videos, sentences and a tokenizer.

    The files depend on the options and the seed, not on the number of workers. They appear under
    `root` all at once when they are complete.

    Args:
        root: The folder to make.
        num_train, num_valid: Videos of each split. Every valid video shows an object whose shape
            and colour never come together in training.
        size: Height and width of the frames, px.
        num_frames: Frames of a video, or the least and the most.
        seed: Another one gives other videos.
        num_workers: Processes; 0 or 1 for none but this one.
        overwrite: Replace a data set that this function wrote before.
        reuse: Leave a data set of the same options as it is.

    Returns:
        Statistics, also kept in `synthetic.json`: for each split the numbers of videos, frames,
        objects and expressions (by kind), and of objects that get occluded, that leave or enter the
        frame, and whose looks are unseen in training.

    Raises:
        ValueError: An option is out of range.
        FileExistsError: `root` exists and is not to be replaced or reused.
    """
    root = Path(root).absolute()
    lengths = (num_frames, num_frames) if isinstance(num_frames, int) else tuple(num_frames)
    options = {
        'num_train': num_train,
        'num_valid': num_valid,
        'size': list(size),
        'num_frames': list(lengths),
        'seed': seed,
    }
    _check(options)
    if root.exists():
        marker = _read_marker(root)
        if reuse and _is_complete(root, marker, options):
            print_log(f'{root} already holds this data set and is left as it is.', 'current')
            return marker['statistics']
        _check_replaceable(root, marker, overwrite)
    root.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    partial_root = root.with_name(f'.{root.name}.partial-{token}')
    retired_root = root.with_name(f'.{root.name}.retired-{token}')
    partial_root.mkdir()
    try:
        statistics = {s: _write_split(partial_root, s, options, num_workers) for s in SPLITS}
        _train_tokenizer(partial_root)
        _dump(
            {'version': VERSION, 'options': options, 'statistics': statistics},
            partial_root / MARKER,
        )
        if root.exists():
            root.rename(retired_root)
        partial_root.rename(root)
        shutil.rmtree(retired_root, ignore_errors=True)
    finally:
        shutil.rmtree(partial_root, ignore_errors=True)
    return statistics


def _check(options: dict[str, Any]) -> None:
    for name in ('num_train', 'num_valid'):
        if options[name] < 1:
            raise ValueError(f'{name} is {options[name]}, but each split needs at least one video.')
    if options['seed'] < 0:
        raise ValueError(f'seed is {options["seed"]}, but must be 0 or a positive integer.')
    check_options(tuple(options['size']), tuple(options['num_frames']))


def _read_marker(root: Path) -> dict[str, Any] | None:
    """What `generate_dataset` noted in a folder, None where it did not write the folder."""
    try:
        marker = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and 'options' in marker else None


def _is_complete(root: Path, marker: dict[str, Any] | None, options: dict[str, Any]) -> bool:
    if marker is None or (marker['version'], marker['options']) != (VERSION, options):
        return False
    counts = [len(list((root / split / 'JPEGImages').glob('*'))) for split in SPLITS]
    files = [root / split / 'meta.json' for split in SPLITS]
    files += [_expressions_file(root, split) for split in SPLITS]
    files += [root / 'tokenizer' / 'tokenizer.json']
    expected = [options[f'num_{split}'] for split in SPLITS]
    return counts == expected and all(file.is_file() for file in files)


def _check_replaceable(root: Path, marker: dict[str, Any] | None, overwrite: bool) -> None:
    is_empty = root.is_dir() and not any(root.iterdir())
    if is_empty:
        return
    if marker is None:
        raise FileExistsError(
            f'{root} exists and was not written by this tool (it has no {MARKER}), so it is not '
            'touched. Give another folder.'
        )
    if not overwrite:
        raise FileExistsError(
            f'{root} already holds a synthetic data set (options {marker["options"]}). '
            'Use overwrite (--overwrite) to replace it, or give another folder.'
        )


def _write_split(
    root: Path, split: str, options: dict[str, Any], num_workers: int
) -> dict[str, Any]:
    """Write one split and return its statistics."""
    for folder in ('JPEGImages', 'Annotations'):
        (root / split / folder).mkdir(parents=True)
    write = partial(_write_video, root, split, options)
    count = options[f'num_{split}']
    videos, meta, totals = {}, {}, Counter()
    with closing(_in_order(write, count, num_workers)) as results:
        for name, expressions, objects, counts in tqdm(results, f'{split} videos', count):
            videos[name], meta[name] = expressions, objects
            totals.update(counts)
    _dump({'videos': meta}, root / split / 'meta.json')
    _expressions_file(root, split).parent.mkdir(parents=True)
    _dump({'videos': videos}, _expressions_file(root, split))
    return dict(totals)


def _in_order(write: partial, count: int, num_workers: int) -> Iterator[tuple]:
    """Results of `write` for 0 to `count` - 1, in this order."""
    if num_workers < 2:
        yield from map(write, range(count))
        return
    # Forked workers need no import; elsewhere than on Linux forking is not safe.
    method = 'fork' if sys.platform == 'linux' else 'spawn'
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context(method), _start_worker)
    try:
        yield from pool.map(write, range(count), chunksize=4)
    except BrokenProcessPool as error:
        raise OSError(
            'a worker process was ended from outside, perhaps for its memory; use fewer workers.'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(0)  # one thread a process, and none that a fork has lost
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers


def _write_video(
    root: Path, split: str, options: dict[str, Any], index: int
) -> tuple[str, dict, dict, dict]:
    """Write frames and masks of one video; return its name and entries for the json files."""
    video = make_video(
        (options['seed'], SPLITS.index(split), index),
        split,
        tuple(options['size']),
        tuple(options['num_frames']),
    )
    name = f'{split}_{index:05d}'
    stems = [f'{t * _FRAME_STEP:05d}' for t in range(len(video.frames))]
    for folder in ('JPEGImages', 'Annotations'):
        (root / split / folder / name).mkdir()
    for stem, frame, ids in zip(stems, video.frames, video.ids, strict=True):
        file = root / split / 'JPEGImages' / name / f'{stem}.jpg'
        file.write_bytes(cv2.imencode('.jpg', frame[..., ::-1], _JPEG)[1])
        mask = Image.fromarray(ids)
        mask.putpalette(_PALETTE)
        mask.save(root / split / 'Annotations' / name / f'{stem}.png')
    expressions = {
        str(i): {'exp': e.text, 'obj_id': str(e.obj_id), 'kind': e.kind}
        for i, e in enumerate(video.expressions)
    }
    entry = {'expressions': expressions, 'frames': stems}
    return name, entry, _describe_objects(video, stems), _count(video)


def _describe_objects(video: SyntheticVideo, stems: list[str]) -> dict[str, Any]:
    """The video's entry of meta.json, with the attributes that the sentences are about."""
    described = {}
    for index, obj in enumerate(video.scene.objects):
        present = (video.ids == index + 1).any((1, 2))
        described[str(index + 1)] = {
            'category': obj.shape,
            'frames': [stem for stem, here in zip(stems, present, strict=True) if here],
            'colour': obj.colour,
            'size': obj.size,
            'motion': obj.motion,
            'unseen': obj.unseen,
        }
    return {'objects': described}


def _count(video: SyntheticVideo) -> Counter:
    counts = Counter(
        videos=1,
        frames=len(video.frames),
        objects=len(video.scene.objects),
        occluded=int(video.facts.occluded.sum()),
        crossing_border=int(video.facts.crossing_border.sum()),
        unseen=sum(obj.unseen for obj in video.scene.objects),
        expressions=len(video.expressions),
    )
    counts.update(expression.kind for expression in video.expressions)
    return counts


def _expressions_file(root: Path, split: str) -> Path:
    return root / 'meta_expressions' / split / 'meta_expressions.json'


def _train_tokenizer(root: Path) -> None:
    videos = json.loads(_expressions_file(root, 'train').read_text())['videos'].values()
    train_tokenizer(
        [e['exp'] for video in videos for e in video['expressions'].values()], root / 'tokenizer'
    )


def _dump(content: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(content, indent=1) + '\n')
