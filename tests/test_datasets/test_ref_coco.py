"""RefCOCO, RefCOCO+ and RefCOCOg, as converted, and the masks of COCO annotations."""

import json
import shutil

import numpy as np
import pytest
from fixtures_refcoco import CATEGORIES, GREY, ROTATED, SIZES, write_refcoco
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

from referformer.datasets import RefCOCO
from referformer.registry import DATASETS
from referformer.structures.run_lengths import decode_mask

LOAD = [{'type': 'SampleFrames', 'mode': 'all'}, {'type': 'LoadFrames'}, {'type': 'LoadCocoMask'}]


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return write_refcoco(tmp_path_factory.mktemp('refcoco'))


@pytest.fixture
def changed(coco, tmp_path):
    """Writes a changed copy of the annotation file of RefCOCO's train split: the new root."""
    (tmp_path / 'train2014').symlink_to(coco / 'train2014')
    content = json.loads((coco / 'refcoco' / 'instances_refcoco_train.json').read_text())

    def write(change):
        change(content)
        (tmp_path / 'refcoco').mkdir()
        path = tmp_path / 'refcoco' / 'instances_refcoco_train.json'
        path.write_text(json.dumps(content))
        return tmp_path

    return write


@pytest.mark.parametrize('name', ['refcoco', 'refcoco+', 'refcocog'])
def test_there_is_one_item_for_each_expression(coco, name):
    dataset = RefCOCO(coco, name, split='val')
    assert len(dataset) == 4 * len(SIZES)
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    texts = [item['text'] for item in items]
    assert texts == ["man's hat on the left", 'right café table'] * (2 * len(SIZES))
    assert dataset.metainfo['expected'] == [(i['video_id'], i['exp_id']) for i in items]
    assert len(set(dataset.metainfo['expected'])) == len(items)
    assert {item['label'] for item in items} == set(CATEGORIES)
    assert [dataset.metainfo['classes'][i] for i in CATEGORIES] == list(CATEGORIES.values())
    assert len({item['obj_id'] for item in items}) == 2 * len(SIZES)
    assert len(dataset.objects) == 2 * len(SIZES)  # two expressions share one


def test_images_masks_and_boxes_are_those_of_the_annotations(coco):
    dataset = RefCOCO(coco, pipeline=LOAD)
    content = json.loads((coco / 'refcoco' / 'instances_refcoco_train.json').read_text())
    for item, image, annotation in zip(dataset, content['images'], content['annotations']):
        height, width = image['height'], image['width']
        assert item['imgs'].shape == (1, height, width, 3)
        assert item['masks'].shape == (1, 1, height, width) and item['masks'].dtype == bool
        x, y, w, h = annotation['bbox']
        expected = np.clip([x, y, x + w, y + h], 0, [width, height, width, height])
        np.testing.assert_allclose(item['boxes'][0, 0], expected, rtol=1e-6)
        assert item['valid'].shape == (1, 1) and item['valid'].all()
        # The object has its own colour in the fixture, apart from the gap between its two parts.
        rows, columns = np.where(item['masks'][0, 0])
        inside = item['imgs'][0, rows, columns].astype(int)
        distance = np.abs(inside - np.median(inside, axis=0)).max(-1)
        assert (distance < 60).mean() > 0.8
        area = annotation['area']
        gap = 0 if annotation['iscrowd'] or len(annotation['segmentation']) == 1 else 6 * h
        assert abs(item['masks'].sum() - (area - gap)) < 0.15 * area


def test_grey_images_have_three_channels_and_rotation_tags_are_ignored(coco):
    dataset = RefCOCO(coco, pipeline=LOAD)
    grey, rotated = dataset[4 * GREY], dataset[4 * ROTATED]
    assert Image.open(coco / 'train2014' / f'{grey["frame_names"][0]}.jpg').mode == 'L'
    assert (grey['imgs'] == grey['imgs'][..., :1]).all()
    path = coco / 'train2014' / f'{rotated["frame_names"][0]}.jpg'
    assert Image.open(path).getexif()[0x0112] == 6
    assert rotated['ori_shape'] == SIZES[ROTATED]


def test_polygons_keep_all_their_digits(changed):
    polygon = [[10.123456789, 5.5, 40.25, 5.01, 40.33, 30.07], [1, 2, 3, 4]]

    def change(content):
        content['annotations'][0]['segmentation'] = polygon
        content['annotations'][1]['segmentation'] = [[0.1, 5.55, 40.25, 5.01, 40.33, 30.07]]

    dataset = RefCOCO(changed(change))
    found = [dataset.get_data_info(i)['annotation']['segmentation'] for i in range(2)]
    assert found[0] == polygon[:1]  # two points are no polygon
    assert found[1] == [[0.1, 5.55, 40.25, 5.01, 40.33, 30.07]]


def test_polygons_run_lengths_and_their_union_give_one_mask():
    polygons = [[2.0, 3.0, 30.0, 3.0, 30.0, 20.0], [25.0, 10.0, 38.0, 10.0, 38.0, 28.0]]
    runs = coco_mask.frPyObjects(polygons, 30, 40)
    union = np.any([coco_mask.decode(r) for r in runs], axis=0)
    assert union.sum() < sum(coco_mask.area(r) for r in runs)  # they overlap
    np.testing.assert_array_equal(decode_mask(polygons, (30, 40)), union)
    merged = coco_mask.merge(runs)
    np.testing.assert_array_equal(decode_mask(merged, (30, 40)), union)
    text = {'size': [30, 40], 'counts': merged['counts'].decode()}
    np.testing.assert_array_equal(decode_mask(text, (30, 40)), union)
    flat = union.T.ravel()
    counts = np.diff([0, *np.flatnonzero(np.diff(flat)) + 1, flat.size]).tolist()
    np.testing.assert_array_equal(
        decode_mask({'size': [30, 40], 'counts': counts}, (30, 40)), union
    )


