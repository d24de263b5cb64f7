"""What is to be scored of the benchmarks younger than the paper: MeViS version 2, Long-RVOS,
ReVOS."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from referformer.datasets.annotation_files import get_entry, read_frames, read_videos, require
from referformer.datasets.long_rvos import type_of
from referformer.datasets.revos import kind_of
from referformer.files import read_json

from .expression_files import (
    AnnotatedVideo,
    expression_jobs,
    read_run_lengths,
    read_targets,
    select_videos,
    submission_root,
)
from .truths import FOREGROUND, FolderTruth
from .videos import Job


def mevis_v2_jobs(
    pred: Path, gt: Path, split: str = 'valid_u', videos: Sequence[str] | None = None
) -> list[Job]:
    """The jobs of MeViS version 2, some of whose expressions are about nothing.

    Args:
        pred: ``<video>/<expression>/<frame>.png``, with or without ``Annotations`` above.
        gt: ``<split>/meta_expressions_v2.json``, of which the expressions have ``anno_id``,
            ``<split>/mask_dict.json``; ``<split>/JPEGImages`` for videos that show no object.
        split: Of the annotation.
        videos: Score only these.
    """
    path, masks = (gt / split / f'{name}.json' for name in ('meta_expressions_v2', 'mask_dict'))
    annotated = read_run_lengths(path, masks, videos, gt / split / 'JPEGImages')
    return _jobs(pred, annotated, 'mevis-v2', path)


def long_rvos_jobs(
    pred: Path, gt: Path, split: str = 'valid', videos: Sequence[str] | None = None
) -> list[Job]:
    """The jobs of Long-RVOS; arguments as those of ``mevis_v2_jobs``, but for ``gt``:
    ``<split>/meta_expressions.json``, ``<split>/Annotations/<video>/<object>/<frame>.png``."""
    path, masks = gt / split / 'meta_expressions.json', gt / split / 'Annotations'
    content = select_videos(read_videos(path), videos, path)
    targets = read_targets(content, 'obj_id', path)
    require(masks, 'the annotated masks; a split without them is scored by its server')
    annotated = []
    for video, entry in content.items():
        frames, objects = tuple(read_frames(video, entry, path)), targets[video]
        truth = FolderTruth(
            masks / video, tuple(sorted({i for ids in objects.values() for i in ids}))
        )
        if objects:
            annotated.append(AnnotatedVideo(video, frames, objects, entry['expressions'], truth))
    return _jobs(pred, annotated, 'long-rvos', path, type_of)


def revos_jobs(
    pred: Path, gt: Path, split: str = 'valid', videos: Sequence[str] | None = None
) -> list[Job]:
    """The jobs of ReVOS; arguments as those of ``mevis_v2_jobs``, but for ``gt``:
    ``meta_expressions_<split>_.json``, of which the expressions have ``anno_id`` and ``type_id``,
    ``mask_dict.json``, ``mask_dict_foreground.json``, and ``JPEGImages``."""
    path, mask_file = gt / f'meta_expressions_{split}_.json', gt / 'mask_dict_foreground.json'
    annotated = read_run_lengths(path, gt / 'mask_dict.json', videos, gt / 'JPEGImages')
    require(mask_file, 'the masks of all objects of each video, which R needs')
    foreground = read_json(mask_file)
    for i, v in enumerate(annotated):
        entry = get_entry(foreground, v.name, mask_file, v.name)
        union = get_entry(entry, 'masks_rle', mask_file, f'{v.name}.masks_rle')
        objects = {**v.truth.objects, FOREGROUND[0]: union}
        annotated[i] = v._replace(truth=replace(v.truth, objects=objects))
    return _jobs(pred, annotated, 'revos', path, kind_of)


def _jobs(
    pred: Path,
    videos: Sequence[AnnotatedVideo],
    protocol: str,
    path: Path,
    read_kind: Callable[[dict, str, str], str | None] = lambda *_: None,
) -> list[Job]:
    """One job for each video; ``read_kind`` tells the kind of a sentence of the file ``path``."""
    kinds = {
        v.name: {
            exp_id: read_kind(expression, str(path), f'videos.{v.name}.expressions.{exp_id}')
            for exp_id, expression in v.expressions.items()
        }
        for v in videos
    }
    jobs = expression_jobs(submission_root(pred), videos)
    return [replace(job, protocol=protocol, kinds=kinds[job.name]) for job in jobs]
