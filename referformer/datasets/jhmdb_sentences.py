"""JHMDB-Sentences."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.logging import print_log

from referformer.registry import DATASETS

from .annotation_files import check_names
from .base import RVOSDataset, Video, clean_text, require
from .single_frames import (
    check_unique,
    expected_frames,
    name_frames,
    positive_int,
    read_rows,
    require_all,
)

_FIELDS = '[video, frame path, mask path, number of frames, text]'


@DATASETS.register_module()
class JHMDBSentences(RVOSDataset):
    """JHMDB-Sentences (Gavrilyuk et al., CVPR 2018), in the published layout, with the list of
    MTTR: one sentence about each of 928 videos, scored on three frames of each. For testing only.

    ::

        <data_root>/Rename_Images/<action>/<video>/<frame>.png      00001.png, ...
        <data_root>/puppet_mask/<action>/<video>/puppet_mask.mat    part_mask, (H, W, T)
        <data_root>/jhmdb_sentences_samples_metadata.json
            [[video, frame path, mask path, number of frames, text], ...]

    Of the paths in the list only what follows ``Rename_Images`` and ``puppet_mask`` counts, so that
    the dataset can lie anywhere.

    An item holds what those of :class:`RVOSDataset` do (the mask of the person, which
    ``LoadMatMasks`` reads, has ``obj_id`` 1; ``exp_id`` counts the sentences of a video from 0),
    ``key_frame``, the index of the only annotated frame, and ``num_frames``, T.

    Args:
        data_root: Folder that holds the dataset.
        num_frames: T of the clips.
        ann_file: The list of sentences, below ``data_root``.
        data_prefix: Folders of frames (key ``img``) and masks (key ``mask``), below ``data_root``.
        kwargs: ``video_ids``, ``pipeline`` and further arguments of :class:`RVOSDataset`.

    Raises:
        FileNotFoundError: Where a file or a folder is missing.
        ValueError: Where the list is malformed.
    """

    def __init__(
        self,
        data_root: str,
        num_frames: int = 5,
        ann_file: str = 'jhmdb_sentences_samples_metadata.json',
        data_prefix: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            data_root,
            split='test',
            num_frames=num_frames,
            test_mode=True,
            ann_file=ann_file,
            data_prefix={'img': 'Rename_Images', 'mask': 'puppet_mask', **(data_prefix or {})},
            img_suffix='.png',
            mask_suffix='.mat',
            **kwargs,
        )

    def full_init(self) -> None:
        """Load and filter; note in the metainfo which frames a metric has to score."""
        if self._fully_initialized:
            return
        super().full_init()
        self._metainfo['expected'] = expected_frames(self)

    def load_data_list(self) -> list[dict]:
        """Read the list of sentences, and check that their folders and masks are there."""
        require(self.data_root, 'JHMDB-Sentences (docs/datasets.md)')
        items = []
        sentences: dict[str, list[str]] = {}
        for number, row in enumerate(read_rows(self.ann_file, _FIELDS), start=1):
            item = self._parse(f'{self.ann_file}: row {number}', *row)
            texts = sentences.setdefault(item['video_id'], [])
            if item['text'] not in texts:
                texts.append(item['text'])
            items.append({**item, 'exp_id': str(texts.index(item['text']))})
        selected = self.select_videos(sentences)
        items = [item for item in items if item['video_id'] in selected]
        self.videos = {video_id: self.videos[video_id] for video_id in selected}
        folders = [Path(video.img_dir) for video in self.videos.values()]
        require_all(folders, 'folders of frames')
        folders = [Path(video.mask_dir) for video in self.videos.values()]
        require_all(folders, 'folders of masks')
        check_unique(items, self.ann_file)
        print_log(
            f'JHMDBSentences: {len(items)} annotated frames of '
            f'{sum(map(len, selected.values()))} sentences about {len(selected)} videos',
            'current',
        )
        return items

    def _parse(
        self, where: str, video_id: Any, frame: Any, mask: Any, count: Any, text: Any
    ) -> dict:
        if not isinstance(video_id, str) or not video_id:
            raise ValueError(f'{where}: the video must be a name, not {video_id!r}')
        check_names([video_id], f'{where}: the video')
        frame = _below(frame, 'Rename_Images', where)
        mask = _below(mask, 'puppet_mask', where)
        video = Video(
            name_frames(positive_int(count, f'{where}: the number of frames')),
            str(Path(self.data_prefix['img'], frame.parent)),
            str(Path(self.data_prefix['mask'], mask.parent)),
        )
        if self.videos.setdefault(video_id, video) != video:
            raise ValueError(
                f'{where}: the folders or the number of frames of video {video_id} are not those '
                'of the rows before'
            )
        key_frame = positive_int(frame.stem, f'{where}: the frame') - 1
        if key_frame >= len(video.frame_names):
            raise ValueError(
                f'{where}: frame {key_frame + 1} is annotated, but the video has {count} frames'
            )
        return {
            'video_id': video_id,
            'text': clean_text(text, where),
            'kind': None,
            'obj_id': 1,
            'label': 0,
            'key_frame': key_frame,
            'num_frames': self.num_frames,
        }


def _below(path: Any, folder: str, where: str) -> PurePosixPath:
    """What follows ``folder`` in a path."""
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if folder not in parts[:-1]:
        raise ValueError(f'{where}: a path with the folder {folder} was expected, not {path!r}')
    parts = parts[parts.index(folder) + 1 :]
    check_names(parts, f'{where}: a part of {path!r}')
    return PurePosixPath(*parts)
