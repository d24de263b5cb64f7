"""A small file in COCO's format as a data set, from masks to packed samples."""

import json

import cv2
import numpy as np
import pytest
from fixtures_instances import SIZE, mask, write_pictures
from mmengine.registry import init_default_scope

from referformer.datasets import InstanceSentences
from referformer.registry import DATASETS


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / 'pictures')


def make(folder, split='train', absent=0.0, transforms=(), **options) -> InstanceSentences:
    init_default_scope('referformer')
    pipeline = [
        {'type': 'LoadInstances'},
        *transforms,
        {'type': 'WriteSentence', 'absent': absent},
        {'type': 'PackClip'},
    ]
    options = {'type': 'InstanceSentences', 'split': split, 'pipeline': pipeline, **options}
    return DATASETS.build({**options, 'data_root': str(folder)})


def test_masks_are_those_of_the_sentence(folder):
    dataset = make(folder)
    np.random.seed(0)
    assert len(dataset) == 3
    for _ in range(100):
        sample = dataset[1]['data_samples']
        found = sample.gt_instances.masks[0, 0].numpy()
        if 'left' in sample.text:
            np.testing.assert_array_equal(found, mask(5, 20))
        elif 'right' in sample.text:
            np.testing.assert_array_equal(found, mask(50, 20))
        else:
            assert sample.kind in ('all', 'count')
            np.testing.assert_array_equal(found, mask(5, 20) | mask(50, 20))


def test_a_flip_comes_before_the_sentence(folder):
    dataset = make(folder, transforms=[{'type': 'RandomFlip', 'prob': 1.0}])
    np.random.seed(0)
    texts = set()
    for _ in range(60):
        sample = dataset[1]['data_samples']
        columns = np.flatnonzero(sample.gt_instances.masks[0, 0].numpy().any(0))
        if sample.kind == 'place':
            assert ('left' in sample.text) == (columns.mean() < SIZE[1] / 2)
            texts.add('left' in sample.text)
    assert texts == {True, False}


def test_what_is_incomplete_is_neither_named_nor_absent(folder):
    dataset = make(folder, absent=0.5)
    np.random.seed(0)
    kinds = set()
    for _ in range(100):
        sample = dataset[2]['data_samples']
        assert not {'cat', 'kitty', 'kitten', 'tabby'} & set(sample.text.replace(',', '').split())
        kinds.add(sample.kind)
        valid = sample.gt_instances.valid.item()
        assert valid == bool(sample.gt_instances.masks.any()) == (sample.kind != 'absent')
    assert kinds == {'unique', 'absent'}


def test_the_sentences_of_the_validation_are_always_the_same(folder):
    first, second = (make(folder, 'val') for _ in range(2))
    items = [(x['data_samples'].text, x['data_samples'].exp_id) for x in first]
    assert items == [(x['data_samples'].text, x['data_samples'].exp_id) for x in second]
    expected = [(x['data_samples'].video_id, x['data_samples'].exp_id) for x in first]
    assert first.metainfo['expected'] == expected
    places = [x['data_samples'] for x in first if x['data_samples'].kind == 'place']
    assert places
    for sample in places:  # the other dog is the control
        both = sample.gt_instances.masks[0] | sample.gt_control.masks[0]
        np.testing.assert_array_equal(both[0].numpy(), mask(5, 20) | mask(50, 20))
    only = make(folder, 'val', kinds=('absent',))
    assert {x['data_samples'].kind for x in only} == {'absent'} and len(only) == 3


def test_two_pictures_become_one(folder):
    dataset = make(folder, join=1.0)
    np.random.seed(0)
    shapes = set()
    for _ in range(40):
        packed = dataset[0]
        shapes.add(tuple(packed['inputs'].shape[-2:]))
        assert packed['data_samples'].gt_instances.masks.shape[-2:] == packed['inputs'].shape[-2:]
    assert shapes == {(2 * SIZE[0], SIZE[1])}  # wide ones: one above the other


def test_bad_files_are_named(folder):
    (folder / 'images' / 'one.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'one\.png'):
        make(folder, 'val')
    content = json.loads((folder / 'instances_val.json').read_text())
    del content['annotations']
    (folder / 'instances_val.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='annotations'):
        make(folder, 'val')
    with pytest.raises(FileNotFoundError, match='instances_test'):
        make(folder, 'test')


def test_a_picture_of_another_size_than_its_masks_is_an_error(folder):
    cv2.imwrite(str(folder / 'images' / 'two.png'), np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(ValueError, match=r'two\.png has height and width \(30, 30\)'):
        make(folder, 'val')
