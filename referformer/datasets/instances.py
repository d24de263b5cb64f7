"""Expressions made of COCO-format instances: pictures with masks, without a sentence."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from referformer.errors import well_formed
from referformer.files import read_json
from referformer.registry import DATASETS, TRANSFORMS, build

from .annotation_files import check_names, get_entry, integer, require
from .scene import describe
from .scene_sentences import absent_sentence, true_sentences
from .scene_words import ANIMALS
from .tolerant import TolerantDataset
from .transforms.instances import LoadInstances

_VOC = (
    'airplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'dining table', 'dog', 'horse', 'motorcycle', 'person', 'potted plant', 'sheep', 'couch',
    'train', 'tv',
)  # fmt: skip
_COCO = (  # but for those above
    'truck', 'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'backpack',
    'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'wine glass',
    'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli',
    'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'bed', 'toilet', 'laptop', 'mouse', 'remote',
    'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
    'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
)  # fmt: skip
_MACHINES = ('airplane', 'train', 'boat', 'bus')


@DATASETS.register_module()
class InstanceSentences(TolerantDataset):
    """Pictures with masks of their objects; the sentences are made while training.

    The annotation file is COCO's; besides, an image may have ``incomplete``, ids of categories of
    which an object has no mask, ``drawing`` and ``source``, and an annotation ``group``: several
    objects in one mask (``iscrowd`` counts as that)::

        <data_root>/images/<file_name>
        <data_root>/instances_<split>.json

    In training there is one item for each picture, with a second picture by chance: ``pictures``,
    one or two dicts for ``LoadInstances``. In testing there is one item for each sentence, which
    are always the same: ``sentence``. The ``video_id`` is the name of the picture.

    Args:
        data_root: Folder.
        split: 'train', 'val'.
        test_mode: By default for every split but 'train'.
        ann_file: Below ``data_root``.
        sources: Only pictures of these, each so many times in training: ``{'voc': 2}``. None: all
            once.
        known: Categories of which every object of a picture has a mask, by its source: of those
            without a mask none is there. By default those of :data:`KNOWN`. Of a source that it
            lacks only what has a mask is known, of a picture without source all categories.
        join: Probability of a second picture in training.
        kinds: In testing, only sentences of these kinds.
        pipeline: Transforms or their configs.
        kwargs: Further arguments of :class:`TolerantDataset`.

    Raises:
        FileNotFoundError: Where the annotation file or the folder of the images is missing.
        ValueError: Where the file is malformed or leaves no picture.
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        test_mode: bool | None = None,
        ann_file: str = 'instances_{split}.json',
        sources: Mapping[str, int] | None = None,
        known: Mapping[str, Sequence[str]] | None = None,
        join: float = 0.0,
        kinds: Sequence[str] | None = None,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs: Any,
    ) -> None:
        self.sources = sources
        self.known = KNOWN if known is None else known
        self.join = join
        self.kinds = kinds
        self.pictures: list[dict] = []
        super().__init__(
            data_root=str(data_root),
            ann_file=ann_file.format(split=split),
            data_prefix={'img': 'images'},
            pipeline=[build(transform, TRANSFORMS) for transform in pipeline],
            test_mode=split != 'train' if test_mode is None else test_mode,
            serialize_data=False,
            **kwargs,
        )

    def full_init(self) -> None:
        """Load; in testing, note in the metainfo what a metric has to score."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.test_mode:
            names = [Path(picture['file']).stem for picture in self.pictures]
            items = (super(InstanceSentences, self).get_data_info(i) for i in range(len(self)))
            self._metainfo['expected'] = [(names[i['picture']], i['exp_id']) for i in items]

    def load_data_list(self) -> list[dict]:
        """Read and check the file."""
        require(self.data_prefix['img'], 'the pictures')
        require(self.ann_file, 'the masks of the pictures, in the format of COCO')
        with well_formed(self.ann_file, "a file of COCO's form, as InstanceSentences reads it"):
            self.pictures = self._read_pictures(read_json(self.ann_file))
        if self.test_mode:
            items = [item for i in range(len(self.pictures)) for item in self._test_items(i)]
        else:
            times = self.sources or {}
            items = [
                {'picture': i}
                for i, picture in enumerate(self.pictures)
                for _ in range(times.get(picture['source'], 1))
            ]
        if not items:
            raise ValueError(f'{self.ann_file} leaves nothing to use: sources={self.sources}')
        print_log(
            f'{type(self).__name__}: {len(items)} items of {len(self.pictures)} pictures', 'current'
        )
        return items

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        item = dict(super().get_data_info(idx))
        picture = self.pictures[item.pop('picture')]
        pictures = [picture]
        if not self.test_mode and np.random.rand() < self.join:
            pictures.append(self._partner(picture))
        name = Path(picture['file']).stem
        return {
            'video_id': name,
            'exp_id': None,
            'text': '',
            'kind': None,
            'frame_names': [name],
            'img_dir': self.data_prefix['img'],
            **item,
            'pictures': pictures,
        }

    def _partner(self, picture: dict) -> dict:
        """Another picture; every other time one with a thing of the same category, so that place,
        size or colour tells them apart."""
        others = self.pictures
        if picture['categories'] and np.random.rand() < 0.5:
            category = np.random.choice(picture['categories'])
            others = [other for other in others if category in other['categories']]
        others = [other for other in others if other is not picture] or others
        return others[np.random.randint(len(others))]

    def _test_items(self, index: int) -> list[dict]:
        """All sentences about one picture, and one about what is not there."""
        picture = self.pictures[index]
        loaded = LoadInstances()({'pictures': [picture], 'img_dir': self.data_prefix['img']})
        scene, kept = describe(
            loaded['imgs'][0],
            loaded['masks'][:, 0],
            loaded['categories'],
            loaded['groups'],
            loaded['complete'],
        )
        rng = np.random.RandomState(index)
        sentences = [*true_sentences(scene, rng), absent_sentence(scene, rng)]
        return [
            {
                'picture': index,
                'exp_id': str(number),
                'sentence': sentence._replace(
                    things=tuple(kept[i] for i in sentence.things),
                    control=tuple(kept[i] for i in sentence.control),
                ),
            }
            for number, sentence in enumerate(sentences)
            if sentence and (self.kinds is None or sentence.kind in self.kinds)
        ]

    def _read_pictures(self, content: dict) -> list[dict]:
        names = {
            entry['id']: entry['name']
            for entry in get_entry(content, 'categories', self.ann_file, 'categories')
        }
        pictures = {}
        for image in get_entry(content, 'images', self.ann_file, 'images'):
            source = image.get('source')
            if image.get('drawing') or (self.sources and source not in self.sources):
                continue
            check_names([Path(image['file_name']).stem], f'{self.ann_file}: the name of a picture')
            pictures[image['id']] = {
                'file': image['file_name'],
                'size': (
                    integer(image['height'], 'height', 1),
                    integer(image['width'], 'width', 1),
                ),
                'source': source,
                'incomplete': [names[i] for i in image.get('incomplete', ())],
                'segmentations': [],
                'categories': [],
                'groups': [],
            }
        for annotation in get_entry(content, 'annotations', self.ann_file, 'annotations'):
            picture = pictures.get(annotation['image_id'])
            if picture is not None:
                picture['segmentations'].append(annotation['segmentation'])
                picture['categories'].append(names[annotation['category_id']])
                picture['groups'].append(bool(annotation.get('group') or annotation.get('iscrowd')))
        for picture in pictures.values():
            known = self.known.get(picture['source'], [] if picture['source'] else names.values())
            complete = {*known, *picture['categories']} - {*picture.pop('incomplete')}
            picture['complete'] = sorted(complete)
        return list(pictures.values())


def _without(names: Sequence[str], *left_out: str) -> tuple[str, ...]:
    return tuple(name for name in names if name not in left_out)


# What a picture of a source shows, it has masks of, if it is one of these. Those outside the
# source's own list are what its pictures never show: no zebra walks through a fashion blog.
KNOWN = {
    'coco': (*_VOC, *ANIMALS, *_COCO),
    'voc': (*_VOC, *_without(ANIMALS, *_VOC)),
    'ccp': ('person', *_without(ANIMALS, 'dog', 'bird'), *_MACHINES),
    'cats': (*_without(ANIMALS, 'dog', 'bird'), *_MACHINES, 'motorcycle'),
    'wild4': (*_without(ANIMALS, 'bird', 'horse', 'cow', 'sheep'), *_MACHINES, 'couch', 'tv'),
    'animal63': (*_without(ANIMALS, 'bird', 'dog'), *_MACHINES, 'couch', 'tv'),
}
