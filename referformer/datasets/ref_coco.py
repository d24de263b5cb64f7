"""RefCOCO, RefCOCO+ and RefCOCOg: expressions for objects in COCO images."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from referformer.errors import raised_in
from referformer.files import advised, read_json
from referformer.registry import DATASETS

from .annotation_files import clean_text, integer, require
from .base import RVOSDataset
from .records import Records

NAMES = ('refcoco', 'refcoco+', 'refcocog')
_MOST_CATEGORIES = 10_000
_CONVERT = f'{advised("tools/dataset_tools/convert_refcoco.py")} makes it'


@DATASETS.register_module()
class RefCOCO(RVOSDataset):
    """RefCOCO and RefCOCO+ (Yu et al. 2016), RefCOCOg (Mao et al. 2016): images as videos of one
    frame.

    The annotation file is COCO's with one image entry, and one annotation, for each expression, as
    ``tools/dataset_tools/convert_refcoco.py`` writes it::

        <data_root>/train2014/COCO_train2014_<id>.jpg
        <data_root>/<name>/instances_<name>_<split>.json
            images: [{id, file_name, height, width, caption}]
            annotations: [{id, image_id, bbox, segmentation, category_id}]

    There is one item for each expression. Its ``video_id`` is the name of the image, its ``exp_id``
    the id of the image entry, its ``label`` the category id of COCO (1 to 90), its ``obj_id`` the
    ``original_id`` of the annotation. ``annotation`` (``size``, ``bbox``, ``segmentation``) is for
    ``LoadCocoMask``; for the rest see :class:`RVOSDataset`.

    Args:
        data_root: Folder of COCO.
        name: 'refcoco', 'refcoco+' or 'refcocog'.
        split: 'train', 'val', 'testA' and 'testB', or 'test' (RefCOCOg).
        test_mode: By default for every split but 'train'.
        ann_file: Below ``data_root``; ``{name}`` and ``{split}`` are replaced.
        data_prefix: Folder of the images (key ``img``), below ``data_root``.
        pipeline: Transforms or their configs.
        max_broken: See :class:`RVOSDataset`.
        kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: Where the annotation file or the folder of the images is missing.
        ValueError: Where the file is malformed, or an expression is empty or has not one object; in
            training, past ``max_broken``.
    """

    def __init__(
        self,
        data_root: str,
        name: str = 'refcoco',
        split: str = 'train',
        test_mode: bool | None = None,
        ann_file: str = '{name}/instances_{name}_{split}.json',
        data_prefix: Mapping[str, str] | None = None,
        pipeline: Sequence[dict | Callable] = (),
        max_broken: float = 0.01,
        **kwargs: Any,
    ) -> None:
        if name not in NAMES:
            raise ValueError(f'name must be one of {", ".join(NAMES)}, not {name!r}')
        self.name = name
        self.objects: Records | None = None
        super().__init__(
            data_root,
            split=split,
            num_frames=1,
            test_mode=test_mode,
            ann_file=ann_file.format(name=name, split=split),
            data_prefix={'img': 'train2014', **(data_prefix or {})},
            meta_file=None,
            pipeline=pipeline,
            max_broken=max_broken,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read and check the file; one short dict for each expression, its object in
        ``objects``."""
        require(self.data_prefix['img'], 'the images of COCO train2014')
        content = _read_json(self.ann_file)
        objects = _Objects()
        parse = partial(self._parse_image, self._annotations_by_image(content), objects)
        items = self._usable(enumerate(content['images']), parse)
        self._judge_unusable(len(items))
        if len({item['exp_id'] for item in items}) < max(len(items), 1):
            raise ValueError(
                f'{self.ann_file} has no expressions, or some with the same id. {_CONVERT}.'
            )
        self.objects = Records(objects.records)
        self._metainfo['classes'] = _class_names(content, self.ann_file)
        images = len({item['file'] for item in items})
        print_log(
            f'{type(self).__name__} {self.name} {self.split}: {len(items)} expressions for '
            f'{len(self.objects)} objects of {images} images',
            'current',
        )
        return items

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        info = BaseDataset.get_data_info(self, idx)
        file = Path(info.pop('file'))
        info.update(
            video_id=file.stem,
            kind=None,
            frame_names=[file.stem],
            img_dir=self.data_prefix['img'],
            img_suffix=file.suffix,
            annotation=_decode(self.objects[info.pop('object')]),
        )
        return info

    def _annotations_by_image(self, content: dict) -> dict[Any, list[dict]]:
        for key in ('images', 'annotations'):
            if not isinstance(content.get(key), list):
                raise ValueError(
                    f'{self.ann_file}: {key} must be a list, as in files of COCO. {_CONVERT}.'
                )
        by_image: dict[Any, list[dict]] = {}
        for position, annotation in enumerate(content['annotations']):
            where = f'{self.ann_file}: annotations[{position}]'
            (image_id,) = _fields(annotation, ('image_id',), where)
            by_image.setdefault(_id(image_id, where), []).append(annotation)
        return by_image

    def _parse_image(
        self, annotations: dict[Any, list[dict]], objects: '_Objects', position: int, image: dict
    ) -> dict:
        where = f'{self.ann_file}: images[{position}]'
        image_id, file_name, height, width, text = _fields(
            image, ('id', 'file_name', 'height', 'width', 'caption'), where
        )
        found = annotations.get(_id(image_id, where), [])
        if not isinstance(file_name, str) or not file_name:
            raise ValueError(f'{where}: file_name must be a name, not {file_name!r}')
        size = tuple(integer(side, f'{where}: height and width', 1) for side in (height, width))
        if len(found) != 1:
            raise ValueError(
                f'{where} (id {image_id}) has {len(found)} annotations, but an expression refers '
                'to one object: one image entry and one annotation for each expression are '
                f'expected. {_CONVERT}.'
            )
        where = f'{self.ann_file}: the annotation of image {image_id}'
        bbox, segmentation, category = _fields(
            found[0], ('bbox', 'segmentation', 'category_id'), where
        )
        obj_id = _id(found[0].get('original_id', found[0].get('id')), where)
        return {
            'exp_id': str(image_id),
            'text': clean_text(text, f'{self.ann_file}: caption of image {image_id}'),
            'label': integer(category, f'{where}: category_id', most=_MOST_CATEGORIES),
            'obj_id': obj_id,
            'file': file_name,
            'object': objects.add(obj_id, size, bbox, segmentation, where),
        }


