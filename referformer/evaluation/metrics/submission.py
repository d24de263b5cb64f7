"""Predicted masks as the Ref-YouTube-VOS server takes them: a tree of PNGs, and its zip.

``Annotations/<video>/<expression>/<frame>.png``, grey, 0 and 255, of the size of the video.
"""

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from PIL import Image

from referformer.datasets.annotation_files import (
    check_names,
    get_entry,
    read_frames,
    read_videos,
)
from referformer.files import atomic_open, naming
from referformer.registry import METRICS
from referformer.structures import control_of

from ..scoring.mask_files import (
    Problem,
    check_folder_of_masks,
    folder_names,
    frame_names,
    raise_problems,
    read_mask,
)


@dataclass(frozen=True)
class Entry:
    """The masks of one expression that have to be there."""

    video_id: str
    exp_id: str
    frames: tuple[str, ...]
    size: tuple[int, int] | None = None  # (H, W); None: any, but one for all frames

    @property
    def key(self) -> tuple[str, str]:
        """What tells expressions apart: (video_id, exp_id)."""
        return self.video_id, self.exp_id


def read_entries(ann_file: str | Path) -> list[Entry]:
    """What a submission must hold according to an expression file of the published layout.

    Args:
        ann_file: ``meta_expressions.json``.

    Returns:
        One entry for each expression, without sizes.
    """
    return [
        Entry(video_id, exp_id, tuple(read_frames(video_id, video, ann_file)))
        for video_id, video in read_videos(ann_file).items()
        for exp_id in get_entry(video, 'expressions', ann_file, f'videos.{video_id}.expressions')
    ]


def write_masks(folder: Path, frames: Sequence[str], masks: np.ndarray) -> None:
    """Write the masks of one expression as grey PNGs, 0 and 255.

    Args:
        folder: ``.../Annotations/<video>/<expression>``, made where it is missing.
        frames: T names.
        masks: Bool, (T, H, W).

    Raises:
        ValueError: If there is not one mask for each name.
    """
    if masks.ndim != 3 or len(masks) != len(frames):
        raise ValueError(f'{folder}: masks of shape {masks.shape} for {len(frames)} frames.')
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(frames, masks):
        path = folder / f'{name}.png'
        with naming(path):
            Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)


