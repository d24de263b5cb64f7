"""Common ground of the referring video datasets: expressions, folders of frames and of masks."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from referformer.registry import DATASETS, TRANSFORMS, build


class Video(NamedTuple):
    """What the expressions of one video share."""

    frame_names: list[str]
    img_dir: str
    mask_dir: str | None


@DATASETS.register_module()
class RVOSDataset(BaseDataset):
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

    Args:
        data_root: Folder that holds the dataset.
        split: Replaces ``{split}`` in the paths below.
        num_frames: Distance of the frames that give training items: the T of the clips.
        test_mode: Whether items are whole videos; by default for every split but 'train'.
        ann_file: Expression file, below ``data_root``.
        data_prefix: Folders of frames (key ``img``) and masks (key ``mask``), below ``data_root``.
        meta_file: File with the category of each object, below ``data_root``; training needs it.
            None: all labels are 0, which is enough for models with binary classification.
        classes: Category names in the order of their labels; 'meta': those in ``meta_file``,
            sorted. By default those of the class's ``METAINFO``, and 'meta' where it has none.
        video_ids: Use only these videos: a list of ids, or a text file (below ``data_root``) with
            one a line.
        kinds: Use only sentences of these kinds (the optional key ``kind``).
        img_suffix: Of the frame files.
        mask_suffix: Of the mask files.
        pipeline: Transforms or their configs.
        kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: Where a file or a folder is missing.
        ValueError: Where a file is malformed, an expression is empty, or does not tell its object
            in training.
    """

    METAINFO: dict = {}

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
        self.img_suffix = img_suffix
        self.mask_suffix = mask_suffix
        self.videos: dict[str, Video] = {}
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
        if self.test_mode:
            items = (self.get_data_info(i) for i in range(len(self)))
            self._metainfo['expected'] = [(item['video_id'], item['exp_id']) for item in items]

    def load_data_list(self) -> list[dict]:
        """Read and check the files; one short dict for each item (the rest is in ``videos``)."""
        require(
            self.data_root, 'the dataset; tools/dataset_tools/make_synthetic.py FOLDER makes one'
        )
        videos = self.select_videos(read_videos(self.ann_file))
        if not videos:
            raise ValueError(f'{self.ann_file} leaves no video to use for the split {self.split!r}')
        expressions = {
            video_id: self._parse_expressions(video_id, video) for video_id, video in videos.items()
        }
        with_masks = self._check_folders(expressions)
        self._add_labels(expressions)

        self.videos.clear()
        items = []
        for video_id, found in expressions.items():
            frame_names = self._parse_frames(video_id, videos[video_id])
            img_dir, mask_dir = (f'{self.data_prefix[k]}/{video_id}' for k in ('img', 'mask'))
            self.videos[video_id] = Video(
                frame_names, img_dir, mask_dir if video_id in with_masks else None
            )
            items += self._make_items(found, len(frame_names))
        if not items:
            raise ValueError(f'{self.ann_file} has no expression for the split {self.split!r}')
        num_expressions = sum(map(len, expressions.values()))
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
                f'video_ids names videos that are not in {self.ann_file}: {_some(unknown)}'
            )
        return {video_id: video for video_id, video in videos.items() if video_id in set(ids)}

    def _parse_frames(self, video_id: str, video: dict) -> list[str]:
        where = f'videos.{video_id}.frames'
        frames = _get(video, 'frames', self.ann_file, where)
        if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
            raise ValueError(f'{self.ann_file}: {where} must be a list of frame names')
        if not frames:
            raise ValueError(
                f'{self.ann_file}: the video {video_id} has no frames. Remove it from the file.'
            )
        return frames

    def _parse_expressions(self, video_id: str, video: dict) -> list[dict]:
        where = f'videos.{video_id}.expressions'
        expressions = _get(video, 'expressions', self.ann_file, where)
        if not isinstance(expressions, dict):
            raise ValueError(f'{self.ann_file}: {where} must map expression ids to expressions')
        parsed = [
            self._parse_expression(video_id, exp_id, exp) for exp_id, exp in expressions.items()
        ]
        return [exp for exp in parsed if self.kinds is None or exp['kind'] in self.kinds]

    def _parse_expression(self, video_id: str, exp_id: str, expression: dict) -> dict:
        name = f'expression {exp_id} of video {video_id}'
        text = _get(expression, 'exp', self.ann_file, f'videos.{video_id}.expressions.{exp_id}.exp')
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
        try:
            return int(obj_id)
        except (TypeError, ValueError):
            raise ValueError(
                f'{self.ann_file}: obj_id of {name} must be an integer, not {obj_id!r}'
            ) from None

    def _make_items(self, expressions: list[dict], length: int) -> Iterable[dict]:
        """The items of one video of ``length`` frames, see the class."""
        ids = sorted({expression['obj_id'] for expression in expressions} - {None})
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
        images, masks = self.data_prefix['img'], self.data_prefix['mask']
        require(images, f'the frames of the split {self.split!r}')
        _require_folders(expressions, images, _folders(images))
        if not self.test_mode:
            require(masks, f'the masks of the split {self.split!r}')
            _require_folders(expressions, masks, _folders(masks))
            return set(expressions)
        known = {
            v for v, found in expressions.items() if any(exp['obj_id'] is not None for exp in found)
        }
        return known & _folders(masks)

    def _add_labels(self, expressions: dict[str, list[dict]]) -> None:
        """Look up the label of each expression's object."""
        classes = self.classes or self.metainfo.get('classes', 'meta')
        categories = self._read_categories()
        if classes == 'meta':
            names = {name for objects in categories.values() for name in objects.values()}
            classes = sorted(names)
        self._metainfo['classes'] = tuple(classes)
        if not categories:
            return
        label_of = {name: label for label, name in enumerate(classes)}
        for expression in (exp for found in expressions.values() for exp in found):
            video_id, obj_id = expression['video_id'], expression['obj_id']
            if obj_id is None:
                continue
            where = f'videos.{video_id}.objects.{obj_id}.category'
            objects = _get(categories, video_id, self.meta_file, f'videos.{video_id}')
            category = _get(objects, obj_id, self.meta_file, where)
            if category not in label_of:
                raise ValueError(
                    f'{self.meta_file}: {where} is {category!r}, not one of the {len(classes)} '
                    f"classes ({_some(classes)}). Pass classes=[...], or classes='meta' to use "
                    'those of the file.'
                )
            expression['label'] = label_of[category]

    def _read_categories(self) -> dict[str, dict[int, str]]:
        """Category of each object: video -> object id -> name; empty where there is no such
        file."""
        if self.meta_file is None or (self.test_mode and not Path(self.meta_file).exists()):
            return {}
        require(self.meta_file, 'the categories of the objects; meta_file=None does without')
        categories = {}
        for video_id, video in read_videos(self.meta_file).items():
            where = f'videos.{video_id}.objects'
            objects = _get(video, 'objects', self.meta_file, where)
            if not isinstance(objects, dict) or not all(map(str.isdecimal, objects)):
                raise ValueError(f'{self.meta_file}: {where} must map object ids to objects')
            categories[video_id] = {
                int(obj_id): _get(entry, 'category', self.meta_file, f'{where}.{obj_id}.category')
                for obj_id, entry in objects.items()
            }
        return categories


