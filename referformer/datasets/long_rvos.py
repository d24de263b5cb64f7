"""Long-RVOS: minutes of video, each object's masks in a folder of its own."""

from typing import Any

from referformer.registry import DATASETS

from .annotation_files import check_kind
from .base import RVOSDataset


def type_of(expression: dict, path: str, where: str) -> str | None:
    """The ``type`` of an expression, None where there is none.

    Raises:
        ValueError: Naming file and place, where it is no word.
    """
    check_kind(expression.get('type'), f'{path}: {where}.type')
    return expression.get('type')


@DATASETS.register_module()
class LongRVOS(RVOSDataset):
    """Long-RVOS (Liang et al., 2025), in the published layout::

        <data_root>/<split>/JPEGImages/<video>/<frame>.jpg
        <data_root>/<split>/Annotations/<video>/<object>/<frame>.png    0 and 255
        <data_root>/<split>/meta_expressions.json
            {videos: {<video>: {frames: [...], expressions: {<id>: {exp, obj_id, type}}}}}

    A frame without a mask file does not show the object (``LoadObjectMasks``). Items are those of
    :class:`RVOSDataset`, with ``kind``: the ``type`` of the sentence, 'static', 'dynamic' or
    'hybrid'. The masks of 'test' are not published.

    Args:
        data_root: Folder that holds the splits.
        split: 'train', 'valid' or 'test'.
        kwargs: Further arguments of :class:`RVOSDataset`.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'valid', 'test'):
            raise ValueError(f"split must be 'train', 'valid' or 'test', not {split!r}")
        defaults = {'ann_file': '{split}/meta_expressions.json', 'meta_file': None}
        super().__init__(data_root, split=split, **{**defaults, **kwargs})

    def _parse_expression(self, video_id: str, exp_id: str, expression: dict) -> dict:
        where = f'videos.{video_id}.expressions.{exp_id}'
        kind = {'kind': type_of(expression, self.ann_file, where)}
        return super()._parse_expression(video_id, exp_id, {**expression, **kind})
