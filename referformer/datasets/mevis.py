"""MeViS: expressions about motion, each of which may name several objects."""

from typing import Any

from referformer.registry import DATASETS

from .annotation_files import integer
from .base import RVOSDataset, require
from .transforms.rle import find_masks


@DATASETS.register_module()
class MeViS(RVOSDataset):
    """MeViS version 1 (Ding et al., ICCV 2023), in the published layout::

        <data_root>/<split>/JPEGImages/<video>/<frame>.jpg
        <data_root>/<split>/meta_expressions.json
            {videos: {<video>: {frames: [...],
                                expressions: {<id>: {exp, obj_id: [...], anno_id: [...]}}}}}
        <data_root>/<split>/mask_dict.json
            {<anno_id>: [one for each frame: {size: [h, w], counts} or null where it is absent]}

    The split 'valid' is scored by a server and has neither objects nor masks. The target is the
    union of the masks of all objects that an expression names (N = 1), see ``LoadRLEMasks``.

    Items are those of :class:`RVOSDataset`, with ``obj_id``: the ``anno_id`` of all objects,
    sorted; ``rle_file``: the mask file, and ``rle_spans``: where the masks of each object stand in
    it, (first, last + 1) byte; both None without ground truth. ``mask_dir`` and
    ``control_obj_id`` are None. The mask file, hundreds of MB, is searched once for its keys and
    never held: each process keeps two numbers for an object.

    Args:
        data_root: Folder that holds the splits.
        split: 'train', 'valid_u' or 'valid'.
        kwargs: Further arguments of :class:`RVOSDataset`.

    Raises:
        ValueError: Also where an expression names an object that has no masks, or the mask file
            ends early.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'valid_u', 'valid'):
            raise ValueError(f"split must be 'train', 'valid_u' or 'valid', not {split!r}")
        self.spans: dict[int, tuple[int, int]] = {}
        defaults = {
            'ann_file': '{split}/meta_expressions.json',
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
        return super()._parse_expression(video_id, exp_id, {**expression, **objects})

    def _parse_obj_id(self, name: str, obj_id: Any) -> tuple[int, ...] | None:
        if obj_id is None and self.test_mode:
            return None
        if not isinstance(obj_id, list) or not obj_id:
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
        wanted = {
            anno_id: video_id
            for video_id, found in expressions.items()
            for expression in found
            for anno_id in expression['obj_id'] or ()
        }
        if not wanted:
            return set()
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
        return set(wanted.values())
