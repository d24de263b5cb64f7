"""ReVOS: sentences that refer, sentences to be reasoned about, and sentences about nothing."""

from typing import Any

from referformer.registry import DATASETS

from .annotation_files import get_entry
from .base import RVOSDataset
from .mevis import MeViS

KINDS = {0: 'referring', 1: 'reasoning', 2: 'nothing'}  # by type_id


def kind_of(expression: dict, path: str, where: str) -> str:
    """The kind that the ``type_id`` of an expression stands for.

    Raises:
        ValueError: Naming file and place, where it is missing or another number.
    """
    type_id = get_entry(expression, 'type_id', path, f'{where}.type_id')
    if type(type_id) is not int or type_id not in KINDS:
        raise ValueError(f'{path}: {where}.type_id must be one of {KINDS}, not {type_id!r}')
    return KINDS[type_id]


@DATASETS.register_module()
class ReVOS(MeViS):
    """ReVOS (Yan et al., ECCV 2024, "VISA"), in the published layout::

        <data_root>/JPEGImages/<video>/<frame>.jpg
        <data_root>/meta_expressions_{train,valid}_.json    as MeViS's, with type_id
        <data_root>/mask_dict.json                          as MeViS's, of both splits

    Ids of videos are names of folders in folders: ``UVO/all/<name>``. Items are those of
    :class:`MeViS`, with ``kind`` 'referring', 'reasoning' or 'nothing' by the ``type_id`` 0, 1, 2,
    and in testing ``foreground_spans``: where the masks of every object stand that a sentence of
    the video names. Their union is what the published ``mask_dict_foreground.json`` holds.

    Args:
        data_root: Folder that holds all of it.
        split: 'train' or 'valid'.
        kwargs: Further arguments of :class:`RVOSDataset`.
    """

    splits = ('train', 'valid')
    nested_ids = True

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        defaults = {
            'ann_file': 'meta_expressions_{split}_.json',
            'data_prefix': {'img': 'JPEGImages', 'mask': 'mask_dict.json'},
        }
        super().__init__(data_root, split=split, version=2, **{**defaults, **kwargs})

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        info = super().get_data_info(idx)
        if self.test_mode:
            ids = sorted(self.objects[info['video_id']])
            info['foreground_spans'] = {anno_id: self.spans[anno_id] for anno_id in ids}
        return info

    def _parse_frames(self, video_id: str, video: dict) -> list[str]:
        return RVOSDataset._parse_frames(self, video_id, video)  # the file's order, that of masks

    def _parse_expression(self, video_id: str, exp_id: str, expression: dict) -> dict:
        where = f'videos.{video_id}.expressions.{exp_id}'
        kind = {'kind': kind_of(expression, self.ann_file, where)}
        return super()._parse_expression(video_id, exp_id, {**expression, **kind})
