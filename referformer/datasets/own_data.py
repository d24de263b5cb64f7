"""Own videos, masks and sentences to the layout of Ref-YouTube-VOS (docs/own_data.md)."""

import csv
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from referformer.files import check_folder, naming
from referformer.image_files import BROKEN_IMAGE, open_image
from referformer.video_io import VideoReader

from .annotation_files import check_kind, check_names, some_of
from .own_masks import Masks, find_masks

COLUMNS = ('video', 'object', 'sentence')
OPTIONAL = ('category', 'kind', 'split')
SPLITS = ('train', 'valid')
_LISTED = 40  # problems in a message
_PALETTE = bytes(i * factor % 256 for i in range(256) for factor in (67, 151, 211))


class Sentence(NamedTuple):
    """A line of the table."""

    line: int
    video: str
    object: str
    sentence: str
    category: str = ''
    kind: str = ''
    split: str = ''


class OwnVideo(NamedTuple):
    """A video with what is said about it."""

    name: str
    path: Path
    masks: Masks
    sentences: list[Sentence]

    def objects(self) -> dict[str, int]:
        """Object -> index in the label maps: its number where all are numbers, else counted."""
        names = list(dict.fromkeys(row.object for row in self.sentences))
        numbers = [int(name) if name.isdecimal() else 0 for name in names]
        plain = all(0 < number < 255 for number in numbers) and len(set(numbers)) == len(names)
        return dict(zip(names, numbers if plain else range(1, 256)))


