"""Ref-YouTube-VOS: its splits, and the whole way from files to packed clips."""

import logging

import numpy as np
import pytest
import torch
from fixtures_rvos import write_ref_youtube_vos
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from referformer.datasets import RefYouTubeVOS
from referformer.registry import DATASETS

TRAIN_PIPELINE = [
    {'type': 'SampleFrames', 'num_frames': 5},
    {'type': 'LoadFrames'},
    {'type': 'LoadMasks'},
    {'type': 'RandomFlip', 'prob': 0.5},
    {'type': 'PhotometricDistort'},
    {
        'type': 'RandomChoice',
        'transforms': [
            [{'type': 'RandomResize', 'scales': [32, 40, 48], 'max_size': 60}],
            [
                {'type': 'RandomResize', 'scales': [50, 60]},
                {'type': 'RandomCrop', 'min_size': 40, 'max_size': 60},
                {'type': 'RandomResize', 'scales': [32, 40, 48], 'max_size': 60},
            ],
        ],
    },
    {'type': 'FilterVisible'},
    {'type': 'PackClip'},
]
TEST_PIPELINE = [
    {'type': 'SampleFrames', 'mode': 'all'},
    {'type': 'LoadFrames'},
    {'type': 'LoadMasks', 'with_control': True},
    {'type': 'Resize', 'shorter': 24, 'resize_masks': False},
    {'type': 'PackClip'},
]


@pytest.fixture
def messages():
    """What is logged, as a list that fills."""
    found = []

    class Collect(logging.Handler):
        def emit(self, record):
            found.append((record.levelno, record.getMessage()))

    handler = Collect()
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def video_ids(dataset):
    return sorted({dataset.get_data_info(i)['video_id'] for i in range(len(dataset))})


def build(root, **kwargs):
    config = {'type': 'RefYouTubeVOS', 'data_root': str(root), **kwargs}
    return DATASETS.build(config)


def test_published_classes():
    classes = RefYouTubeVOS.METAINFO['classes']
    assert len(classes) == 65
    assert list(classes) == sorted(set(classes))
    assert (classes[0], classes[42], classes[64]) == ('airplane', 'person', 'zebra')


def test_label_is_the_index_of_the_published_class(tmp_path):
    dataset = build(write_ref_youtube_vos(tmp_path))
    assert dataset.metainfo['classes'][dataset.get_data_info(0)['label']] == 'dog'


@pytest.mark.parametrize('split', ['train', 'valid'])
def test_own_categories_are_of_no_class_but_can_be_read(tmp_path, split, messages):
    write_ref_youtube_vos(tmp_path, num_objects=2)
    path = tmp_path / split / 'meta.json'
    path.write_text(path.read_text().replace('"dog"', '"robot"'))
    dataset = build(tmp_path, split=split, exclude_file=None)
    labels = {
        item['obj_id']: item['label'] for item in map(dataset.get_data_info, range(len(dataset)))
    }
    assert labels == {1: -1, 2: dataset.metainfo['classes'].index('cat')}
    [message] = [message for _, message in messages if 'robot' in message]
    assert 'num_classes=1' in message and "classes='meta'" in message


def test_the_file_that_excludes_all_videos_of_valid_is_named(tmp_path):
    write_ref_youtube_vos(tmp_path, num_valid=0, num_test=2)
    with pytest.raises(
        ValueError, match=r'exclude_file takes all videos of .*test/meta_expressions'
    ):
        build(tmp_path, split='valid')


def test_valid_leaves_out_the_videos_of_test(tmp_path, messages):
    write_ref_youtube_vos(tmp_path, num_test=3, with_valid_truth=False)
    assert video_ids(build(tmp_path, split='valid')) == ['valid0', 'valid1']
    assert video_ids(build(tmp_path, split='test')) == ['test0', 'test1', 'test2']
    assert not [message for level, message in messages if level >= logging.WARNING]


def test_valid_without_the_test_file_warns_and_counts(tmp_path, messages):
    write_ref_youtube_vos(tmp_path, num_valid=3)
    assert len(video_ids(build(tmp_path, split='valid'))) == 3
    warnings = [message for level, message in messages if level >= logging.WARNING]
    assert len(warnings) == 1
    assert 'all 3 videos' in warnings[0] and '202' in warnings[0]


