"""MeViS: expressions about motion, each of which may name several objects, or none."""

from pathlib import Path
from typing import Any

from referformer.registry import DATASETS

from .annotation_files import integer
from .base import RVOSDataset, require
from .transforms.rle import find_masks


@DATASETS.register_module()
class MeViS(RVOSDataset):
    """MeViS (Ding et al., ICCV 2023; version 2: TPAMI 2025), in the published layout::

        <data_root>/<split>/JPEGImages/<video>/<frame>.jpg
        <data_root>/<split>/meta_expressions.json
            {videos: {<video>: {frames: [...],
                                expressions: {<id>: {exp, obj_id: [...], anno_id: [...]}}}}}
        <data_root>/<split>/mask_dict.json
            {<anno_id>: [one for each frame: {size: [h, w], counts} or null where it is absent]}

    Version 2 has the expressions in ``meta_expressions_v2.json`` (of valid also
    ``meta_expressions_v2_release.json``), some of which name no object: their lists are empty.

    The split 'valid' is scored by a server and has neither objects nor masks. The target is the
    union of the masks of all objects that an expression names (N = 1), see ``LoadRLEMasks``.

    Items are those of :class:`RVOSDataset`, with ``obj_id``: the ``anno_id`` of all objects,
    sorted, () where there is none; ``rle_file``: the mask file, and ``rle_spans``: where the masks
    of each object stand in it, (first, last + 1) byte; both None without ground truth. ``mask_dir``
    and ``control_obj_id`` are None. The mask file, hundreds of MB, is searched once for its keys
    and never held: each process keeps two numbers for an object.

    Args:
        data_root: Folder that holds the splits.
        split: 'train', 'valid_u' or 'valid'.
        version: 1 or 2.
        kwargs: Further arguments of :class:`RVOSDataset`.

    Raises:
        ValueError: Also where an expression names an object that has no masks, or the mask file
            ends early.
    """

    splits = ('train', 'valid_u', 'valid')

    def __init__(
        self, data_root: str, split: str = 'train', version: int = 1, **kwargs: Any
    ) -> None:
        if split not in self.splits:
            *others, last = map(repr, self.splits)
            raise ValueError(f'split must be {", ".join(others)} or {last}, not {split!r}')
        if version not in (1, 2):
            raise ValueError(f'version must be 1 or 2, not {version!r}')
        self.version = version
        self.objects: dict[str, set[int]] = {}  # of each video, what its expressions name
        self.spans: dict[int, tuple[int, int]] = {}
        name = {1: 'meta_expressions.json', 2: 'meta_expressions_v2.json'}[version]
        released = 'meta_expressions_v2_release.json'
        if version == 2 and Path(data_root, split, released).is_file():
            name = released
        defaults = {
            'ann_file': f'{{split}}/{name}',
            'data_prefix': {'mask': '{split}/mask_dict.json'},
            'meta_file': None,
        }
        super().__init__(data_root, split=split, **{**defaults, **kwargs})

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        info = super().get_data_info(idx)
        known = info['obj_id'] is not None
        info.update(
            mask_dir=None,
            control_obj_id=None,
            rle_file=self.data_prefix['mask'] if known else None,
            rle_spans=[self.spans[anno_id] for anno_id in info['obj_id']] if known else None,
        )
        return info

    def _parse_frames(self, video_id: str, video: dict) -> list[str]:
        return sorted(super()._parse_frames(video_id, video))  # the order of the masks

    def _parse_expression(self, video_id: str, exp_id: str, expression: dict) -> dict:
        objects = {'obj_id': expression.get('anno_id')}
        parsed = super()._parse_expression(video_id, exp_id, {**expression, **objects})
        self.objects.setdefault(video_id, set()).update(parsed['obj_id'] or ())
        return parsed

    def _parse_obj_id(self, name: str, obj_id: Any) -> tuple[int, ...] | None:
        if obj_id is None and self.test_mode:
            return None
        if not isinstance(obj_id, list) or not (obj_id or self.version == 2):
            raise ValueError(
                f'{self.ann_file}: {name} names no object: its anno_id must be a list of numbers, '
                f'not {obj_id!r}. The split valid has none: train on train, score on valid_u.'
            )
        where = f'{self.ann_file}: anno_id of {name}'
        return tuple(sorted({integer(anno_id, where) for anno_id in obj_id}))

    def _check_folders(self, expressions: dict[str, list[dict]]) -> set[str]:
        """Check that each video has its folder, and each object its masks; videos with ground
        truth."""
        self._check_images(expressions)
        wanted = {anno_id: video_id for video_id, ids in self.objects.items() for anno_id in ids}
        known = {
            v for v, found in expressions.items() if any(e['obj_id'] is not None for e in found)
        }
        if not wanted:
            return known
        mask_file = self.data_prefix['mask']
        require(mask_file, f'the masks of the objects that {self.ann_file} names')
        spans = find_masks(mask_file)
        unknown = [f'{i} of video {video}' for i, video in wanted.items() if i not in spans]
        if unknown:
            raise ValueError(
                f'{mask_file} lacks {len(unknown)} of the {len(wanted)} objects that '
                f'{self.ann_file} names: {", ".join(unknown[:5])}'
                f'{", ..." if len(unknown) > 5 else ""}. Get both files of one version.'
            )
        self.spans = {anno_id: spans[anno_id] for anno_id in wanted}
        return known
