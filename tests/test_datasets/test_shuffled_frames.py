"""Videos in random order, the control for watching: from the dataset to the metric."""

import numpy as np
import pytest
import torch
from fixtures_rvos import score_masks, write_ref_youtube_vos
from mmengine.dataset import DefaultSampler
from mmengine.structures import InstanceData

from referformer.datasets import RefYouTubeVOS
from referformer.datasets.transforms import LoadFrames, LoadMasks, PackClip, SampleFrames
from referformer.datasets.transforms.sampling import shuffled_frames
from referformer.engine import VideoBatchSampler
from referformer.evaluation import VOSMetric


@pytest.fixture
def dataset(tmp_path):
    return RefYouTubeVOS(
        str(write_ref_youtube_vos(tmp_path)),
        split='valid',
        exclude_file=None,
        shuffled_kinds=('motion',),
        pipeline=[SampleFrames(mode='all'), LoadFrames(), LoadMasks(), PackClip()],
    )


def test_a_permutation_of_its_own_for_every_video():
    first = shuffled_frames('a', 20)
    assert sorted(first) == list(range(20))
    assert (first == shuffled_frames('a', 20)).all()
    assert (first != shuffled_frames('b', 20)).any()
    assert (first != np.arange(20)).any()


def test_sentences_of_the_kind_come_again_with_frames_and_masks_in_the_same_order(dataset):
    kinds = [dataset.get_data_info(i)['kind'] for i in range(len(dataset))]
    motions = kinds.count('motion') // 2
    assert motions
    assert kinds[-motions:] == ['motion'] * motions
    keys = dataset.metainfo['expected']
    assert len(set(keys)) == len(dataset)
    assert [key[2:] for key in keys] == [()] * (len(keys) - motions) + [('shuffled',)] * motions

    again = dataset[len(dataset) - 1]
    (plain,) = (dataset[i] for i, key in enumerate(keys) if key == keys[-1][:2])
    samples = plain['data_samples'], again['data_samples']
    assert [sample.frame_order for sample in samples] == [None, 'shuffled']
    order = [samples[0].frame_names.index(name) for name in samples[1].frame_names]
    assert order != sorted(order)
    assert torch.equal(again['inputs'], plain['inputs'][order])
    masks = [sample.gt_instances.masks for sample in samples]
    assert torch.equal(masks[1], masks[0][:, order])


def test_no_batch_mixes_the_orders(dataset):
    batches = list(VideoBatchSampler(DefaultSampler(dataset, shuffle=False), batch_size=16))
    assert sorted(i for batch in batches for i in batch) == list(range(len(dataset)))
    for batch in batches:
        assert len({len(dataset.metainfo['expected'][i]) for i in batch}) == 1


def test_the_control_has_a_row_of_its_own(dataset):
    def watching(sample):
        masks = sample.gt_instances.masks
        return masks if sample.frame_order is None else torch.zeros_like(masks)

    metrics = score_masks(dataset, watching)
    assert metrics['J&F'] == metrics['J&F_motion'] == 100
    assert metrics['J&F_motion_shuffled'] < 30  # the frames without the object are right
    assert 'J&F_appearance_shuffled' not in metrics


def test_a_missing_control_is_an_error(dataset):
    metric = VOSMetric()
    metric.dataset_meta = dataset.metainfo
    for i, key in enumerate(dataset.metainfo['expected']):
        if len(key) == 2:
            sample = dataset[i]['data_samples']
            sample.pred_instances = InstanceData(masks=sample.gt_instances.masks)
            metric.process(None, [sample.to_dict()])
    with pytest.raises(ValueError, match='shuffled'):
        metric.evaluate(len(dataset))