def read_sentences(path: Path) -> list[Sentence]:
    """The lines of a table: comma, semicolon or tab between ``COLUMNS`` and any of ``OPTIONAL``.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: Listing all lines that are wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} not found: a table with columns {", ".join(COLUMNS)}.')
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not UTF-8 ({error}). Save it as "CSV UTF-8".') from error
    delimiter = max(',;\t', key=(lines or [''])[0].count)
    table = csv.DictReader(lines, delimiter=delimiter)
    names = [name.strip().lower() for name in table.fieldnames or ()]
    lost, unknown = set(COLUMNS) - set(names), set(names) - {*COLUMNS, *OPTIONAL}
    if lost or unknown:
        raise ValueError(
            f'{path} has the columns {some_of(names) or "none"}; it needs {", ".join(COLUMNS)}, '
            f'and may have {", ".join(OPTIONAL)}.'
        )
    table.fieldnames = names
    rows, problems, seen = [], [], {}
    for entry in table:
        where = f'line {table.line_num}'
        if None in entry or None in entry.values():
            problems.append(
                f'{where} does not have {len(names)} fields: quote what has {delimiter!r}'
            )
            continue
        row = Sentence(table.line_num, **{name: text.strip() for name, text in entry.items()})
        rows.append(row)
        problems += [f'{where}: {problem}' for problem in _faults(row)]
        first = seen.setdefault((row.video, row.object, row.sentence.lower()), row)
        if first is not row:
            problems.append(f'{where} says what line {first.line} does')
    raise_all(problems if rows or problems else ['it has no sentence'], str(path))
    return rows


def _faults(row: Sentence) -> Iterator[str]:
    yield from (f'{name} is empty' for name in COLUMNS if not getattr(row, name))
    try:
        check_names([row.video], 'the video')
        check_kind(row.kind or None, 'kind')
    except ValueError as error:
        yield str(error)
    if row.split not in ('', *SPLITS):
        yield f'split is {row.split!r}, not train or valid'
    if Path(row.video).name != row.video or row.video.startswith('.'):
        yield f'the video {row.video!r} must be a name, without folder'


def find_videos(
    rows: Sequence[Sentence], videos: Path, masks: Path
) -> tuple[list[OwnVideo], list[str]]:
    """The videos of the sentences, with their masks; what is wrong with others.

    Raises:
        FileNotFoundError: One of the places does not exist.
    """
    for place in (videos, masks):
        if not place.exists():
            raise FileNotFoundError(f'{place} not found.')
    grouped: dict[str, list[Sentence]] = {}
    for row in rows:
        grouped.setdefault(row.video, []).append(row)
    found, problems = {}, []
    for video, sentences in grouped.items():
        exact = videos / video
        paths = [exact] if exact.exists() else sorted(videos.glob(f'{escape(video)}.*'))
        if len(paths) != 1:
            there = some_of([p.name for p in paths]) or 'nothing of that name'
            problems.append(f'{video} (line {sentences[0].line}): {videos} has {there}')
            continue
        name = video if paths[0].is_dir() else paths[0].stem
        splits = {row.split for row in sentences}
        if len(splits) > 1:
            problems.append(f'{video}: its sentences are in several splits')
        if name in found:
            problems.append(f'{video} and {found[name].sentences[0].video} are both named {name}')
        try:
            found[name] = OwnVideo(name, paths[0], find_masks(masks, name), sentences)
        except (FileNotFoundError, ValueError) as error:
            problems.append(f'{video}: {error}')
    return list(found.values()), problems


def check_video(video: OwnVideo) -> list[str]:
    """Decode a video and its masks; what is wrong with them."""
    try:
        reader = VideoReader(video.path)
        count = sum(1 for _ in reader)
        order = video.masks.order(reader.frame_names, count)
    except (ValueError, OSError) as error:
        return [f'{video.name}: {error}']
    objects = list(dict.fromkeys(row.object for row in video.sentences))
    if len(objects) > 255:
        return [f'{video.name}: {len(objects)} objects, but label maps hold 255']
    visible, problems = np.zeros(len(objects), bool), []
    for frame, index in enumerate(order):
        try:
            masks = video.masks.read(index, objects)
        except (LookupError, TypeError, ValueError) as error:
            problems.append(f'{video.name}: {error}')
            continue
        if masks.size and masks.shape[1:] != reader.size:
            problems.append(
                f'{video.name}: the masks of frame {frame} have height and width '
                f'{masks.shape[1:]}, the frame {reader.size}'
            )
        visible |= masks.any((1, 2))
    if len(problems) > 3:
        problems[3:] = [f'{video.name}: {len(problems) - 3} frames more like these']
    absent = [name for name, seen in zip(objects, visible) if not seen]
    if absent and not problems:
        lines = [row.line for row in video.sentences if row.object in absent]
        problems.append(
            f'{video.name}: no mask has the object {some_of(absent)} (line {some_of(lines)}); '
            f'there are: {some_of(sorted(video.masks.found)) or "none"}'
        )
    return problems


def write_video(video: OwnVideo, folder: Path) -> tuple[list[str], int]:
    """Write frames (JPEGs are copied as they are) and label maps; names of the frames, and the
    number of pixels that several objects claim (the smallest one gets them).

    Args:
        video: A sound one.
        folder: Of its split.
    """
    images, maps = (folder / kind / video.name for kind in ('JPEGImages', 'Annotations'))
    for place in (images, maps):
        place.mkdir(parents=True)
    reader, objects = VideoReader(video.path), video.objects()
    frames = reader.frame_files or reader
    names = reader.frame_names or [f'{t:05d}' for t in range(sum(1 for _ in reader))]
    order, shared = video.masks.order(reader.frame_names, len(names)), 0
    for name, frame, index in zip(names, frames, order):
        _write_frame(frame, images / f'{name}.jpg')
        masks = video.masks.read(index, list(objects))
        shared += int((masks.sum(0) > 1).sum())
        labels = np.zeros(reader.size, np.uint8)
        for number, mask in sorted(zip(objects.values(), masks), key=lambda pair: -pair[1].sum()):
            if mask.size:
                labels[mask] = number
        image = Image.fromarray(labels)
        image.putpalette(_PALETTE)
        image.save(maps / f'{name}.png')
    return names, shared


def _write_frame(frame: Path | np.ndarray, path: Path) -> None:
    if isinstance(frame, Path) and frame.suffix.lower() in ('.jpg', '.jpeg'):
        shutil.copyfile(frame, path)
        return
    try:
        image = open_image(frame) if isinstance(frame, Path) else Image.fromarray(frame)
        image = image.convert('RGB')
    except BROKEN_IMAGE as error:
        raise ValueError(f'{frame} cannot be read: {error}') from error
    with naming(path):
        image.save(path, quality=95)


def choose_splits(videos: Sequence[OwnVideo], share: float) -> dict[str, list[OwnVideo]]:
    """Whole videos for each split: as the table says, or a random share of them for valid.

    Raises:
        ValueError: Nothing is left to train on.
    """
    if any(video.sentences[0].split for video in videos):
        chosen = {video.name for video in videos if video.sentences[0].split == 'valid'}
    else:
        count = min(round(share * len(videos)) or int(share > 0), len(videos) - 1)
        names = sorted(video.name for video in videos)
        chosen = set(random.Random(0).sample(names, count))
    splits = {'train': [v for v in videos if v.name not in chosen]}
    splits['valid'] = [v for v in videos if v.name in chosen]
    if not splits['train']:
        raise ValueError('all videos are in the split valid: none is left to train on')
    return splits


def make_dataset(
    table: Path,
    videos: Path,
    masks: Path,
    out: Path,
    write_config: Callable[[Path, bool], None],
    valid: float = 0.2,
    num_workers: int = 2,
) -> dict[str, Counter]:
    """Check everything, then write the data set, which appears as ``out`` when it is complete.

    Args:
        table: See :func:`read_sentences`.
        videos: Folder of video files and of folders of frames.
        masks: Folder or file, see :func:`find_masks`.
        out: To make.
        write_config: Writes a config into a folder; is told whether there is a valid split.
        valid: Share of the videos for valid, where the table does not say.
        num_workers: Processes.

    Returns:
        For each split the numbers of videos, frames, objects, sentences and shared pixels.

    Raises:
        FileExistsError: ``out`` exists.
        FileNotFoundError, ValueError: What cannot be used, all in one message.
    """
    if not 0 <= valid < 1:
        raise ValueError(f'the share of valid must be at least 0 and below 1, not {valid}')
    if out.exists():
        raise FileExistsError(f'{out} already exists and is not touched; name another folder.')
    check_folder(out)
    found, problems = find_videos(read_sentences(table), videos, masks)
    for wrong in _map(check_video, [(video,) for video in found], 'checking', num_workers):
        problems += wrong
    raise_all(problems, f'{table}, {videos} and {masks}')
    splits = choose_splits(found, valid)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=out.parent) as temporary:
        new = Path(temporary, out.name)
        jobs = [(video, new / split) for split in SPLITS for video in splits[split]]
        written = iter(_map(write_video, jobs, 'writing', num_workers))
        counts = {}
        for split in SPLITS:
            if splits[split]:
                results = [next(written) for _ in splits[split]]
                counts[split] = _write_files(new, split, splits[split], results)
        write_config(new, bool(splits['valid']))
        new.rename(out)
    return counts


def raise_all(problems: Sequence[str], what: str) -> None:
    """Raise ValueError with a line for each problem, if there is any."""
    if problems:
        more = [f'... and {len(problems) - _LISTED} more'] if len(problems) > _LISTED else []
        lines = '\n  '.join([*problems[:_LISTED], *more])
        raise ValueError(f'{what} cannot be used:\n  {lines}')


def _write_files(
    root: Path, split: str, videos: Sequence[OwnVideo], written: Sequence[tuple[list[str], int]]
) -> Counter:
    listed, described, counts = {}, {}, Counter(videos=len(videos))
    for video, (frames, shared) in zip(videos, written):
        objects = video.objects()
        listed[video.name] = {
            'frames': frames,
            'expressions': {
                str(i): {'exp': row.sentence, 'obj_id': str(objects[row.object])}
                | ({'kind': row.kind} if row.kind else {})
                for i, row in enumerate(video.sentences)
            },
        }
        categories = {row.object: row.category for row in video.sentences if row.category}
        described[video.name] = {
            'objects': {
                str(number): {'category': categories.get(name, 'object'), 'name': name}
                for name, number in objects.items()
            }
        }
        counts.update(
            frames=len(frames), objects=len(objects), sentences=len(video.sentences), shared=shared
        )
    folder = root / 'meta_expressions' / split
    folder.mkdir(parents=True)
    for path, content in (
        (folder / 'meta_expressions.json', listed),
        (root / split / 'meta.json', described),
    ):
        path.write_text(json.dumps({'videos': content}, ensure_ascii=False), encoding='utf-8')
    return counts


def _map(function: Callable, jobs: Sequence[tuple], what: str, num_workers: int) -> list[Any]:
    """Results of the function for each job, in order, with a progress bar."""
    bar = {'total': len(jobs), 'desc': what, 'unit': 'video'}
    if num_workers < 2:
        return list(tqdm((function(*job) for job in jobs), **bar))
    with ProcessPoolExecutor(num_workers) as pool:
        return list(tqdm(pool.map(function, *zip(*jobs)), **bar))
