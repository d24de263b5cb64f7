"""Ref-DAVIS17."""

from typing import Any

from referformer.files import advised
from referformer.registry import DATASETS

from .base import RVOSDataset

NUM_ANNOTATORS = 4
# fmt: off
_CLASSES = (
    'airplane', 'backpack', 'ball', 'bear', 'bicycle', 'bird', 'boat', 'bottle', 'box', 'bus',
    'camel', 'car', 'carriage', 'cat', 'cellphone', 'chamaleon', 'cow', 'deer', 'dog', 'dolphin',
    'drone', 'elephant', 'excavator', 'fish', 'goat', 'golf cart', 'golf club', 'grass', 'guitar',
    'gun', 'helicopter', 'horse', 'hoverboard', 'kart', 'key', 'kite', 'koala', 'leash', 'lion',
    'lock', 'mask', 'microphone', 'monkey', 'motorcycle', 'oar', 'paper', 'paraglide', 'person',
    'pig', 'pole', 'potted plant', 'puck', 'rack', 'rhino', 'rope', 'sail', 'scale', 'scooter',
    'selfie stick', 'sheep', 'skateboard', 'ski', 'ski poles', 'snake', 'snowboard', 'stick',
    'stroller', 'surfboard', 'swing', 'tennis racket', 'tractor', 'trailer', 'train', 'truck',
    'turtle', 'varanus', 'violin', 'wheelchair',
)
# fmt: on


@DATASETS.register_module()
class RefDAVIS(RVOSDataset):
    """Ref-DAVIS17 (Khoreva et al., ACCV 2018), as ``tools/dataset_tools/convert_ref_davis.py``
    writes it.

    60 training and 30 validation videos. Each object has four expressions, one of each annotator,
    and the expressions of a video are numbered object by object: the annotator is ``exp_id % 4``,
    ``exp_id // 4`` counts the objects.

    In testing the metainfo has ``mask_dir``, the folder of the annotated label maps: they are
    scored as a whole (``RefDAVISMetric``), with the objects that no expression names.

    Args:
        data_root: Folder that holds ``train``, ``valid`` and ``meta_expressions``.
        split: 'train' or 'valid'.
        kwargs: Further arguments of :class:`RVOSDataset`.

    Raises:
        ValueError: In testing, where four expressions in a row are not about one object.
    """

    METAINFO = {'classes': _CLASSES}

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'valid'):
            raise ValueError(f"split must be 'train' or 'valid', not {split!r}")
        super().__init__(data_root, split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """See :class:`RVOSDataset`; in testing with a check of the order of the expressions."""
        items = super().load_data_list()
        if self.test_mode:
            self._metainfo['mask_dir'] = self.data_prefix['mask']
            self._check_order(items)
        return items

    def _check_order(self, items: list[dict]) -> None:
        objects: dict[tuple[str, int], int | None] = {}
        for item in items:
            video_id, exp_id = item['video_id'], item['exp_id']
            name = f'{self.ann_file}: expression {exp_id} of video {video_id}'
            if not exp_id.isdecimal():
                raise ValueError(f'{name} must have a number, which tells its annotator. {_ADVICE}')
            place = video_id, int(exp_id) // NUM_ANNOTATORS
            first = objects.setdefault(place, item['obj_id'])
            if first is None or item['obj_id'] != first:
                raise ValueError(
                    f'{name} is about the object {item["obj_id"]}, the one before it about '
                    f'{first}; each object needs {NUM_ANNOTATORS} expressions in a row. {_ADVICE}'
                )


_ADVICE = f'{advised("tools/dataset_tools/convert_ref_davis.py")} writes this order.'
