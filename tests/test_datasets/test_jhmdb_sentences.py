"""JHMDB-Sentences: what its items hold, the published list, and its configs to scores."""

import json
from pathlib import PurePosixPath

import numpy as np
import pytest
from fixtures_jhmdb import COLOUR, VIDEOS, write_jhmdb_sentences
from mmengine.config import Config
from mmengine.registry import init_default_scope
from scipy.io import savemat
from toy_project import REPO

from referformer.datasets import JHMDBSentences

PIPELINE = [
    {'type': 'SampleFrames', 'mode': 'centred'},
    {'type': 'LoadFrames'},
    {'type': 'LoadMatMasks'},
    {'type': 'Resize', 'shorter': 24, 'resize_masks': False},
    {'type': 'PackClip'},
]
ACTION, FIRST = VIDEOS[0]
LIST = 'jhmdb_sentences_samples_metadata.json'


@pytest.fixture
def root(tmp_path):
    return write_jhmdb_sentences(tmp_path / 'anywhere')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('referformer')


def edit(root, change):
    """Apply ``change`` to the rows of the list."""
    rows = json.loads((root / LIST).read_text(encoding='utf-8'))
    change(rows)
    (root / LIST).write_text(json.dumps(rows), encoding='utf-8')


def test_item_is_complete(root):
    assert JHMDBSentences(root).get_data_info(1) == {
        'video_id': FIRST,
        'exp_id': '0',
        'text': "a man's pulling up",
        'kind': None,
        'obj_id': 1,
        'label': 0,
        'key_frame': 4,  # frame 5, from 1
        'num_frames': 5,
        'frame_names': [f'{number:05d}' for number in range(1, 9)],
        'img_dir': str(root / 'Rename_Images' / ACTION / FIRST),
        'img_suffix': '.png',
        'mask_dir': str(root / 'puppet_mask' / ACTION / FIRST),
        'mask_suffix': '.mat',
        'sample_idx': 1,
    }


def test_each_listed_frame_is_expected_by_metrics(root):
    dataset = JHMDBSentences(root)
    names = [video_id for _, video_id in VIDEOS[:2]]
    frames = ('00001', '00005', '00008')
    assert dataset.metainfo['expected'] == [(v, '0', t) for v in names for t in frames]
    assert len(JHMDBSentences(root, video_ids=names[1:])) == 3


def test_several_sentences_about_a_video_are_told_apart(root):
    edit(root, lambda rows: rows.append([*rows[0][:4], 'The OTHER  sentence']))
    dataset = JHMDBSentences(root)
    assert dataset.metainfo['expected'][-1] == (FIRST, '1', '00001')
    assert dataset.get_data_info(-1)['text'] == 'the other sentence'
    edit(root, lambda rows: rows.append(rows[-1]))
    with pytest.raises(ValueError, match=r'expression 1 of video .* is on frame 1 twice'):
        JHMDBSentences(root)


def test_the_published_list_is_read(shared_dir, tmp_path):
    content = (shared_dir / 'real' / LIST).read_text(encoding='utf-8')
    (tmp_path / LIST).write_text(content, encoding='utf-8')
    rows = json.loads(content)
    for _, frame, mask, *_ in rows:
        for path in (frame, mask):
            (tmp_path / PurePosixPath(path).parent.relative_to('jhmdb_sentences')).mkdir(
                parents=True, exist_ok=True
            )
    dataset = JHMDBSentences(tmp_path)
    assert len(dataset) == 2784
    assert len(set(dataset.metainfo['expected'])) == 2784
    assert len({video_id for video_id, *_ in dataset.metainfo['expected']}) == 928
    for index in (0, 1000, 2783):
        item, (video_id, frame, _, count, text) = dataset.get_data_info(index), rows[index]
        name = item['frame_names'][item['key_frame']]
        assert frame.endswith(f'/{video_id}/{name}.png') and len(item['frame_names']) == count
        assert str(tmp_path / frame.split('jhmdb_sentences/')[1]) == (
            f'{item["img_dir"]}/{name}.png'
        )
        assert item['text'] == ' '.join(text.lower().split())


