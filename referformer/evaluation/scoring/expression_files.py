"""What is to be scored according to the expression files of Ref-YouTube-VOS and MeViS."""

import atexit
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from referformer.datasets.annotation_files import integer, read_frames, read_videos, require
from referformer.files import read_json

from .mask_files import Problem, frame_names, raise_problems, read_header
from .truths import PaletteTruth, RunLengthTruth, Truth
from .videos import ExpressionJob, Job


class AnnotatedVideo(NamedTuple):
    """A video with its expressions and masks."""

    name: str
    frames: tuple[str, ...]
    targets: dict[str, tuple]  # id of an expression -> ids of the objects it refers to
    expressions: dict[str, dict]  # as they stand in the file: exp, kind, ...
    truth: Truth


def submission_root(pred: Path) -> Path:
    """The folder of the videos of a submission: ``Annotations`` where there is one.

    An archive is unpacked to a temporary folder, which is there until the process ends.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is empty, or no archive.
    """
    if pred.is_file():
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        try:
            with zipfile.ZipFile(pred) as archive:
                archive.extractall(folder.name)
        except zipfile.BadZipFile as error:
            raise ValueError(f'{pred} is neither a folder of masks nor a .zip: {error}.') from None
        pred = Path(folder.name)
    if not pred.is_dir():
        raise FileNotFoundError(f'{pred} is not there; it should hold the predicted masks.')
    root = pred / 'Annotations' if (pred / 'Annotations').is_dir() else pred
    if not any(root.iterdir()):
        raise ValueError(f'{root} is empty; it should hold the predicted masks.')
    return root


def ref_youtube_vos_jobs(
    pred: Path, gt: Path, split: str = 'valid', videos: Sequence[str] | None = None
) -> list[Job]:
    """The jobs of Ref-YouTube-VOS: a tree as it is submitted against annotations with objects.

    Args:
        pred: ``<video>/<expression>/<frame>.png``, with or without ``Annotations`` above.
        gt: See ``read_ref_youtube_vos``.
        split: Of the annotation.
        videos: Score only these.
    """
    root = submission_root(pred)
    return expression_jobs(root, read_ref_youtube_vos(gt, split, videos))


def mevis_jobs(
    pred: Path, gt: Path, split: str = 'valid_u', videos: Sequence[str] | None = None
) -> list[Job]:
    """The jobs of MeViS: expressions that name several objects, whose masks are in one JSON file.

    Args:
        pred: ``<video>/<expression>/<frame>.png``, with or without ``Annotations`` above.
        gt: See ``read_mevis``.
        split: Of the annotation.
        videos: Score only these.
    """
    root = submission_root(pred)
    return expression_jobs(root, read_mevis(gt, split, videos))


def read_ref_youtube_vos(
    gt: Path, split: str = 'valid', videos: Sequence[str] | None = None
) -> list[AnnotatedVideo]:
    """The annotated videos of Ref-YouTube-VOS that have expressions.

    Args:
        gt: The published layout: ``<split>/Annotations`` and ``meta_expressions/<split>``, of
            which the expressions have ``obj_id``. Videos of the test split's expression file do
            not belong to valid.
        split: Its name.
        videos: Only these.
    """
    path = gt / 'meta_expressions' / split / 'meta_expressions.json'
    content = read_videos(path)
    test = gt / 'meta_expressions' / 'test' / 'meta_expressions.json'
    if split == 'valid' and test.is_file():
        others = read_videos(test)
        content = {v: entry for v, entry in content.items() if v not in others}
    content = select_videos(content, videos, path)
    truth = gt / split / 'Annotations'
    require(truth, 'the annotated masks; a split without them is scored by its server')
    targets = read_targets(content, 'obj_id', path)
    problems = []
    for video, entry in content.items():
        there = set(frame_names(truth / video))
        problems += [
            Problem('annotated frames that are not there', f'{truth / video / frame}.png')
            for frame in read_frames(video, entry, path)
            if frame not in there
        ]
    raise_problems(problems, 'The annotation', 'Extract the archive again.')
    return [
        AnnotatedVideo(
            video,
            tuple(entry['frames']),
            targets[video],
            entry['expressions'],
            PaletteTruth(truth / video),
        )
        for video, entry in content.items()
        if targets[video]
    ]


def read_mevis(
    gt: Path, split: str = 'valid_u', videos: Sequence[str] | None = None
) -> list[AnnotatedVideo]:
    """The annotated videos of MeViS that have expressions.

    Args:
        gt: ``<split>/meta_expressions.json``, of which the expressions have ``anno_id``, and
            ``<split>/mask_dict.json``.
        split: Its name.
        videos: Only these.
    """
    path, mask_file = (gt / split / f'{name}.json' for name in ('meta_expressions', 'mask_dict'))
    return read_run_lengths(path, mask_file, videos)