@pytest.mark.parametrize('option', [{'exclude_file': None}, {'video_ids': ['valid1']}])
def test_valid_by_own_choice_does_not_warn(tmp_path, messages, option):
    write_ref_youtube_vos(tmp_path)
    found = video_ids(build(tmp_path, split='valid', **option))
    assert found == option.get('video_ids', ['valid0', 'valid1'])
    assert not [message for level, message in messages if level >= logging.WARNING]


def test_unknown_split():
    with pytest.raises(ValueError, match=r"split must be .*, not 'val'"):
        RefYouTubeVOS('anywhere', split='val')


def test_published_valid_has_no_ground_truth(tmp_path):
    write_ref_youtube_vos(tmp_path, num_test=1, with_valid_truth=False)
    dataset = build(tmp_path, split='valid', pipeline=TEST_PIPELINE)
    info = dataset.get_data_info(0)
    assert (info['obj_id'], info['mask_dir'], info['control_obj_id']) == (None, None, None)
    sample = dataset[0]['data_samples']
    assert 'gt_instances' not in sample and 'gt_control' not in sample


def test_packed_training_clip(tmp_path):
    dataset = build(write_ref_youtube_vos(tmp_path), pipeline=TRAIN_PIPELINE)
    np.random.seed(0)
    for index in range(len(dataset)):
        item = dataset[index]
        sample, truth = item['data_samples'], item['data_samples'].gt_instances
        height, width = sample.img_shape
        assert item['inputs'].shape == (5, 3, height, width)
        assert item['inputs'].dtype == torch.uint8 and item['inputs'].is_contiguous()
        assert sample.ori_shape == (48, 64) and sample.key_frames == list(range(5))
        assert len(sample.frame_names) == 5 and sample.frame_names == sorted(sample.frame_names)
        assert truth.labels.dtype == torch.int64 and truth.labels.shape == (1,)
        assert truth.boxes.shape == (1, 5, 4) and truth.boxes.dtype == torch.float32
        assert truth.masks.shape == (1, 5, height, width) and truth.masks.dtype == torch.bool
        assert truth.valid.shape == (1, 5) and truth.valid.any()
        assert truth.boxes.min() >= 0 and truth.boxes.max() <= 1
        assert not truth.masks[~truth.valid].any()


def test_packed_test_clip_keeps_masks_at_the_size_on_disk(tmp_path):
    dataset = build(
        write_ref_youtube_vos(tmp_path), split='valid', exclude_file=None, pipeline=TEST_PIPELINE
    )
    item = dataset[0]
    sample = item['data_samples']
    assert item['inputs'].shape == (6, 3, 24, 32)
    assert sample.gt_instances.masks.shape == (1, 6, 48, 64)
    assert sample.gt_control.masks.shape == (1, 6, 48, 64)
    assert not (sample.gt_control.masks & sample.gt_instances.masks).any()
    assert sample.scale_factor == (0.5, 0.5)
    assert (sample.text, sample.kind, sample.obj_id) == ('the dog on the left', 'appearance', 1)
    # Boxes are relative to the input: on frame 0 rows 2 to 21 of 48, columns 5 to 20 of 64.
    expected = torch.tensor([12.5 / 64, 11.5 / 48, 15 / 64, 19 / 48])
    torch.testing.assert_close(sample.gt_instances.boxes[0, 0], expected)


def collect(root, seed):
    loader = Runner.build_dataloader(
        {
            'dataset': {
                'type': 'referformer.RefYouTubeVOS',
                'data_root': str(root),
                'pipeline': TRAIN_PIPELINE,
            },
            'batch_size': 2,
            'num_workers': 2,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'collate_fn': {'type': 'pseudo_collate'},
        },
        seed=seed,
    )
    return list(loader)


def test_loader_with_workers_is_reproducible(tmp_path):
    write_ref_youtube_vos(tmp_path)
    first, again, other = (collect(tmp_path, seed) for seed in (3, 3, 4))
    assert len(first) == 8 and all(len(batch['inputs']) == 2 for batch in first)
    for one, two in zip(first, again):
        for key in range(2):
            assert torch.equal(one['inputs'][key], two['inputs'][key])
            truth, same = (batch['data_samples'][key].gt_instances for batch in (one, two))
            assert torch.equal(truth.masks, same.masks) and torch.equal(truth.boxes, same.boxes)
            assert one['data_samples'][key].text == two['data_samples'][key].text
    texts = [[s.text for batch in run for s in batch['data_samples']] for run in (first, other)]
    assert texts[0] != texts[1]
