"""Common ground of the referring video datasets: expressions, folders of frames and of masks."""

import logging
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log

from referformer.files import advised
from referformer.registry import DATASETS, TRANSFORMS, build
from referformer.structures import ABSENT, control_of

from .absent import add_absent_sentences
from .annotation_files import (
    clean_text,
    get_entry,
    integer,
    names_in,
    read_categories,
    read_frames,
    read_videos,
    require,
    require_folders,
    some_of,
)
from .records import PackedMapping
from .tolerant import TolerantDataset


class Video(NamedTuple):
    """What the expressions of one video share."""

    frame_names: list[str]
    img_dir: str
    mask_dir: str | None


@DATASETS.register_module()
class RVOSDataset(TolerantDataset):
    """Videos as folders of frames, palette PNG masks, expressions that each refer to one object.

    The layout is the one published with Ref-YouTube-VOS; Ref-DAVIS17 is converted to it::

        <data_root>/<split>/JPEGImages/<video>/<frame>.jpg
        <data_root>/<split>/Annotations/<video>/<frame>.png         palette index = object id
        <data_root>/<split>/meta.json
            {videos: {<video>: {objects: {<id>: {category}}}}}
        <data_root>/meta_expressions/<split>/meta_expressions.json
            {videos: {<video>: {frames: [...], expressions: {<id>: {exp, obj_id}}}}}

    In training there is one item for each expression and every ``num_frames``-th frame, in testing
    one for each (video, expression). An item holds

    - ``video_id``, ``exp_id``, ``text`` (lower case, white space collapsed), ``kind`` (of sentence:
      the optional key of that name, or None), ``label``, ``obj_id`` (None where the file lacks it);
    - ``frame_names``, ``img_dir``, ``img_suffix``, ``mask_dir`` (None without ground truth),
      ``mask_suffix``;
    - in training ``centre``, the index of the frame the item is about, and ``num_frames``;
    - in testing ``control_obj_id``: the next object of the video, by id and cyclically, that has an
      expression. The same prediction can be scored against it, as a control. None where there is
      no other object.

    What cannot be used (a file that is missing or cannot be decoded, an object that no mask has, an
    expression without object) is an error in testing. In training it is logged and left out, and
    another item drawn in its place, until too much is broken: see ``max_broken``.

    Args:
        data_root: Folder that holds the dataset.
        split: Replaces ``{split}`` in the paths below.
        num_frames: Distance of the frames that give training items: the T of the clips.
        test_mode: Whether items are whole videos; by default for every split but 'train'.
        ann_file: Expression file, below ``data_root``.
        data_prefix: Folders of frames (key ``img``) and masks (key ``mask``), below ``data_root``.
        meta_file: File with the category of each object, below ``data_root``; training needs it.
            None: all labels are 0, which is enough for models with binary classification.
        classes: Category names in the order of their labels, which have to be all there are;
            'meta': those in ``meta_file``, sorted. By default those of the class's ``METAINFO``,
            where others get the label -1, for binary models; 'meta' where it has none.
        video_ids: Use only these videos: a list of ids, or a text file (below ``data_root``) with
            one a line.
        kinds: Use only sentences of these kinds (the optional key ``kind``).
        shuffled_kinds: In testing, sentences of these kinds come a second time, as a control, with
            the frames of their video in random order: items with ``frame_order`` 'shuffled'.
        absent_kinds: Every video also gets sentences of these kinds about objects that it does not
            show, those of other videos: items with ``obj_id`` ``structures.ABSENT``. A control in
            testing; in training they teach the class scores to say no. See
            :func:`absent.add_absent_sentences`.
        img_suffix: Of the frame files.
        mask_suffix: Of the mask files.
        pipeline: Transforms or their configs.
        kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`, and ``max_broken`` of
            :class:`TolerantDataset`: the same share of the expressions may be unusable.

    Raises:
        FileNotFoundError: Where a file or a folder is missing.
        ValueError: Where a file is malformed, an expression is empty, or does not tell its object
            in training; in training, past ``max_broken``.
    """

    METAINFO: dict = {}
    nested_ids = False  # of videos, as read_videos has it

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        num_frames: int = 5,
        test_mode: bool | None = None,
        ann_file: str = 'meta_expressions/{split}/meta_expressions.json',
        data_prefix: Mapping[str, str] | None = None,
        meta_file: str | None = '{split}/meta.json',
        classes: Sequence[str] | str | None = None,
        video_ids: Sequence[str] | str | None = None,
        kinds: Sequence[str] | None = None,
        shuffled_kinds: Sequence[str] = (),
        absent_kinds: Sequence[str | None] = (),
        img_suffix: str = '.jpg',
        mask_suffix: str = '.png',
        pipeline: Sequence[dict | Callable] = (),
        **kwargs: Any,
    ) -> None:
        if num_frames < 1:
            raise ValueError(f'num_frames must be at least 1, but is {num_frames}')
        self.split = split
        self.num_frames = num_frames
        self.meta_file = meta_file and str(Path(data_root, meta_file.format(split=split)))
        self.classes = classes
        self.video_ids = video_ids
        self.kinds = kinds
        self.shuffled_kinds = tuple(shuffled_kinds)
        self.absent_kinds = tuple(absent_kinds)
        self.img_suffix = img_suffix
        self.mask_suffix = mask_suffix
        self.videos: Mapping[str, Video] = {}
        prefix = {'img': '{split}/JPEGImages', 'mask': '{split}/Annotations', **(data_prefix or {})}
        super().__init__(
            ann_file=ann_file.format(split=split),
            data_root=str(data_root),
            data_prefix={key: path.format(split=split) for key, path in prefix.items()},
            pipeline=[build(transform, TRANSFORMS) for transform in pipeline],
            test_mode=split != 'train' if test_mode is None else test_mode,
            **kwargs,
        )

    def full_init(self) -> None:
        """Load and filter; in testing, note in the metainfo what a metric has to score."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.serialize_data:
            self.videos = PackedMapping(self.videos)
        if self.test_mode:
            items = (self.get_data_info(i) for i in range(len(self)))
            self._metainfo['expected'] = [
                (item['video_id'], item['exp_id'], *filter(None, [control_of(item)]))
                for item in items
            ]

    def load_data_list(self) -> list[dict]:
        """Read and check the files; one short dict for each item (the rest is in ``videos``)."""
        require(
            self.data_root,
            f'the dataset; {advised("tools/dataset_tools/make_synthetic.py")} FOLDER makes one',
        )
        videos = self.select_videos(read_videos(self.ann_file, self.nested_ids))
        if not videos:
            raise ValueError(f'{self.ann_file} leaves no video to use for the split {self.split!r}')
        expressions = {
            video_id: self._parse_expressions(video_id, video) for video_id, video in videos.items()
        }
        with_masks = self._check_folders(expressions)
        self._add_labels(expressions)
        num_expressions = sum(map(len, expressions.values()))
        self._judge_unusable(num_expressions)
        if self.absent_kinds:
            add_absent_sentences(expressions, self.absent_kinds, self.meta_file)

        self.videos = {}
        items = []
        for video_id, found in expressions.items():
            frame_names = self._parse_frames(video_id, videos[video_id])
            img_dir, mask_dir = (f'{self.data_prefix[k]}/{video_id}' for k in ('img', 'mask'))
            self.videos[video_id] = Video(
                frame_names, img_dir, mask_dir if video_id in with_masks else None
            )
            items += self._make_items(found, len(frame_names))
        if not items:
            raise ValueError(
                f'{self.ann_file} has no expression to use for the split {self.split!r}: '
                f'{self._why_none(videos)}'
            )
        if self.test_mode:  # at the end: neighbours show the same clip
            again = [
                item
                for item in items
                if item['kind'] in self.shuffled_kinds and item['obj_id'] != ABSENT
            ]
            items += [{**item, 'frame_order': 'shuffled'} for item in again]
        print_log(
            f'{type(self).__name__} {self.split}: {len(items)} items from {num_expressions} '
            f'expressions of {len(videos)} videos, {len(with_masks)} of them with ground truth',
            'current',
        )
        return items

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        info = super().get_data_info(idx)
        video = self.videos[info['video_id']]
        info.update(
            frame_names=list(video.frame_names),
            img_dir=video.img_dir,
            img_suffix=self.img_suffix,
            mask_dir=video.mask_dir if info['obj_id'] is not None else None,
            mask_suffix=self.mask_suffix,
        )
        return info

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        # MMEngine's makes an array for each item first, which leaves the process 30 MB larger.
        content, ends = bytearray(), np.empty(len(self.data_list), np.int64)
        for index, item in enumerate(self.data_list):
            content += pickle.dumps(item, protocol=4)
            ends[index] = len(content)
        self.data_list.clear()
        return np.frombuffer(content, np.uint8), ends

    def select_videos(self, videos: dict[str, dict]) -> dict[str, dict]:
        """Those of the videos of the expression file that are to be used, in the file's order."""
        if self.video_ids is None:
            return videos
        ids = self.video_ids
        if isinstance(ids, str):
            path = Path(self.data_root, ids)
            require(path, 'the list of video ids')
            ids = path.read_text(encoding='utf-8').split()
        unknown = sorted(set(ids) - set(videos))
        if unknown:
            raise ValueError(
                f'video_ids names videos that are not in {self.ann_file}: {some_of(unknown)}'
            )
        if not ids:
            raise ValueError(f'video_ids takes all videos of {self.ann_file}: it names none')
        return {video_id: video for video_id, video in videos.items() if video_id in set(ids)}

    def _why_none(self, videos: dict[str, dict]) -> str:
        """What took all expressions of these videos."""
        entries = [entry for video in videos.values() for entry in video['expressions'].values()]
        if self.left_out:
            return f'all {len(entries)} are left out, as the first one: {self.left_out[0]}'
        if entries:  # only filters are left
            kinds = sorted({str(entry.get('kind')) for entry in entries})
            return (
                f'kinds={list(self.kinds)} takes all {len(entries)}. Their kinds are '
                f'{some_of(kinds)}.'
            )
        chosen = 'all its videos' if self.video_ids is None else 'the videos that video_ids names'
        return f'{chosen} ({some_of(list(videos))}) have none.'

    def _parse_frames(self, video_id: str, video: dict) -> list[str]:
        return read_frames(video_id, video, self.ann_file)

    def _parse_expressions(self, video_id: str, video: dict) -> list[dict]:
        where = f'videos.{video_id}.expressions'
        expressions = get_entry(video, 'expressions', self.ann_file, where)
        if not isinstance(expressions, dict):
            raise ValueError(f'{self.ann_file}: {where} must map expression ids to expressions')
        parsed = self._usable(expressions.items(), partial(self._parse_expression, video_id))
        without = [exp['exp_id'] for exp in parsed if exp['obj_id'] is None]
        if 0 < len(without) < len(parsed):
            raise ValueError(
                f'{self.ann_file}: of the expressions of video {video_id} some have no obj_id: '
                f'{some_of(without)}. Give it to all of them, or to none.'
            )
        return [exp for exp in parsed if self.kinds is None or exp['kind'] in self.kinds]

    def _parse_expression(self, video_id: str, exp_id: str, expression: dict) -> dict:
        name = f'expression {exp_id} of video {video_id}'
        text = get_entry(
            expression, 'exp', self.ann_file, f'videos.{video_id}.expressions.{exp_id}.exp'
        )
        return {
            'video_id': video_id,
            'exp_id': exp_id,
            'text': clean_text(text, f'{self.ann_file}: {name}'),
            'kind': expression.get('kind'),
            'obj_id': self._parse_obj_id(name, expression.get('obj_id')),
            'label': 0,
        }

    def _parse_obj_id(self, name: str, obj_id: Any) -> int | None:
        if obj_id is None:
            if self.test_mode:
                return None
            raise ValueError(
                f'{self.ann_file}: {name} has no obj_id, which training needs. '
                'The published valid and test splits do not have it: train on the train split.'
            )
        # 0 is the background of a mask file, which has one byte for a pixel.
        return integer(obj_id, f'{self.ann_file}: obj_id of {name}', 1, 255)

    def _usable(self, entries: Iterable[tuple], parse: Callable[..., dict]) -> list[dict]:
        """What ``parse`` makes of the entries; in training without those it finds faulty."""
        usable = []
        for entry in entries:
            try:
                usable.append(parse(*entry))
            except ValueError as error:
                if self.test_mode:
                    raise
                self.left_out.append(str(error))
        return usable

    def _judge_unusable(self, num_usable: int) -> None:
        """Log which expressions are left out, or raise ValueError if they are too many."""
        total = num_usable + len(self.left_out)
        if len(self.left_out) > self.max_broken * total:
            raise ValueError(
                f'{self.left_out[0]} In all, {len(self.left_out)} of {total} expressions cannot be '
                f'used, more than max_broken={self.max_broken} allows.'
            )
        for message in self.left_out:
            print_log(f'expression left out: {message}', 'current', logging.ERROR)

    def _make_items(self, expressions: list[dict], length: int) -> Iterable[dict]:
        """The items of one video of ``length`` frames, see the class."""
        ids = sorted({expression['obj_id'] for expression in expressions} - {None, ABSENT})
        following = dict(zip(ids, ids[1:] + ids[:1])) if len(ids) > 1 else {}
        for expression in expressions:
            if self.test_mode:
                yield {**expression, 'control_obj_id': following.get(expression['obj_id'])}
            else:
                for centre in range(0, length, self.num_frames):
                    yield {**expression, 'centre': centre, 'num_frames': self.num_frames}

    def _check_folders(self, expressions: dict[str, list[dict]]) -> set[str]:
        """Check that each video has its folders, without a look at the files; videos with ground
        truth."""
        self._check_images(expressions)
        masks = self.data_prefix['mask']
        if not self.test_mode:
            require(masks, f'the masks of the split {self.split!r}')
            require_folders(expressions, masks)
            return set(expressions)
        known = {
            v for v, found in expressions.items() if any(exp['obj_id'] is not None for exp in found)
        }
        return known & names_in(masks)

    def _check_images(self, video_ids: Iterable[str]) -> None:
        images = self.data_prefix['img']
        require(images, f'the frames of the split {self.split!r}')
        require_folders(video_ids, images)

    def _add_labels(self, expressions: dict[str, list[dict]]) -> None:
        """Look up the label of each expression's object."""
        classes = self.classes or self.metainfo.get('classes', 'meta')
        without = self.meta_file is None or (self.test_mode and not Path(self.meta_file).exists())
        categories = {} if without else read_categories(self.meta_file)
        if classes == 'meta':
            names = {name for objects in categories.values() for name in objects.values()}
            classes = sorted(names)
        self._metainfo['classes'] = tuple(classes)
        if not categories:
            return
        label_of = {name: label for label, name in enumerate(classes)}
        add_label = partial(self._add_label, categories, label_of)
        for video_id, found in expressions.items():
            expressions[video_id] = self._usable(((exp,) for exp in found), add_label)
        others = {
            categories[exp['video_id']][exp['obj_id']]
            for found in expressions.values()
            for exp in found
            if exp['label'] < 0
        }
        if others:
            print_log(
                f'{self.meta_file}: {some_of(sorted(others))}: not among the {len(label_of)} '
                f'categories of {type(self).__name__}. A binary model (num_classes=1) does not '
                "need them; for others set classes='meta'.",
                'current',
            )

    def _add_label(
        self,
        categories: dict[str, dict[int, str]],
        label_of: dict[str, int],
        expression: dict,
    ) -> dict:
        video_id, obj_id = expression['video_id'], expression['obj_id']
        if obj_id is None:
            return expression
        where = f'videos.{video_id}.objects.{obj_id}.category'
        objects = get_entry(categories, video_id, self.meta_file, f'videos.{video_id}')
        category = get_entry(objects, obj_id, self.meta_file, where)
        if category not in label_of and self.classes is not None:
            raise ValueError(
                f'{self.meta_file}: {where} is {category!r}, not one of the {len(label_of)} '
                f'classes ({some_of(list(label_of))}). Add it to classes=[...], or pass '
                "classes='meta' to use those of the file."
            )
        return {**expression, 'label': label_of.get(category, -1)}