class _Objects:
    """The objects of a file as records; expressions about one object share its record."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self._places: dict[Any, tuple[tuple, int]] = {}

    def add(self, obj_id: Any, size: tuple, bbox: Any, segmentation: Any, where: str) -> int:
        """The place of its record."""
        shape = size, bbox, segmentation
        if obj_id not in self._places or self._places[obj_id][0] != shape:
            self.records.append(_encode(*shape, where))
            self._places[obj_id] = shape, len(self.records) - 1
        return self._places[obj_id][1]


def _encode(size: tuple, bbox: Any, segmentation: Any, where: str) -> bytes:
    """What ``LoadCocoMask`` needs, in few bytes."""
    try:
        box = tuple(float(value) for value in bbox)
        if len(box) != 4:
            raise ValueError(f'bbox has {len(box)} numbers, not 4')
        if isinstance(segmentation, Mapping):
            if tuple(segmentation['size']) != size:
                raise ValueError(f'the run lengths are for {segmentation["size"]}, not {size}')
        else:
            # Two numbers of a polygon are a point; fewer than three points have no area.
            polygons = [p for p in segmentation if len(p) >= 6 and len(p) % 2 == 0]
            if not polygons:
                raise ValueError('the segmentation has no polygon of three points or more')
            segmentation = [_pack(polygon) for polygon in polygons]
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        reason = error if raised_in(error) else 'something in it is no number'
        raise ValueError(f'{where} cannot be used: {reason}. Get or convert it again.') from error
    return pickle.dumps((size, box, segmentation), pickle.HIGHEST_PROTOCOL)


def _decode(record: bytes) -> dict[str, Any]:
    size, box, segmentation = pickle.loads(record)
    if isinstance(segmentation, list):
        segmentation = [_unpack(*polygon) for polygon in segmentation]
    return {'size': size, 'bbox': box, 'segmentation': segmentation}


def _pack(polygon: Sequence[float]) -> tuple[str, bytes]:
    """Coordinates without a loss: published ones have two decimals and fit in four bytes each."""
    exact = np.asarray(polygon, np.float64)
    hundredths = np.rint(exact * 100).astype(np.int32)
    values = hundredths if np.array_equal(hundredths / 100, exact) else exact
    return values.dtype.str, values.tobytes()


def _unpack(dtype: str, content: bytes) -> list[float]:
    values = np.frombuffer(content, dtype)
    return (values / 100 if values.dtype == np.int32 else values).tolist()


def _class_names(content: dict, path: str) -> tuple[str, ...]:
    """Category names at the places of their ids, empty where COCO has none."""
    names = {}
    for position, entry in enumerate(content.get('categories', ())):
        where = f'{path}: categories[{position}]'
        number, name = _fields(entry, ('id', 'name'), where)
        names[integer(number, f'{where}.id', most=_MOST_CATEGORIES)] = str(name)
    return tuple(names.get(number, '') for number in range(max(names, default=-1) + 1))


def _id(value: Any, where: str) -> int | str | None:
    if value is not None and type(value) not in (int, str):
        raise ValueError(f'{where} has an id that is neither a number nor a name: {value!r}')
    return value


def _fields(entry: Any, keys: Sequence[str], where: str) -> list:
    """The values of the keys, or ValueError naming the place and those that are missing."""
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f'{where} lacks {", ".join(missing)}. {_CONVERT}.')
    return [entry[key] for key in keys]


def _read_json(path: str) -> dict:
    require(path, f'the annotation file; {_CONVERT}')
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f'{path} must hold an object as files of COCO do. {_CONVERT}.')
    return content