def clean_text(text: Any, where: str) -> str:
    """An expression in lower case with single spaces.

    Args:
        text: As the annotation file has it.
        where: File and place, for the message.

    Raises:
        ValueError: It is not a string, or has no words.
    """
    text = ' '.join(text.lower().split()) if isinstance(text, str) else ''
    if not text:
        raise ValueError(f'{where} is empty. Give it a sentence, or remove it.')
    return text


def read_videos(path: str | Path) -> dict[str, dict]:
    """The object under ``videos`` in a JSON file of the published layout.

    Raises:
        FileNotFoundError: Naming what is there instead.
        ValueError: Naming the position in the file, or the key.
    """
    require(path, 'a file of the published layout')
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is not valid JSON: {error}. Get the file again.') from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}. '
            'The file may be incomplete: get it again.'
        ) from error
    videos = _get(content, 'videos', path, 'videos')
    if not isinstance(videos, dict):
        raise ValueError(
            f'{path}: videos must map video ids to videos, not be a {type(videos).__name__}'
        )
    return videos


def require(path: str | Path, what: str) -> None:
    """Raise FileNotFoundError where ``path`` does not exist, saying what its nearest parent
    holds."""
    path = Path(path)
    if path.exists():
        return
    parent = next(p for p in path.absolute().parents if p.exists())
    there = _some(sorted(p.name for p in parent.iterdir())) if parent.is_dir() else 'no folder'
    raise FileNotFoundError(
        f'{path} not found: {what}. {parent} holds: {there or "nothing"}. '
        'Check data_root and the layout (README, Data).'
    )


def _get(mapping: Any, key: Any, path: str | Path | None, where: str) -> Any:
    """``mapping[key]``, or ValueError naming the file and the place in it."""
    if not isinstance(mapping, dict) or key not in mapping:
        raise ValueError(f'{path}: {where} is missing')
    return mapping[key]


def _folders(path: str) -> set[str]:
    return {entry.name for entry in Path(path).iterdir()} if Path(path).is_dir() else set()


def _require_folders(video_ids: Iterable[str], path: str, found: set[str]) -> None:
    missing = [video_id for video_id in video_ids if video_id not in found]
    if missing:
        raise FileNotFoundError(
            f'{path} lacks the folders of {len(missing)} videos: {_some(missing)}. '
            'The archive may be extracted in part: extract it again.'
        )


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f', ... ({len(names)} in all)' if len(names) > limit else ''
    return ', '.join(map(str, names[:limit])) + more