def test_packed_clips(root):
    dataset = JHMDBSentences(root, num_frames=6, pipeline=PIPELINE)
    for index, t in enumerate((0, 4, 7)):
        item = dataset[index]
        sample = item['data_samples']
        truth = sample.gt_instances
        assert item['inputs'].shape == (6, 3, 24, 31)
        assert sample.ori_shape == (48, 63) and truth.masks.shape == (1, 1, 48, 63)
        assert sample.frame_names == [f'{t + 1:05d}']
        # The grey of the annotated frame, above its object.
        (key,) = sample.key_frames
        assert item['inputs'][key, :, 0, 0].tolist() == [60 + 10 * t] * 3
        assert truth.valid.tolist() == [[t < 7]] and truth.masks.any() == (t < 7)
    full = JHMDBSentences(root, pipeline=PIPELINE[:3])[1]
    mask = full['masks'][0, 0]
    assert (full['imgs'][full['key_frames'][0]][mask] == COLOUR).all()
    assert np.array_equal(full['boxes'][0, 0], [19, 8, 39, 39])


def test_whole_videos_are_clips_too(root):
    pipeline = [{'type': 'SampleFrames', 'mode': 'all'}, *PIPELINE[1:]]
    item = JHMDBSentences(root, pipeline=pipeline)[1]
    assert item['inputs'].shape[0] == 8
    assert item['data_samples'].key_frames == [4]


@pytest.mark.parametrize(
    'place, value, message',
    [
        (0, 7, 'the video must be a name, not 7'),
        (1, 'Images/a/b/00001.png', 'a path with the folder Rename_Images was expected'),
        (1, './Rename_Images/a/b/first.png', "the frame must be an integer from 1, not 'first'"),
        (1, './Rename_Images/a/b/00009.png', 'frame 9 is annotated, but the video has 8 frames'),
        (2, None, 'a path with the folder puppet_mask was expected, not None'),
        (3, 0, 'the number of frames must be an integer from 1, not 0'),
        (4, '', 'is empty'),
    ],
)
def test_malformed_rows_are_named(root, place, value, message):
    def change(rows):
        row = ['new', *rows[0][1:]]
        row[place] = value
        rows.append(row)

    edit(root, change)
    with pytest.raises(ValueError, match=rf'{LIST}: row 7.* {message}'):
        JHMDBSentences(root)


def test_rows_that_contradict_each_other_are_named(root):
    edit(root, lambda rows: rows.append([*rows[0][:3], 9, rows[0][4]]))
    with pytest.raises(ValueError, match='row 7: the folders or the number of frames of video'):
        JHMDBSentences(root)


def test_wrong_layout_says_what_is_missing(root):
    with pytest.raises(FileNotFoundError, match=r'JHMDB-Sentences .*holds: anywhere'):
        JHMDBSentences(root.parent / 'nowhere')
    (root / 'Rename_Images' / ACTION).rename(root / 'Rename_Images' / 'other')
    with pytest.raises(FileNotFoundError, match=rf'1 folders of frames not found: .*{ACTION}'):
        JHMDBSentences(root)
    (root / 'Rename_Images' / 'other').rename(root / 'Rename_Images' / ACTION)
    (root / 'puppet_mask').rename(root / 'masks')
    with pytest.raises(FileNotFoundError, match='2 folders of masks not found'):
        JHMDBSentences(root)


def test_missing_frames_and_fields_stop_testing(root):
    dataset = JHMDBSentences(root, pipeline=PIPELINE)
    (root / 'Rename_Images' / ACTION / FIRST / '00004.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'00004\.png not found'):
        dataset[1]
    mask = root / 'puppet_mask' / VIDEOS[1][0] / VIDEOS[1][1] / 'puppet_mask.mat'
    savemat(mask, {'category': 'clap'})
    with pytest.raises(ValueError, match=r"part_mask is missing; it has \['category'\]"):
        dataset[3]


def test_configs_test_as_those_of_a2d():
    for name in ('vswin-t', 'vswin-s', 'vswin-b', 'vswin-t_scratch'):
        a2d, jhmdb = (
            Config.fromfile(REPO / 'configs' / f'referformer_{name}_{dataset}.py')
            for dataset in ('a2d', 'jhmdb')
        )
        assert jhmdb.model.test_cfg == a2d.model.test_cfg
        assert jhmdb.model.data_preprocessor == a2d.model.data_preprocessor
        assert jhmdb.model.data_preprocessor.test_divisor == 32
        assert jhmdb.test_evaluator == a2d.test_evaluator
        datasets = (jhmdb.test_dataloader.dataset, a2d.test_dataloader.dataset)
        assert {dataset.num_frames for dataset in datasets} == {6 if 'scratch' in name else 5}
        assert datasets[0].pipeline[3:] == datasets[1].pipeline[3:]
        assert 'train_cfg' not in jhmdb
