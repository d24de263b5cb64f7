"""What cannot be read: an error in testing; in training left out, logged, counted, and too much of
it an error."""

import json
import logging
import re

import numpy as np
import pytest
from fixtures_rvos import write_ref_youtube_vos
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from PIL import Image

from referformer.datasets import RVOSDataset

# All frames in training too, so that every clip has the broken one.
LOAD = [{'type': 'SampleFrames', 'mode': 'all'}, {'type': 'LoadFrames'}, {'type': 'LoadMasks'}]
TRAIN = [*LOAD, {'type': 'FilterVisible'}, {'type': 'PackClip'}]
TEST = [*LOAD, {'type': 'PackClip'}]


@pytest.fixture
def root(tmp_path):
    return write_ref_youtube_vos(tmp_path, num_train=4, num_frames=5)


@pytest.fixture
def logged():
    """Messages of errors that are logged, as a list that fills."""
    found = []

    class Collect(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    handler = Collect(logging.ERROR)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def erase_object(root, split, video_id, obj_id):
    """Paint one object over with the background in all masks of a video."""
    for path in (root / split / 'Annotations' / video_id).iterdir():
        mask = Image.open(path)
        ids = np.array(mask)
        ids[ids == obj_id] = 0
        new = Image.fromarray(ids)
        new.putpalette(mask.getpalette())
        new.save(path)


def edit(root, split, change):
    path = root / 'meta_expressions' / split / 'meta_expressions.json'
    content = json.loads(path.read_text())
    change(content['videos'])
    path.write_text(json.dumps(content))


BREAK = {
    'truncated frame': (
        lambda root, s, v: truncate(root / s / 'JPEGImages' / v / '00010.jpg'),
        r'{v}/00010\.jpg cannot be read: .*truncated',
    ),
    'missing frame': (
        lambda root, s, v: (root / s / 'JPEGImages' / v / '00010.jpg').unlink(),
        r'{v}/00010\.jpg not found, but the expression file lists this frame',
    ),
    'empty frame': (
        lambda root, s, v: (root / s / 'JPEGImages' / v / '00010.jpg').write_bytes(b''),
        r'{v}/00010\.jpg cannot be read',
    ),
    'missing mask': (
        lambda root, s, v: (root / s / 'Annotations' / v / '00010.png').unlink(),
        r'{v}/00010\.png not found',
    ),
    'truncated mask': (
        lambda root, s, v: truncate(root / s / 'Annotations' / v / '00010.png'),
        r'{v}/00010\.png cannot be read',
    ),
    'absent object': (
        lambda root, s, v: erase_object(root, s, v, 1),
        r"Annotations/{v}: no mask has the object 1 of the expression 0 \('the dog .*\[2\]",
    ),
    'another size': (
        lambda root, s, v: Image.new('RGB', (32, 24)).save(
            root / s / 'JPEGImages' / v / '00010.jpg'
        ),
        r'All frames of a video must have one size',
    ),
}


@pytest.mark.parametrize('case', BREAK)
def test_testing_stops_at_what_cannot_be_read(root, case):
    spoil, message = BREAK[case]
    spoil(root, 'valid', 'valid1')
    dataset = RVOSDataset(root, split='valid', pipeline=TEST)
    dataset[3]  # of the other video
    with pytest.raises((ValueError, FileNotFoundError), match=message.format(v='valid1')):
        dataset[4]


@pytest.mark.parametrize('case', BREAK)
def test_training_goes_on_without_what_cannot_be_read(root, case, logged):
    spoil, message = BREAK[case]
    spoil(root, 'train', 'train2')
    dataset = RVOSDataset(root, pipeline=TRAIN, max_broken=0.5)
    np.random.seed(0)
    item = dataset[8]
    assert item['data_samples'].video_id != 'train2' or case == 'absent object'
    assert dataset.num_broken >= 1 and dataset.num_read > dataset.num_broken
    assert len(logged) == dataset.num_broken
    assert logged[0].startswith('item 8 is skipped: ')
    assert re.search(message.format(v='train2'), logged[0])


def test_replacements_follow_the_seed(root):
    truncate(root / 'train/JPEGImages/train2/00010.jpg')
    dataset = RVOSDataset(root, pipeline=TRAIN, max_broken=1)
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        np.random.seed(seed)
        drawn.append(dataset[8]['data_samples'].video_id + dataset[9]['data_samples'].exp_id)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_training_stops_past_the_share(root):
    for video in range(4):
        truncate(root / f'train/JPEGImages/train{video}/00010.jpg')
    dataset = RVOSDataset(root, pipeline=TRAIN)
    message = (
        r'00010\.jpg cannot be read.* In all, 11 of the first 11 items cannot be used, more than '
        r'max_broken=0.01 allows .*referformer verify CONFIG'
    )
    with pytest.raises(ValueError, match=message):
        dataset[0]
    with pytest.raises(ValueError, match=r'1 of the first 1 items .* max_broken=0 allows'):
        RVOSDataset(root, pipeline=TRAIN, max_broken=0)[0]


def test_the_share_counts_what_was_read():
    """3 % of the items of a long run are broken: 2 % are too few, 4 % are enough."""

    class Fails:
        count = 0

        def __call__(self, results):
            self.count += 1
            if self.count % 33 == 0:
                raise FileNotFoundError('gone.jpg not found')
            return results

    for share, stops in ((0.02, True), (0.04, False)):
        dataset = RVOSDataset.__new__(RVOSDataset)
        dataset.__dict__.update(test_mode=False, num_read=0, num_broken=0, max_broken=share)
        dataset.pipeline, dataset.get_data_info = Fails(), lambda index: {}
        for index in range(2000):
            try:
                dataset.prepare_data(index)
            except ValueError as error:
                assert stops and 'gone.jpg' in str(error)
                break
        else:
            assert not stops
        assert dataset.num_read >= 600


def test_bugs_are_not_taken_for_broken_files(root):
    def fail(results):
        raise TypeError('a bug')

    with pytest.raises(TypeError, match='a bug'):
        RVOSDataset(root, pipeline=[fail])[0]


def loader(root, **kwargs):
    dataset = {
        'type': 'referformer.RVOSDataset',
        'data_root': str(root),
        'pipeline': TRAIN,
        **kwargs,
    }
    return Runner.build_dataloader(
        {
            'dataset': dataset,
            'batch_size': 2,
            'num_workers': 2,
            'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            'collate_fn': {'type': 'pseudo_collate'},
        },
        seed=0,
    )


def test_workers_go_on_and_stop_as_well(root):
    truncate(root / 'train/JPEGImages/train2/00010.jpg')
    clips = [s.video_id for batch in loader(root) for s in batch['data_samples']]
    assert len(clips) == 16 and 'train2' not in clips
    with pytest.raises(ValueError, match=r'train2/00010\.jpg.*max_broken=0 allows'):
        list(loader(root, max_broken=0))


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda e: e.pop('obj_id'), 'expression 2 of video train1 has no obj_id'),
        (lambda e: e.update(obj_id='?'), "obj_id of expression 2 of video train1 .* not '\\?'"),
        (lambda e: e.update(obj_id='9'), r'videos\.train1\.objects\.9\.category is missing'),
        (lambda e: e.update(exp=''), 'expression 2 of video train1 is empty'),
    ],
)
def test_expressions_without_object_are_left_out_of_training(root, change, message, logged):
    edit(root, 'train', lambda videos: change(videos['train1']['expressions']['2']))
    with pytest.raises(ValueError, match=rf'{message}.* 1 of 16 expressions cannot be used'):
        RVOSDataset(root)
    dataset = RVOSDataset(root, max_broken=0.1)
    assert len(dataset) == 15
    assert len(dataset.left_out) == len(logged) == 1
    assert re.search(message, logged[0])


def test_testing_wants_objects_for_all_sentences_of_a_video_or_for_none(root):
    edit(root, 'valid', lambda videos: videos['valid1']['expressions']['2'].pop('obj_id'))
    with pytest.raises(ValueError, match=r'video valid1 some have no obj_id: 2\. Give it to all'):
        RVOSDataset(root, split='valid')


def test_wrong_layout_says_what_was_found(root):
    folder = root / 'train/JPEGImages'
    for video in list(folder.iterdir()):
        video.rename(folder / f'extracted_{video.name}')
    with pytest.raises(
        FileNotFoundError,
        match=r'lacks the folders of 4 videos: train0, .* It holds: extracted_train0, ',
    ):
        RVOSDataset(root)


def test_the_share_is_a_share(root):
    with pytest.raises(ValueError, match='max_broken is a share, from 0 to 1, not 5'):
        RVOSDataset(root, max_broken=5)