def validate_submission(root: str | Path, entries: Sequence[Entry]) -> int:
    """Check a tree: every video, expression and frame, no other, grey, 0/255 and of one size.

    Args:
        root: The folder ``Annotations``.
        entries: What must be there.

    Returns:
        Number of masks.

    Raises:
        FileNotFoundError: If ``root`` is no folder.
        ValueError: One for all that is wrong.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f'{root} is not a folder; it should hold <video>/<expression>.')
    problems = _find_others(root, entries)
    count = 0
    sizes: dict[str, tuple[int, int]] = {}
    for entry in entries:
        folder = root / entry.video_id / entry.exp_id
        size = entry.size or sizes.get(entry.video_id)
        found = check_folder_of_masks(folder, entry.frames, size, ('L',))
        problems += found
        if found:
            continue
        for frame in entry.frames:
            path = folder / f'{frame}.png'
            try:
                values = read_mask(path)
            except ValueError:
                problems.append(Problem('files that cannot be decoded', str(path)))
                continue
            sizes.setdefault(entry.video_id, values.shape)
            if not np.isin(values, (0, 255)).all():
                problems.append(Problem('masks with other values than 0 and 255', str(path)))
        count += len(entry.frames)
    raise_problems(problems, f'The submission {root}')
    return count


def write_zip(root: str | Path, path: str | Path) -> None:
    """Pack the folder ``Annotations`` under this name; equal masks give equal archives.

    Args:
        root: The folder ``Annotations``.
        path: The archive, replaced where it exists; written whole or not at all.
    """
    root = Path(root)
    # PNGs do not shrink any further.
    with atomic_open(path) as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
        for mask in sorted(root.rglob('*.png')):
            info = zipfile.ZipInfo(str(Path('Annotations') / mask.relative_to(root)))
            info.external_attr = 0o644 << 16
            archive.writestr(info, mask.read_bytes())


@METRICS.register_module()
class SubmissionMetric(BaseMetric):
    """Writes the predictions of ``tools/test.py`` for the Ref-YouTube-VOS server.

    Masks go to temporary folders beside ``out_dir`` while the test runs. In the end they are
    checked and moved to ``<out_dir>/Annotations``, and packed into ``<out_dir>/submission.zip``.
    Where something is missing or wrong nothing is written. Expressions that were predicted more
    than once (padding of the distributed sampler) count once; all processes must see the same
    file system.

    Complete is what has every expression of ``ann_file``, else those of the dataset's metainfo
    ``expected``. Controls (``shuffled_kinds``, ``absent_kinds`` of a dataset) are left out.

    Keys: ``submission/expressions`` and ``submission/masks``, how many were written.

    Args:
        out_dir: Folder to write.
        ann_file: Expression file of which every expression and frame must be there. In a dataset
            that excludes the videos of the test split leave it out.
        overwrite: Replace an earlier submission in ``out_dir``.
        kwargs: ``collect_device``, ``prefix``, ``collect_dir`` of ``BaseMetric``.

    Raises:
        FileExistsError: If a submission is there and ``overwrite`` is not set.
    """

    default_prefix = 'submission'

    def __init__(
        self,
        out_dir: str,
        ann_file: str | None = None,
        overwrite: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.out_dir = Path(out_dir)
        self.entries = None if ann_file is None else read_entries(ann_file)
        self.root = self.out_dir / 'Annotations'
        self.zip_file = self.out_dir / 'submission.zip'
        there = [str(path) for path in (self.root, self.zip_file) if path.exists()]
        if there and not overwrite:
            raise FileExistsError(
                f'{" and ".join(there)} already there; name another out_dir, or set overwrite=True.'
            )
        # A folder that cannot be made fails now, not after the test.
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._folder: tempfile.TemporaryDirectory | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the masks of each sample.

        Args:
            data_batch: Not used.
            data_samples: ``RVOSDataSample.to_dict()`` of every sample, with ``frame_names``,
                ``ori_shape`` and ``pred_instances.masks`` (1, T', H0, W0).
        """
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix='.submission.', dir=self.out_dir)
        for sample in data_samples:
            if control_of(sample):
                continue
            masks = np.asarray(sample['pred_instances']['masks'].cpu(), dtype=bool)
            name = f'expression {sample["exp_id"]} of video {sample["video_id"]}'
            size = tuple(sample['ori_shape'])
            if len(masks) != 1 or masks.shape[2:] != size:
                raise ValueError(
                    f'{name}: one mask per frame of the size {size} is needed, '
                    f'pred_instances.masks (1, T, H, W), got {masks.shape}.'
                )
            ids = str(sample['video_id']), str(sample['exp_id'])
            frames = tuple(sample['frame_names'])
            names = (*ids[0].split('/'), ids[1], *frames)  # ReVOS has folders in folders
            check_names(names, f'{name}: what becomes a file of the submission')
            write_masks(Path(self._folder.name, *ids), frames, masks[0])
            self.results.append((self._folder.name, Entry(*ids, frames, size)))

    def evaluate(self, size: int) -> dict:
        """Collect what all processes wrote; ``size`` is not used, repeats are found by their key.

        Whatever happens, the temporary folders are gone afterwards.
        """
        try:
            return super().evaluate(sys.maxsize)
        finally:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def compute_metrics(self, results: list[tuple[str, Entry]]) -> dict[str, float]:
        """Put the masks of all processes together, check, move and pack them."""
        written: dict[tuple[str, str], tuple[str, Entry]] = {}
        for folder, entry in results:
            written.setdefault(entry.key, (folder, entry))
        entries = self._expected({key: entry for key, (_, entry) in written.items()})
        with tempfile.TemporaryDirectory(prefix='.complete.', dir=self.out_dir) as name:
            root = Path(name, 'Annotations')
            for ids, (folder, _) in written.items():
                target = root.joinpath(*ids)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(Path(folder, *ids), target)
            count = validate_submission(root, entries)
            write_zip(root, Path(name, 'submission.zip'))
            if self.root.exists():
                self.root.rename(Path(name, 'earlier'))
            root.rename(self.root)
            Path(name, 'submission.zip').replace(self.zip_file)
        return {'expressions': len(entries), 'masks': count}

    def _expected(self, written: Mapping[tuple[str, str], Entry]) -> list[Entry]:
        """What must be there, with the sizes of the videos where they are known."""
        if self.entries is not None:
            keys = {e.key: e.frames for e in self.entries}
        else:
            expected = (self.dataset_meta or {}).get('expected', list(written))
            keys = {(str(v), str(e)): () for v, e, *control in expected if not control}
        missing = [Problem('missing expressions', '/'.join(k)) for k in keys if k not in written]
        raise_problems(missing, 'The predictions', 'Test on the whole dataset.')
        if not keys:
            raise ValueError('SubmissionMetric has nothing to write: the dataset gave no samples.')
        return [replace(written[k], frames=f or written[k].frames) for k, f in keys.items()]


def _find_others(root: Path, entries: Sequence[Entry]) -> list[Problem]:
    """Videos, expressions and frames that do not belong to the benchmark."""
    expected: dict[str, dict[str, set[str]]] = {}
    for entry in entries:
        expected.setdefault(entry.video_id, {})[entry.exp_id] = set(entry.frames)
    videos = {video_id.split('/')[0] for video_id in expected}
    problems = _others(folder_names(root), videos, 'videos too many', root.joinpath)
    for video_id, expressions in expected.items():
        names = folder_names(root / video_id)
        problems += _others(names, expressions, 'expressions too many', (root / video_id).joinpath)
        for exp_id, frames in expressions.items():
            folder = root / video_id / exp_id
            problems += _others(frame_names(folder), frames, 'frames too many', folder.joinpath)
    return problems


def _others(
    names: Sequence[str], known: Any, kind: str, where: Callable[[str], Path]
) -> list[Problem]:
    return [Problem(kind, str(where(name))) for name in names if name not in known]
