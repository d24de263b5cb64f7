"""A2D-Sentences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from referformer.registry import DATASETS

from .annotation_files import check_names
from .base import RVOSDataset, clean_text, require
from .single_frames import (
    check_unique,
    expected_frames,
    name_frames,
    positive_int,
    read_rows,
    require_all,
)
from .transforms.loading_annotations import count_video_frames


@DATASETS.register_module()
class A2DSentences(RVOSDataset):
    """A2D-Sentences (Gavrilyuk et al., CVPR 2018), in the published layout, with the lists of MTTR.

    Videos of a few seconds have three to five annotated frames; each sentence on each of them is
    one item::

        <data_root>/Release/clips320H/<video>.mp4
        <data_root>/text_annotations/a2d_annotation_with_instances/<video>/<frame>.h5
        <data_root>/a2d_sentences_single_frame_{train,test}_annotations.json
            [[text, video, frame (from 1), instance], ...]

    An item holds what those of :class:`RVOSDataset` do, but

    - ``video_file`` instead of ``img_dir`` and ``img_suffix``, to be read by ``LoadVideoFrames``;
    - ``obj_id``, the instance, which is also ``exp_id``; ``LoadH5Masks`` reads its mask;
    - ``frame_names``: '00001', '00002', ... as many as the file claims to have frames;
    - ``key_frame``: index of the only annotated frame; in training ``centre`` is the same;
    - ``num_frames``: T, in testing too.

    Args:
        data_root: Folder that holds the dataset.
        split: 'train' or 'test'.
        num_frames: T of the clips.
        ann_file: The list of sentences, below ``data_root``.
        data_prefix: Folders of videos (key ``img``) and masks (key ``mask``), below ``data_root``.
        kwargs: ``test_mode``, ``video_ids``, ``pipeline`` and further arguments of
            :class:`RVOSDataset`.

    Raises:
        FileNotFoundError: Where a file or a folder is missing.
        ValueError: Where a file is malformed, or annotates a frame that its video does not have.
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        num_frames: int = 5,
        ann_file: str = 'a2d_sentences_single_frame_{split}_annotations.json',
        data_prefix: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split must be 'train' or 'test', not {split!r}")
        super().__init__(
            data_root,
            split=split,
            num_frames=num_frames,
            ann_file=ann_file,
            data_prefix={
                'img': 'Release/clips320H',
                'mask': 'text_annotations/a2d_annotation_with_instances',
                **(data_prefix or {}),
            },
            mask_suffix='.h5',
            **kwargs,
        )

    def full_init(self) -> None:
        """Load and filter; in testing, note in the metainfo which frames a metric has to score."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.test_mode:
            self._metainfo['expected'] = expected_frames(self)

    def load_data_list(self) -> list[dict]:
        """Read the list of sentences, and check that their videos and folders of masks are
        there."""
        require(self.data_root, 'A2D-Sentences (docs/datasets.md)')
        rows = read_rows(self.ann_file, '[text, video, frame, instance]')
        items = [
            self._parse(f'{self.ann_file}: row {number}', *row)
            for number, row in enumerate(rows, start=1)
        ]
        videos = self.select_videos({item['video_id']: {} for item in items})
        items = [item for item in items if item['video_id'] in videos]
        require_all((Path(self._video_file(video_id)) for video_id in videos), 'videos')
        require_all((Path(self._mask_dir(video_id)) for video_id in videos), 'folders of masks')
        if self.test_mode:
            check_unique(items, self.ann_file)
        sentences = {(item['video_id'], item['exp_id']) for item in items}
        print_log(
            f'A2DSentences {self.split}: {len(items)} annotated frames of {len(sentences)} '
            f'sentences about {len(videos)} videos',
            'current',
        )
        return items

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        info = BaseDataset.get_data_info(self, idx)
        path, number = self._video_file(info['video_id']), info['key_frame'] + 1
        count = count_video_frames(path)
        if number > count:
            raise ValueError(
                f'{self.ann_file}: frame {number} of video {info["video_id"]} is annotated, but '
                f'{path} has {count} frames. It may be truncated: get or extract it again.'
            )
        return info | {
            'video_file': path,
            'frame_names': name_frames(count),
            'mask_dir': self._mask_dir(info['video_id']),
            'mask_suffix': self.mask_suffix,
        }

    def _parse(self, where: str, text: Any, video_id: Any, frame: Any, instance: Any) -> dict:
        if not isinstance(video_id, str) or not video_id:
            raise ValueError(f'{where}: the video must be a name, not {video_id!r}')
        check_names([video_id], f'{where}: the video')
        key_frame = positive_int(frame, f'{where}: the frame') - 1
        obj_id = positive_int(instance, f'{where}: the instance')
        return {
            'video_id': video_id,
            'exp_id': str(obj_id),
            'text': clean_text(text, where),
            'kind': None,
            'obj_id': obj_id,
            'label': 0,
            'key_frame': key_frame,
            'num_frames': self.num_frames,
            **({} if self.test_mode else {'centre': key_frame}),
        }

    def _video_file(self, video_id: str) -> str:
        return f'{self.data_prefix["img"]}/{video_id}.mp4'

    def _mask_dir(self, video_id: str) -> str:
        return f'{self.data_prefix["mask"]}/{video_id}'
