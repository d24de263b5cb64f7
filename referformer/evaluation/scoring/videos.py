"""Scores of masks in PNG files, without a model: what ``tools/score.py`` is made of.

The work is a list of jobs, one for each video, which are first checked by the heads of their files
and then scored, both on several processes. A job reads its files when it runs and hands back
numbers, so memory holds one frame per process.
"""

import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from tqdm import tqdm

from referformer.errors import raised_in

from ..measures.davis import LabelMaps, SequenceScore, score_semi_supervised, score_unsupervised
from ..measures.protocols import (
    MEASURES,
    Areas,
    averages,
    count_areas,
    measure,
    revos_overall,
)
from ..measures.region_boundary import (
    boundary_radius,
    boundary_score,
    find_boundary,
    region_similarity,
    statistics,
)
from .mask_files import (
    BINARY_MODES,
    LABEL_MODES,
    BrokenMask,
    Problem,
    check_folder_of_masks,
    check_mask,
    folder_names,
    frame_names,
    raise_problems,
    read_binary,
    read_mask,
)
from .truths import FOREGROUND, PaletteTruth, Truth

_ANNOTATORS = 4
_ABSENT = ('missing folders', 'folders without PNG files', 'missing frames')
# Protocols in which a sentence of a video that is not predicted scores 0, whatever the truth.
_MISSING_IS_ZERO = ('long-rvos', 'revos')


class Score(NamedTuple):
    """Scores of one object (DAVIS) or one expression over the frames of a video, in [0, 1]."""

    sequence: str
    name: str  # number of the object, or id of the expression
    j: np.ndarray  # (T,)
    f: np.ndarray  # (T,)
    frames: tuple[str, ...]  # (T,) names
    gt_id: int = 0
    pred_id: int = 0
    kind: str | None = None  # of the sentence
    measures: Mapping[str, float] | None = None  # of the protocol

    @property
    def row(self) -> dict[str, float]:
        """The statistics, and the measures of the protocol."""
        return self.statistics | (self.measures or {})

    @property
    def statistics(self) -> dict[str, float]:
        """Mean, recall and decay of J and of F."""
        return {
            f'{measure}-{statistic}': value
            for measure, values in (('J', self.j), ('F', self.f))
            for statistic, value in zip(('Mean', 'Recall', 'Decay'), statistics(values))
        }