def test_boxes_are_cut_to_the_image_and_one_outside_is_not_valid(changed):
    def change(content):
        content['annotations'][0]['bbox'] = [-5, -5, 1000, 30]
        content['annotations'][1]['bbox'] = [83, 2, 10, 10]

    dataset = RefCOCO(changed(change), pipeline=LOAD)
    assert dataset[0]['boxes'].tolist() == [[[0, 0, 83, 25]]]
    assert dataset[0]['valid'].all() and not dataset[1]['valid'].any()


def test_the_three_datasets_are_trained_on_together(coco):
    init_default_scope('referformer')
    names = ('refcoco', 'refcoco+', 'refcocog')
    datasets = [{'type': 'RefCOCO', 'data_root': str(coco), 'name': name} for name in names]
    together = DATASETS.build({'type': 'ConcatDataset', 'datasets': datasets})
    assert len(together) == 3 * 4 * len(SIZES)


def drop(entry, key):
    return lambda content: content[entry][0].pop(key)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda c: c['annotations'].pop(0), r'images\[0\] \(id 0\) has 0 annotations'),
        (lambda c: c['annotations'][1].update(image_id=0), r'\(id 0\) has 2 annotations'),
        (drop('annotations', 'segmentation'), 'annotation of image 0 lacks segmentation'),
        (drop('annotations', 'image_id'), r'annotations\[0\] lacks image_id'),
        (drop('images', 'caption'), r'images\[0\] lacks caption'),
        (lambda c: c['images'][2].update(caption=' \n'), 'caption of image 2 is empty'),
        (lambda c: c.pop('images'), 'images must be a list'),
        (lambda c: c.update(images=[]), 'has no expressions'),
        (lambda c: c['images'].append(c['images'][0]), 'some with the same id'),
        (lambda c: c['annotations'][0].update(bbox=[1, 2]), 'image 0 cannot be used: bbox has 2'),
        (lambda c: c['annotations'][0].update(segmentation=[[1, 2, 3, 4]]), 'has no polygon of'),
        (lambda c: c['annotations'][0].update(segmentation=[]), 'has no polygon of'),
        (
            lambda c: c['annotations'][0].update(segmentation={'size': [1, 2], 'counts': [2]}),
            r'run lengths are for \[1, 2\], not \(61, 83\)',
        ),
    ],
)
def test_bad_annotations_are_named(changed, change, message):
    root = changed(change)
    with pytest.raises(ValueError, match=message) as error:
        RefCOCO(root)
    assert 'instances_refcoco_train.json' in str(error.value)


def test_few_bad_expressions_are_left_out_of_training_alone(changed):
    root = changed(lambda content: content['images'][2].update(caption=''))
    dataset = RefCOCO(root, max_broken=0.1)
    assert len(dataset) == 4 * len(SIZES) - 1
    assert '2' not in [dataset.get_data_info(i)['exp_id'] for i in range(len(dataset))]
    with pytest.raises(ValueError, match='In all, 1 of 16 expressions cannot be used'):
        RefCOCO(root, max_broken=0.05)
    with pytest.raises(ValueError, match='caption of image 2 is empty'):
        RefCOCO(root, max_broken=0.1, test_mode=True)


def test_missing_images_are_errors_in_testing_and_replaced_in_training(coco, tmp_path):
    (tmp_path / 'refcoco').symlink_to(coco / 'refcoco')
    shutil.copytree(coco / 'train2014', tmp_path / 'train2014')
    next((tmp_path / 'train2014').glob('*1000.jpg')).unlink()
    with pytest.raises(FileNotFoundError, match=r'000001000\.jpg not found'):
        RefCOCO(tmp_path, split='val', pipeline=LOAD)[0]
    dataset = RefCOCO(tmp_path, pipeline=LOAD)
    assert dataset[0]['video_id'] != 'COCO_train2014_000000001000'


def test_wrong_paths_and_names_are_named(coco, tmp_path):
    with pytest.raises(ValueError, match="refcoco, refcoco\\+, refcocog, not 'coco'"):
        RefCOCO(coco, 'coco')
    with pytest.raises(FileNotFoundError, match=r'testC.json not found.*instances_refcoco_testA'):
        RefCOCO(coco, split='testC')
    with pytest.raises(FileNotFoundError, match='the images of COCO train2014'):
        RefCOCO(tmp_path)
    (tmp_path / 'train2014').mkdir()
    (tmp_path / 'refcoco').mkdir()
    (tmp_path / 'refcoco' / 'instances_refcoco_train.json').write_text('{"images": [')
    with pytest.raises(ValueError, match=r'instances_refcoco_train\.json is not valid JSON'):
        RefCOCO(tmp_path)


def test_another_image_than_the_annotated_one_is_named(changed):
    root = changed(lambda c: c['images'][0].update(height=99))
    dataset = RefCOCO(root, test_mode=True, pipeline=LOAD)
    with pytest.raises(ValueError, match=r'1000\.jpg has height and width \(61, 83\).*\(99, 83\)'):
        dataset[0]
