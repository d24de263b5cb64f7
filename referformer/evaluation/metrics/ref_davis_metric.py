"""J&F of Ref-DAVIS17: objects merged per annotator, DAVIS-2017 unsupervised, mean of the four."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from PIL import Image
from torch import Tensor

from referformer.datasets.ref_davis import NUM_ANNOTATORS
from referformer.registry import METRICS
from referformer.structures import control_of

from ..measures.davis import score_unsupervised
from ..scoring.mask_files import raise_problems
from ..scoring.report import format_table
from ..scoring.videos import LabelJob, Score, summarise_annotators
from .collect import KeyedMetric

_NAMES = {
    'J&F-Mean': 'J&F',
    'J-Mean': 'J',
    'F-Mean': 'F',
    'J-Recall': 'J_recall',
    'J-Decay': 'J_decay',
    'F-Recall': 'F_recall',
    'F-Decay': 'F_decay',
}


@dataclass(frozen=True)
class Found:
    """What the model found for one expression, which waits for the other objects."""

    video_id: str
    exp_id: int
    frames: tuple[str, ...]
    size: tuple[int, int]  # (H0, W0)
    logits: Tensor  # (T, h, w) at stride 4

    @property
    def group(self) -> tuple[str, int]:
        """Video and annotator: what is merged into one label map."""
        return self.video_id, self.exp_id % NUM_ANNOTATORS


@dataclass(frozen=True)
class GroupScore:
    """Scores of what one annotator named in one video."""

    video_id: str
    annotator: int
    scores: tuple[Score, ...]  # one for each annotated object
    folder: Path  # holds anno_<annotator>/<video>

    @property
    def group(self) -> tuple[str, int]:
        """Video and annotator."""
        return self.video_id, self.annotator

    @property
    def key(self) -> tuple[str, str]:
        """What tells results apart."""
        return self.video_id, str(self.annotator)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f'Video {self.video_id} of annotator {self.annotator}'

    def difference(self, other: 'GroupScore') -> str:
        """How another score of the same group contradicts this one, empty where it agrees."""
        ours, theirs = (float(np.mean([s.j.mean() for s in x.scores])) for x in (self, other))
        return '' if abs(ours - theirs) <= 0.01 else f'J {ours:.4f} and {theirs:.4f}'


@METRICS.register_module()
class RefDAVISMetric(KeyedMetric):
    """J&F of Ref-DAVIS17 in percent: one DAVIS-2017 unsupervised score for each annotator, and the
    mean of the four.

    Which object a pixel belongs to is known when all objects of the video are: the surest one wins
    (``merge_objects``). Until then a sentence waits as its mask logits at stride 4 (6 MB for 100
    frames of 360x640), which the model has to give (``test_cfg.keep_logits``); full-size label maps
    exist for one annotator and video at a time. Merged by the same function as ever, in the order
    of the expressions, the numbers are exactly those of all objects at once, whatever order they
    come in. A process that sees whole videos (``VideoSampler``) keeps the sentences of one video;
    with another sampler what is left over is put together in the end, which takes 1 GB.

    Keys: ``J&F``, ``J``, ``F``, ``J_recall``, ``J_decay``, ``F_recall``, ``F_decay``, and
    ``J&F_anno_0`` ... ``J&F_anno_3``. A table by video is logged.

    Args:
        out_dir: Write the label maps there, palette PNGs ``anno_<i>/<video>/<frame>.png``, which
            ``tools/score.py --protocol ref-davis`` scores. Nothing is written where something is
            missing. All processes must see the same file system.
        overwrite: Replace earlier label maps in ``out_dir``.
        kwargs: ``collect_device``, ``prefix``, ``collect_dir`` of ``BaseMetric``.

    Raises:
        FileExistsError: If ``out_dir`` has label maps and ``overwrite`` is not set.
    """

    default_prefix = ''

    def __init__(self, out_dir: str | None = None, overwrite: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_dir = None if out_dir is None else Path(out_dir)
        if self.out_dir is not None:
            there = [str(path) for path in self._targets() if path.exists()]
            if there and not overwrite:
                raise FileExistsError(
                    f'{", ".join(there)} already there; name another out_dir, or set '
                    'overwrite=True.'
                )
            # A folder that cannot be made fails now, not after the test.
            self.out_dir.mkdir(parents=True, exist_ok=True)
        self._waiting: dict[tuple[str, int], dict[int, Found]] = {}
        self._folder: tempfile.TemporaryDirectory | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep each sentence until its annotator's objects are complete, then score them.

        Args:
            data_batch: Not used.
            data_samples: ``RVOSDataSample.to_dict()`` of every sample, with
                ``pred_instances.logits`` (1, T, h, w), ``frame_names`` and ``ori_shape``.
        """
        for sample in data_samples:
            if not control_of(sample):  # the protocol has none
                self._add(_found(sample))

    def evaluate(self, size: int) -> dict:
        """Collect the scores of all processes; whatever happens, temporary files are gone."""
        done = {result.group for result in self.results}
        left = [found for group in self._waiting.values() for found in group.values()]
        self.results += [replace(x, logits=x.logits.cpu()) for x in left if x.group not in done]
        self._waiting.clear()
        try:
            return super().evaluate(size)
        finally:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def compute_metrics(self, results: list[GroupScore | Found]) -> dict[str, float]:
        """Score what was left over, average, log the table and move the label maps."""
        self.results = [result for result in results if isinstance(result, GroupScore)]
        done = {result.group for result in self.results}
        for found in results:
            if isinstance(found, Found) and found.group not in done:
                self._add(found)
        groups = sorted(self.unique(self.results), key=lambda result: result.group[::-1])
        scores = [score for result in groups for score in result.scores]
        rows = summarise_annotators(scores)
        MMLogger.get_current_instance().info(
            'Ref-DAVIS17, unsupervised DAVIS-2017 measures\n' + format_table(scores, rows)
        )
        if self.out_dir is not None:
            self._publish(groups)
        mean = {_NAMES[name]: 100 * value for name, value in rows.pop('mean').items()}
        return mean | {f'J&F_{name}': 100 * row['J&F-Mean'] for name, row in rows.items()}

    def _add(self, found: Found) -> None:
        group = self._waiting.setdefault(found.group, {})
        group.setdefault(found.exp_id, found)
        if set(group) == self._groups()[found.group]:
            self.results.append(self._score(*found.group, self._waiting.pop(found.group)))

    def _score(self, video_id: str, annotator: int, group: Mapping[int, Found]) -> GroupScore:
        """Merge, write and score; what is scored is what is written."""
        # Imported here: to score files (tools/score.py) nobody should wait for all models.
        from referformer.models.postprocess import merge_objects

        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix='.label_maps.', dir=self.out_dir)
        expressions = [group[exp_id] for exp_id in sorted(group)]
        frames, size = expressions[0].frames, expressions[0].size
        logits = torch.stack([found.logits for found in expressions])
        name = f'anno_{annotator}/{video_id}'
        folder = Path(self._folder.name, name)
        truth = Path(self._meta('mask_dir'), video_id)
        folder.mkdir(parents=True, exist_ok=True)
        for frame, labels in zip(frames, merge_objects(logits, size).cpu().numpy()):
            image = Image.fromarray(labels)
            image.putpalette(_palette())
            image.save(folder / f'{frame}.png')
        job = LabelJob(name, truth, folder, frames, score_unsupervised)
        raise_problems(job.check(), f'The annotation {truth}')
        return GroupScore(video_id, annotator, tuple(job.score()), Path(self._folder.name))

    def _groups(self) -> dict[tuple[str, int], set[int]]:
        """Numbers of the expressions of each (video, annotator)."""
        groups: dict[tuple[str, int], set[int]] = {}
        for video_id, exp_id, *control in self._meta('expected'):
            if control:
                continue
            group = str(video_id), int(exp_id) % NUM_ANNOTATORS
            groups.setdefault(group, set()).add(int(exp_id))
        for video_id, _ in groups:
            sizes = [len(groups.get((video_id, a), ())) for a in range(NUM_ANNOTATORS)]
            if min(sizes) != max(sizes):
                raise ValueError(
                    f'the dataset leaves {sizes} expressions of the four annotators of video '
                    f'{video_id}; test on whole videos (video_ids=[...] instead of indices).'
                )
        return groups

    def _meta(self, key: str) -> Any:
        if key not in (self.dataset_meta or {}):
            raise ValueError(f'RefDAVISMetric needs {key!r} in the metainfo, as RefDAVIS has it.')
        return self.dataset_meta[key]

    def _check_complete(self, kept: Mapping[tuple[str, str], Any]) -> None:
        missing = [f'{v}/{a}' for v, a in self._groups() if (v, str(a)) not in kept]
        if missing:
            raise ValueError(
                f'{len(missing)} label maps (video/annotator) lack sentences: '
                f'{", ".join(missing[:5])}{", ..." if len(missing) > 5 else ""}. '
                'Check that the data loader visits all of the dataset.'
            )

    def _targets(self) -> list[Path]:
        return [self.out_dir / f'anno_{annotator}' for annotator in range(NUM_ANNOTATORS)]

    def _publish(self, groups: Sequence[GroupScore]) -> None:
        """Put the label maps of all processes together under their final names."""
        with tempfile.TemporaryDirectory(prefix='.complete.', dir=self.out_dir) as name:
            for result in groups:
                path = Path(f'anno_{result.annotator}', result.video_id)
                (Path(name) / path).parent.mkdir(exist_ok=True)
                shutil.move(result.folder / path, Path(name) / path)
            for target in self._targets():
                if target.exists():
                    target.rename(Path(name, f'earlier_{target.name}'))
                Path(name, target.name).rename(target)


def _found(sample: dict) -> Found:
    name = f'expression {sample["exp_id"]} of video {sample["video_id"]}'
    logits = sample.get('pred_instances', {}).get('logits')
    if logits is None or len(logits) != 1:
        raise ValueError(
            f'{name} needs the mask logits of one query, pred_instances.logits (1, T, h, w), got '
            f'{None if logits is None else tuple(logits.shape)}. Set in the config: '
            "model.test_cfg.keep_logits=True and keep='best'."
        )
    frames, size = tuple(sample['frame_names']), tuple(sample['ori_shape'][:2])
    return Found(str(sample['video_id']), int(sample['exp_id']), frames, size, logits[0])


@lru_cache(maxsize=1)
def _palette() -> bytes:
    """The 256 colours of DAVIS: bits 0, 3, 6 of the index are the high bits of red, and so on."""
    indices = np.arange(256)[:, None] >> np.arange(3)  # (256, 3)
    colours = sum(((indices >> 3 * bit) & 1) << (7 - bit) for bit in range(3))
    return colours.astype(np.uint8).tobytes()