class Job(Protocol):
    """The work on one video."""

    name: str
    frames: tuple[str, ...]

    def check(self) -> list[Problem]:
        """What is wrong with its files, as far as their heads tell."""

    def score(self) -> list[Score]:
        """Read and score; ValueError where the content of a file is wrong."""

    def masks(self, score: Score, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and true mask that ``score`` is about on its frame ``t``, bool (H, W)."""


@dataclass(frozen=True)
class LabelJob:
    """A video of a DAVIS protocol: palette PNGs of label maps on both sides."""

    name: str
    gt_dir: Path
    pred_dir: Path
    frames: tuple[str, ...]
    protocol: Callable[[LabelMaps, LabelMaps], SequenceScore]

    def check(self) -> list[Problem]:
        """Of the annotation and the prediction."""
        problems, size = [], None
        for frame in self.frames:
            found, size = check_mask(self.gt_dir / f'{frame}.png', size, LABEL_MODES)
            problems += found
        return problems + check_folder_of_masks(self.pred_dir, self.frames, size, LABEL_MODES)

    def score(self) -> list[Score]:
        """One score for each annotated object."""
        # Frame by frame: fresh memory for a whole video takes longer than reading it.
        size = read_mask(self.gt_dir / f'{self.frames[0]}.png').shape
        gt = (read_mask(self.gt_dir / f'{frame}.png') for frame in self.frames)
        pred = (self._predicted(frame, size) for frame in self.frames)
        try:
            result = self.protocol(gt, pred)
        except BrokenMask:
            raise
        except ValueError as error:
            raise ValueError(f'{self.pred_dir} ({str(error).rstrip(".")})') from error
        # The semi-supervised protocol leaves out frames on both sides.
        skip = (len(self.frames) - result.j.shape[1]) // 2
        frames = self.frames[skip : len(self.frames) - skip]
        return [
            Score(self.name, str(i), j, f, frames, int(gt_id), int(pred_id))
            for i, (gt_id, pred_id, j, f) in enumerate(zip(*result), start=1)
        ]

    def masks(self, score: Score, t: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Job``."""
        gt = read_mask(self.gt_dir / f'{score.frames[t]}.png')
        return self._predicted(score.frames[t], gt.shape) == score.pred_id, gt == score.gt_id

    def _predicted(self, frame: str, size: tuple[int, int]) -> np.ndarray:
        path = self.pred_dir / f'{frame}.png'
        return read_mask(path) if path.is_file() else np.zeros(size, np.uint8)


@dataclass(frozen=True)
class ExpressionJob:
    """A video with expressions: one predicted mask per frame and expression."""

    name: str
    pred_dir: Path
    frames: tuple[str, ...]
    expressions: dict[str, tuple]  # id -> the annotated objects it refers to
    truth: Truth
    kinds: Mapping[str, str | None] = field(default_factory=dict)  # id of an expression -> kind
    protocol: str | None = None  # one that measures more than J and F

    def check(self) -> list[Problem]:
        """Of the annotation and of the folder of every expression."""
        problems, size = self.truth.check(self.frames)
        if not self.pred_dir.is_dir():
            return [*problems, Problem('missing folders', str(self.pred_dir))]
        for exp_id in self.expressions:
            folder = self.pred_dir / exp_id
            problems += check_folder_of_masks(folder, self.frames, size, BINARY_MODES)
        return problems

    def score(self) -> list[Score]:
        """One score for each expression; a frame is read, scored and forgotten."""
        j, f = np.zeros((2, len(self.expressions), len(self.frames)))
        areas = np.zeros((len(self.expressions), len(Areas._fields), len(self.frames)), int)
        if self.protocol in _MISSING_IS_ZERO and not self.pred_dir.is_dir():
            return self._scores(j, f, [dict.fromkeys(MEASURES[self.protocol], 0.0)] * len(j))
        keys = sorted(set(self.expressions.values()))
        others = [FOREGROUND] if self.protocol == 'revos' else []
        visible = set()
        for t, frame in enumerate(self.frames):
            truth = self.truth.masks(t, frame, keys + others)
            visible.update(key for key, mask in truth.items() if mask.any())
            radius = boundary_radius(*truth[keys[0]].shape)
            boundaries = {key: find_boundary(mask, radius) for key, mask in truth.items()}
            for i, (exp_id, key) in enumerate(self.expressions.items()):
                pred = self._predicted(exp_id, frame, truth[key].shape)
                j[i, t] = region_similarity(pred, truth[key])
                f[i, t] = boundary_score(find_boundary(pred, radius), boundaries[key])
                if self.protocol:
                    areas[i, :, t] = count_areas(pred, truth[key], truth.get(FOREGROUND))
        lost = [key for key in keys if key not in visible]
        if lost and isinstance(self.truth, PaletteTruth):
            objects = ', '.join(str(i) for key in lost for i in key)
            raise ValueError(f'{self.truth.folder}: no mask has the object {objects}')
        protocol = self.protocol
        found = [measure(protocol, j[i], Areas(*areas[i])) for i in range(len(j)) if protocol]
        return self._scores(j, f, found or [None] * len(j))

    def _scores(self, j: np.ndarray, f: np.ndarray, measures: Sequence[dict | None]) -> list[Score]:
        rows = zip(self.expressions, j, f, measures)
        return [
            Score(self.name, exp_id, j_, f_, self.frames, 0, 0, self.kinds.get(exp_id), found)
            for exp_id, j_, f_, found in rows
        ]

    def masks(self, score: Score, t: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Job``."""
        key = self.expressions[score.name]
        truth = self.truth.masks(t, self.frames[t], [key])[key]
        return self._predicted(score.name, self.frames[t], truth.shape), truth

    def _predicted(self, exp_id: str, frame: str, size: tuple[int, int]) -> np.ndarray:
        path = self.pred_dir / exp_id / f'{frame}.png'
        return read_binary(path) if path.is_file() else np.zeros(size, bool)


def davis_jobs(
    pred: Path,
    gt: Path,
    semi_supervised: bool = False,
    sequences: Sequence[str] | None = None,
) -> list[Job]:
    """The jobs of a DAVIS protocol: ``<sequence>/<frame>.png`` in both folders.

    Args:
        pred: Predicted label maps.
        gt: Annotated label maps.
        semi_supervised: The semi-supervised protocol instead of the unsupervised one.
        sequences: Score only these; all that are annotated by default.
    """
    _require_content(pred, 'predicted masks')
    _require_content(gt, 'annotated masks')
    names = folder_names(gt) if sequences is None else list(sequences)
    frames = {name: tuple(frame_names(gt / name)) for name in names}
    empty = [Problem('folders without PNG files', str(gt / v)) for v, f in frames.items() if not f]
    raise_problems(empty, 'The annotation', '--gt needs <sequence>/<frame>.png.')
    if not frames:
        raise ValueError(f'{gt} has no folders: it needs <sequence>/<frame>.png.')
    protocol = score_semi_supervised if semi_supervised else score_unsupervised
    return [LabelJob(name, gt / name, pred / name, frames[name], protocol) for name in names]


def ref_davis_jobs(pred: Path, gt: Path, sequences: Sequence[str] | None = None) -> list[Job]:
    """The jobs of Ref-DAVIS17: ``anno_<0..3>/<sequence>/<frame>.png`` against one annotation.

    The name of a job is ``anno_<i>/<sequence>``.
    """
    _require_content(pred, 'predicted masks')
    missing = [
        Problem('missing folders', str(pred / f'anno_{i}'))
        for i in range(_ANNOTATORS)
        if not (pred / f'anno_{i}').is_dir()
    ]
    raise_problems(missing, 'The prediction', 'Ref-DAVIS17 needs one folder for each annotator.')
    jobs = [davis_jobs(pred / f'anno_{i}', gt, sequences=sequences) for i in range(_ANNOTATORS)]
    return [
        LabelJob(f'anno_{i}/{job.name}', job.gt_dir, job.pred_dir, job.frames, job.protocol)
        for i, part in enumerate(jobs)
        for job in part
    ]


def run_jobs(
    jobs: Sequence[Job], nproc: int = 1, allow_missing: bool = False, progress: bool = True
) -> tuple[list[Score], dict[str, int]]:
    """Check all jobs, then score them.

    Args:
        jobs: One for each video.
        nproc: Processes.
        allow_missing: Score missing folders and frames of the prediction as empty masks.
        progress: Show progress bars.

    Returns:
        scores: In the order of the jobs, whatever ``nproc`` is.
        missing: How many of what was scored as empty, by kind.

    Raises:
        ValueError: One for everything that is wrong, after all files were looked at.
    """
    if nproc < 1:
        raise ValueError(f'nproc must be at least 1, got {nproc}.')
    # Long videos first, so that the processes finish together.
    order = sorted(range(len(jobs)), key=lambda i: -len(jobs[i].frames))
    ordered = [jobs[i] for i in order]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with _mapper(min(nproc, len(jobs))) as run:
            looks = dict(zip(order, _track(run(_check, ordered), len(jobs), 'checking', progress)))
            problems = [problem for i in range(len(jobs)) for problem in looks[i]]
            absent = [p for p in problems if p.kind in _ABSENT]
            advice = '--allow-missing scores missing ones as empty.' if absent else ''
            if allow_missing:
                problems = [p for p in problems if p.kind not in _ABSENT]
            raise_problems(problems, 'These masks', advice)
            done = dict(zip(order, _track(run(_score, ordered), len(jobs), 'scoring', progress)))
    except BrokenProcessPool as error:
        raise ValueError(
            'A process was ended from outside, perhaps for its memory; use a smaller --nproc.'
        ) from error
    finally:
        cv2.setNumThreads(threads)
    results = [done[i] for i in range(len(jobs))]
    raise_problems((r for r in results if isinstance(r, Problem)), 'These masks')
    kinds = [problem.kind for problem in absent]
    return [s for scores in results for s in scores], {k: kinds.count(k) for k in sorted({*kinds})}


def summarise(scores: Sequence[Score], protocol: str | None = None) -> dict[str, float]:
    """Means over all objects or expressions, in [0, 1], under the names of the DAVIS scorer; with
    the measures of the protocol, NaN where they apply to none."""
    rows = [score.statistics for score in scores]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    jf = (means['J-Mean'] + means['F-Mean']) / 2
    extra = averages(protocol, jf, [score.measures for score in scores])
    return {'J&F-Mean': jf} | means | dict.fromkeys(MEASURES.get(protocol, ()), math.nan) | extra


def summarise_kinds(scores: Sequence[Score], protocol: str) -> dict[str, dict[str, float]]:
    """Long-RVOS, ReVOS: the numbers of each kind of sentence, and under ``mean`` those of all; for
    ReVOS the means of two kinds."""
    kinds = sorted({score.kind for score in scores} - {None})
    rows = {k: summarise([s for s in scores if s.kind == k], protocol) for k in kinds}
    overall = revos_overall(rows) if protocol == 'revos' else None
    return {'mean': overall or summarise(scores, protocol)} | rows


def by_sequence(scores: Sequence[Score]) -> dict[str, list[Score]]:
    """Scores grouped by video, in their order."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.sequence, []).append(score)
    return groups


def summarise_annotators(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Ref-DAVIS17: the numbers of each annotator, and under ``mean`` the mean of the four."""
    parts: dict[str, list[Score]] = {}
    for score in scores:
        parts.setdefault(score.sequence.split('/')[0], []).append(score)
    out = {name: summarise(part) for name, part in parts.items()}
    mean = {
        key: float(np.mean([row[key] for row in out.values()])) for key in next(iter(out.values()))
    }
    return out | {'mean': mean}


def _require_content(folder: Path, what: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder; it should hold the {what}.')
    if not any(folder.iterdir()):
        raise ValueError(f'{folder} is empty; it should hold the {what}.')


def _check(job: Job) -> list[Problem]:
    return job.check()


def _score(job: Job) -> list[Score] | Problem:
    try:
        return job.score()
    except ValueError as error:
        if not raised_in(error):
            raise
        return Problem('that cannot be scored', str(error))


@contextmanager
def _mapper(nproc: int) -> Iterator[Callable]:
    """``map`` on so many processes, results in order."""
    if nproc <= 1:
        yield map
        return
    # Children do nothing but NumPy and single-threaded OpenCV, for which a fork is safe, and fast.
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(nproc, context, cv2.setNumThreads, (1,))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _track(results: Iterator, total: int, what: str, progress: bool) -> list:
    return list(tqdm(results, what, total, unit='video', disable=not progress))
