"""Ref-YouTube-VOS."""

import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from referformer.registry import DATASETS

from .base import RVOSDataset, read_videos

_OFFICIAL_VALID_VIDEOS = 202
# fmt: off
_CLASSES = (
    'airplane', 'ape', 'bear', 'bike', 'bird', 'boat', 'bucket', 'bus', 'camel', 'cat', 'cow',
    'crocodile', 'deer', 'dog', 'dolphin', 'duck', 'eagle', 'earless_seal', 'elephant', 'fish',
    'fox', 'frisbee', 'frog', 'giant_panda', 'giraffe', 'hand', 'hat', 'hedgehog', 'horse',
    'knife', 'leopard', 'lion', 'lizard', 'monkey', 'motorbike', 'mouse', 'others', 'owl',
    'paddle', 'parachute', 'parrot', 'penguin', 'person', 'plant', 'rabbit', 'raccoon', 'sedan',
    'shark', 'sheep', 'sign', 'skateboard', 'snail', 'snake', 'snowboard', 'squirrel',
    'surfboard', 'tennis_racket', 'tiger', 'toilet', 'train', 'truck', 'turtle', 'umbrella',
    'whale', 'zebra',
)
# fmt: on


@DATASETS.register_module()
class RefYouTubeVOS(RVOSDataset):
    """Ref-YouTube-VOS (Seo et al., ECCV 2020, "URVOS"), in the published layout.

    The official protocol is scored on the 202 videos of the valid split's expression file that the
    test split's does not name. Where the test file is missing (newer downloads), pass
    ``video_ids``; else all videos of the valid file are used, with a warning.

    Args:
        data_root: Folder that holds ``train``, ``valid`` and ``meta_expressions``.
        split: 'train', 'valid' or 'test'.
        exclude_file: Expression file, below ``data_root``, whose videos do not belong to the valid
            split. None: the valid split is all of its own file, as in other datasets of this
            layout.
        kwargs: Further arguments of :class:`RVOSDataset`.
    """

    METAINFO = {'classes': _CLASSES}

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        exclude_file: str | None = 'meta_expressions/test/meta_expressions.json',
        **kwargs: Any,
    ) -> None:
        if split not in ('train', 'valid', 'test'):
            raise ValueError(f"split must be 'train', 'valid' or 'test', not {split!r}")
        self.exclude_file = exclude_file
        super().__init__(data_root, split=split, **kwargs)

    def select_videos(self, videos: dict[str, dict]) -> dict[str, dict]:
        """The official valid split, or what ``video_ids`` says."""
        if self.split != 'valid' or self.video_ids is not None or self.exclude_file is None:
            return super().select_videos(videos)
        path = Path(self.data_root, self.exclude_file)
        if path.exists():
            excluded = read_videos(path)
            kept = {v: video for v, video in videos.items() if v not in excluded}
            if videos and not kept:
                raise ValueError(
                    f'exclude_file takes all videos of {self.ann_file}: {path} names each of them. '
                    'Pass exclude_file=None if they are meant.'
                )
            return kept
        if len(videos) != _OFFICIAL_VALID_VIDEOS:
            print_log(
                f'{path} not found: all {len(videos)} videos of {self.ann_file} are used, while '
                f'the official valid split has {_OFFICIAL_VALID_VIDEOS} (those the test file does '
                'not name). Pass video_ids to choose them, or exclude_file=None if all are meant.',
                'current',
                logging.WARNING,
            )
        return videos