def read_run_lengths(
    path: Path, mask_file: Path, videos: Sequence[str] | None = None, frames_dir: Path | None = None
) -> list[AnnotatedVideo]:
    """The annotated videos of an expression file whose masks are in one file of run lengths.

    Args:
        path: Its expressions have ``anno_id``.
        mask_file: The objects by these ids.
        videos: Only these.
        frames_dir: Folder of frames. Where it is given, ids of videos may be folders in folders,
            expressions may be about nothing, and videos that never show any object have the size
            of their frames.
    """
    content = select_videos(read_videos(path, nested=frames_dir is not None), videos, path)
    targets = read_targets(content, 'anno_id', path, may_be_empty=frames_dir is not None)
    require(mask_file, 'the annotated masks; a split without them is scored by its server')
    masks = read_json(mask_file)
    if not isinstance(masks, dict):
        raise ValueError(f'{mask_file} must map the ids of objects to their masks')
    wanted = {v: sorted({i for ids in e.values() for i in ids}) for v, e in targets.items()}
    lost = [f'{i} of {video}' for video, ids in wanted.items() for i in ids if str(i) not in masks]
    raise_problems([Problem('objects without masks', name) for name in lost], str(mask_file))
    out = []
    for video, entry in content.items():
        if not targets[video]:
            continue
        objects = {i: masks[str(i)] for i in wanted[video]}
        frames = tuple(read_frames(video, entry, path))
        size = _first_size(objects, f'{mask_file}: video {video}')
        if size is None:
            size = _frame_size(frames_dir and frames_dir / video / f'{frames[0]}.jpg', mask_file)
        truth = RunLengthTruth(objects, size)
        out.append(AnnotatedVideo(video, frames, targets[video], entry['expressions'], truth))
    return out


def _first_size(objects: dict[Any, list], where: str) -> tuple[int, int] | None:
    """(H, W) of the first mask of these objects, which all must have; None where there is none."""
    for name, frames in objects.items():
        for mask in frames if isinstance(frames, list) else [frames]:
            size = mask.get('size') if isinstance(mask, dict) else None
            if isinstance(size, list) and len(size) == 2 and all(type(s) is int for s in size):
                return tuple(size)
            if mask is not None or not isinstance(frames, list):
                raise ValueError(f'{where}: the masks of object {name} are no run lengths')
    return None


def _frame_size(frame: Path | None, mask_file: Path) -> tuple[int, int]:
    header = None if frame is None else read_header(frame)
    if header is None:
        needed = '' if frame is None else f' {frame} is needed, which tells its size.'
        raise ValueError(f'{mask_file}: of a video no object is ever visible.{needed}')
    return header.size


def expression_jobs(root: Path, videos: Sequence[AnnotatedVideo]) -> list[ExpressionJob]:
    """One job for each video, of masks in ``<root>/<video>/<expression>/<frame>.png``."""
    return [ExpressionJob(v.name, root / v.name, v.frames, v.targets, v.truth) for v in videos]


def select_videos(
    content: dict[str, dict], videos: Sequence[str] | None, path: Path
) -> dict[str, dict]:
    """Those of the videos that are to be scored, each with frames and expressions."""
    unknown = [Problem('videos that it does not have', v) for v in videos or () if v not in content]
    raise_problems(unknown, str(path))
    content = content if videos is None else {v: content[v] for v in videos}
    malformed = [
        Problem('videos without frames or expressions', video)
        for video, entry in content.items()
        if not entry.get('frames') or not isinstance(entry.get('expressions'), dict)
    ]
    raise_problems(malformed, str(path), 'Get the file again.')
    if not content:
        raise ValueError(f'{path} has no video to score.')
    return content


def read_targets(
    content: dict[str, dict], key: str, path: Path, may_be_empty: bool = False
) -> dict[str, dict[str, tuple]]:
    """Ids of the objects that every expression of every video refers to."""
    targets: dict[str, dict[str, tuple]] = {}
    problems = []
    for video, entry in content.items():
        targets[video] = {}
        for exp_id, expression in entry['expressions'].items():
            try:
                targets[video][exp_id] = _ids(expression[key], may_be_empty)
            except (KeyError, TypeError, ValueError):
                problems.append(Problem(f'expressions without a valid {key}', f'{video}/{exp_id}'))
    advice = 'The published validation splits have none: their masks go to the server.'
    raise_problems(problems, str(path), advice)
    if not any(targets.values()):
        raise ValueError(f'{path} has no expression to score.')
    return targets


def _ids(value: Any, may_be_empty: bool) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    ids = tuple(sorted({integer(i, 'an object') for i in values}))
    if not ids and not may_be_empty:
        raise ValueError('an expression must refer to an object')
    return ids
