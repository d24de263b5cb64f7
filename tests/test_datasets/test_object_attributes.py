"""Clips with all their objects and what each is like."""

import json

import numpy as np
import pytest
from fixtures_rvos import CATEGORIES, write_ref_youtube_vos
from PIL import Image

from referformer.datasets import ObjectAttributes
from referformer.registry import TRANSFORMS, build

ATTRIBUTES = {'side': ('up', 'down'), 'category': CATEGORIES}
PIPELINE = ('SampleFrames', 'LoadFrames', 'LoadMasks', 'PackClip')


@pytest.fixture
def root(tmp_path):
    """Two videos of two objects; the upper one is a dog."""
    root = write_ref_youtube_vos(tmp_path)
    change_meta(root, lambda k, attributes: attributes.update(side=('up', 'down')[int(k) - 1]))
    return root


def change_meta(root, change):
    path = root / 'train' / 'meta.json'
    meta = json.loads(path.read_text())
    for video in meta['videos'].values():
        for k, attributes in video['objects'].items():
            change(k, attributes)
    path.write_text(json.dumps(meta))


def test_a_clip_comes_with_all_objects_and_their_labels(root):
    options = {'SampleFrames': {'mode': 'successive'}}
    pipeline = [build({'type': t, **options.get(t, {})}, TRANSFORMS) for t in PIPELINE]
    dataset = ObjectAttributes(root, ATTRIBUTES, num_frames=3, pipeline=pipeline)
    assert len(dataset) == 2 * 2  # videos of six frames
    packed = dataset[3]
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 3, 48, 64) and sample.video_id == 'train1'
    assert sample.gt_instances.labels.tolist() == [[0, 0], [1, 1]]
    folder = root / 'train' / 'Annotations' / 'train1'
    for t, name in enumerate(sample.frame_names):
        ids = np.asarray(Image.open(folder / f'{name}.png'))
        for k in range(2):
            assert np.array_equal(sample.gt_instances.masks[k, t].numpy(), ids == k + 1)


def test_an_unknown_value_is_named(root):
    with pytest.raises(ValueError, match=r'objects.1.category must be one of cat, not .dog.'):
        ObjectAttributes(root, {'category': ['cat']})


def test_data_without_attributes_are_refused(root):
    with pytest.raises(ValueError, match=r'meta.json: .*objects.1.colour must be .*, not None'):
        ObjectAttributes(root, {'colour': ['red']})
    (root / 'train' / 'meta.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'make_synthetic\.py makes them'):
        ObjectAttributes(root, ATTRIBUTES)


def test_videos_have_objects_and_frames(root):
    path = root / 'train' / 'meta.json'
    meta = json.loads(path.read_text())
    meta['videos']['train0']['objects'] = {}
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r'meta.json: videos.train0.objects is empty'):
        ObjectAttributes(root, ATTRIBUTES)
    path = root / 'meta_expressions' / 'train' / 'meta_expressions.json'
    path.write_text('{"videos": {"train0": {}}}')
    with pytest.raises(ValueError, match=r'videos.train0.frames is missing'):
        ObjectAttributes(root, ATTRIBUTES)


def test_broken_frames_are_tolerated_as_in_other_trainings(root):
    for path in (root / 'train' / 'JPEGImages' / 'train0').iterdir():
        path.write_bytes(b'')
    np.random.seed(0)  # draws what comes in its place
    pipeline = [build({'type': t}, TRANSFORMS) for t in PIPELINE]
    dataset = ObjectAttributes(root, ATTRIBUTES, num_frames=6, pipeline=pipeline)
    assert dataset[0]['data_samples'].video_id == 'train1' and dataset.num_broken > 0
    with pytest.raises(ValueError, match='more than max_broken=0 allows'):
        ObjectAttributes(root, ATTRIBUTES, num_frames=6, pipeline=pipeline, max_broken=0)[0]


def test_a_flip_would_not_turn_the_labels(root):
    steps = ({'type': t} for t in PIPELINE[:3])
    pipeline = [build(t, TRANSFORMS) for t in (*steps, {'type': 'RandomFlip', 'prob': 1.0})]
    dataset = ObjectAttributes(root, ATTRIBUTES, pipeline=pipeline)
    with pytest.raises(TypeError, match='leave RandomFlip out'):
        dataset[0]


def test_clips_have_frames(root):
    with pytest.raises(ValueError, match='num_frames must be at least 1, but is 0'):
        ObjectAttributes(root, ATTRIBUTES, num_frames=0)
