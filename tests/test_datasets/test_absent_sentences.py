"""Sentences about objects that are not there: from the files to the metric."""

import json

import pytest
from fixtures_rvos import score_masks, write_ref_youtube_vos
from mmengine.dataset import DefaultSampler

from referformer.datasets import RefYouTubeVOS, absent
from referformer.datasets.synthetic import COLOURS, SHAPES, generate_dataset
from referformer.datasets.transforms import (
    FilterVisible,
    LoadFrames,
    LoadMasks,
    PackClip,
    SampleFrames,
)
from referformer.datasets.verification import Problems, group_by_video
from referformer.engine import VideoBatchSampler
from referformer.structures import ABSENT

SYNONYMS = {'little': 'small', 'big': 'large', 'disc': 'circle', 'box': 'square', 'plus': 'cross'}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'synthetic'
    generate_dataset(folder, num_train=8, num_valid=12, size=(48, 80), num_frames=8, num_workers=0)
    return folder


def make(root, split='valid', kinds=('appearance',), **kwargs):
    load = [LoadFrames(), LoadMasks()]
    if split == 'train':
        pipeline = [SampleFrames(num_frames=3), *load, FilterVisible(), PackClip()]
    else:
        pipeline = [SampleFrames(mode='all'), *load, PackClip()]
    return RefYouTubeVOS(
        str(root),
        split=split,
        exclude_file=None,
        classes='meta',
        absent_kinds=kinds,
        pipeline=pipeline,
        **kwargs,
    )


@pytest.fixture(scope='module')
def dataset(root):
    return make(root)


def items(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def test_no_object_of_the_video_is_what_the_sentence_names(root, dataset):
    """Read again from the words: shape and colour (or size) of the target fit no object."""
    meta = json.loads((root / 'valid/meta.json').read_text())['videos']
    added = [item for item in items(dataset) if item['obj_id'] == ABSENT]
    assert len(added) > 20
    for item in added:
        words = {SYNONYMS.get(word, word) for word in item['text'].split()}
        named = words & {*SHAPES, *COLOURS, 'small', 'large'}
        assert named
        for obj in meta[item['video_id']]['objects'].values():
            assert not named <= {obj['category'], obj['colour'], obj['size']}, item['text']


def test_every_video_gets_as_many_as_it_has_of_the_kind_and_always_the_same(root, dataset):
    again = make(root)
    assert [item['text'] for item in items(again)] == [item['text'] for item in items(dataset)]
    for video_id in dataset.videos:
        own = [item for item in items(dataset) if item['video_id'] == video_id]
        there = [item for item in own if item['obj_id'] != ABSENT and item['kind'] == 'appearance']
        added = [item for item in own if item['obj_id'] == ABSENT]
        assert 0 < len(added) <= len(there)
        assert len({item['exp_id'] for item in own}) == len(own)
        assert all(item['kind'] == 'appearance' for item in added)
    plain = make(root, kinds=())
    number = {'sample_idx': 0}
    there = [item | number for item in items(dataset) if item['obj_id'] != ABSENT]
    assert there == [item | number for item in items(plain)]


def test_they_share_the_batch_of_their_video(dataset):
    batches = list(VideoBatchSampler(DefaultSampler(dataset, shuffle=False), batch_size=64))
    assert len(batches) == len(dataset.videos)


def test_they_are_not_shuffled_too(root):
    both = items(make(root, kinds=('motion',), shuffled_kinds=('motion',)))
    assert any(item['obj_id'] == ABSENT for item in both)
    assert not any(item['obj_id'] == ABSENT for item in both if 'frame_order' in item)


def test_the_metric_counts_their_frames_apart(dataset):
    perfect = score_masks(dataset, lambda sample: sample.gt_instances.masks)
    assert perfect['J&F'] == perfect['J&F_appearance_absent'] == 100
    assert perfect['wrongly_found'] == perfect['wrongly_found_appearance_absent'] == 0

    def in_half_of_the_frames(sample):
        masks = sample.gt_instances.masks.clone()
        if sample.obj_id == ABSENT:
            masks[:, ::2, :4, :4] = True
        return masks

    half = score_masks(dataset, in_half_of_the_frames)
    assert half['wrongly_found_appearance_absent'] == 50
    assert half['J_appearance_absent'] == 50
    assert half['J&F'] == 100, 'they are in no other mean'
    assert half['wrongly_found'] == 0


def test_in_training_their_clips_are_kept_and_show_nothing(root):
    dataset = make(root, 'train')
    added = [i for i, item in enumerate(items(dataset)) if item['obj_id'] == ABSENT]
    assert added
    for i in added[:5]:
        gt = dataset[i]['data_samples'].gt_instances
        assert gt.masks.shape == (1, 3, 48, 80) and not gt.masks.any()
        assert not gt.valid.any() and not gt.boxes.any()


def test_an_object_of_another_video_that_no_mask_has_is_still_an_error(root):
    dataset = make(root)
    (item,) = items(dataset)[:1]
    loaded = LoadFrames()(SampleFrames(mode='all')(item))
    with pytest.raises(ValueError, match='no mask has the object 77'):
        LoadMasks()({**loaded, 'obj_id': 77})
    assert not LoadMasks()({**loaded, 'obj_id': ABSENT})['valid'].any()


def test_without_sentences_that_could_serve_there_are_none(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(absent, 'print_log', lambda message, *_: said.append(message))
    root = write_ref_youtube_vos(tmp_path)  # all videos show the same categories
    assert items(make(root, kinds=('motion',))) == items(make(root, kinds=()))
    assert len(said) == 1 and "absent_kinds=('motion',) adds no sentence" in said[0]
    with pytest.raises(ValueError, match='absent_kinds needs a meta_file'):
        make(root, meta_file=None).full_init()


def test_categories_alone_will_do(tmp_path):
    """The published files note nothing else: a sentence has to name its category."""
    root = write_ref_youtube_vos(tmp_path, num_objects=1)
    for name, category in (
        ('valid/meta.json', 'giant_panda'),
        ('meta_expressions/valid/meta_expressions.json', 'giant panda'),
    ):
        content = json.loads((root / name).read_text())
        text = json.dumps(content['videos']['valid1'])
        text = text.replace('dog', category).replace('DOG', 'animal')
        content['videos']['valid1'] = json.loads(text)
        (root / name).write_text(json.dumps(content))
    found = items(make(root, kinds=('appearance', 'motion')))
    added = {item['video_id']: item['text'] for item in found if item['obj_id'] == ABSENT}
    assert added['valid0'] == 'giant panda moving right'
    assert 'dog' in added['valid1']


def test_verification_reads_what_is_in_the_files(root, dataset):
    groups = group_by_video(dataset, Problems())
    assert [len(group) for group in groups] == [
        sum(item['video_id'] == video_id and item['obj_id'] != ABSENT for item in items(dataset))
        for video_id in dataset.videos
    ]
