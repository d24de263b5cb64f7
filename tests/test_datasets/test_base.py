"""The common base of the datasets, on the layout of Ref-YouTube-VOS."""

import json

import numpy as np
import pytest
from fixtures_rvos import write_ref_youtube_vos

from referformer.datasets import RVOSDataset
from referformer.registry import DATASETS


@pytest.fixture
def root(tmp_path):
    return write_ref_youtube_vos(tmp_path, num_frames=7)


def edit(root, split, change):
    """Apply ``change`` to the videos of an expression file."""
    path = root / 'meta_expressions' / split / 'meta_expressions.json'
    content = json.loads(path.read_text())
    change(content['videos'])
    path.write_text(json.dumps(content))


def test_training_has_an_item_for_each_expression_and_every_nth_frame(root):
    dataset = RVOSDataset(root, num_frames=3)
    assert len(dataset) == 2 * 4 * 3
    assert [dataset.get_data_info(i)['centre'] for i in range(4)] == [0, 3, 6, 0]
    assert len(RVOSDataset(root, num_frames=5)) == 2 * 4 * 2


def test_testing_has_an_item_for_each_video_and_expression(root):
    dataset = RVOSDataset(root, split='valid')
    assert dataset.test_mode
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [(item['video_id'], item['exp_id']) for item in items] == [
        (f'valid{v}', str(e)) for v in range(2) for e in range(4)
    ]
    assert all('centre' not in item for item in items)


def test_item_is_complete(root):
    item = RVOSDataset(root).get_data_info(-1)
    assert item == {
        'video_id': 'train1',
        'exp_id': '3',
        'text': 'cat moving right',
        'kind': 'appearance',
        'obj_id': 2,
        'label': 0,
        'centre': 5,
        'num_frames': 5,
        'frame_names': [f'{i:05d}' for i in range(0, 35, 5)],
        'img_dir': str(root / 'train/JPEGImages/train1'),
        'img_suffix': '.jpg',
        'mask_dir': str(root / 'train/Annotations/train1'),
        'mask_suffix': '.png',
        'sample_idx': 15,
    }


def test_text_is_lower_case_with_single_spaces(root):
    assert RVOSDataset(root).get_data_info(0)['text'] == 'the dog on the left'


@pytest.mark.parametrize('num_objects, expected', [(1, [None]), (3, [2, 3, 1])])
def test_control_is_the_next_object_of_the_video(tmp_path, num_objects, expected):
    write_ref_youtube_vos(tmp_path, num_objects=num_objects)
    dataset = RVOSDataset(tmp_path, split='valid', video_ids=['valid1'])
    controls = [dataset.get_data_info(i)['control_obj_id'] for i in range(len(dataset))]
    assert controls == [control for control in expected for _ in range(2)]


def test_control_skips_objects_without_expression(tmp_path):
    write_ref_youtube_vos(tmp_path, num_objects=3)
    edit(tmp_path, 'valid', lambda videos: [videos['valid0']['expressions'].pop(e) for e in '23'])
    dataset = RVOSDataset(tmp_path, split='valid', video_ids=['valid0'])
    assert [dataset.get_data_info(i)['control_obj_id'] for i in range(4)] == [3, 3, 1, 1]


def test_labels_follow_the_given_classes_or_the_sorted_ones_of_the_file(root):
    derived = RVOSDataset(root)
    assert derived.metainfo['classes'] == ('cat', 'dog')
    assert derived.get_data_info(0)['label'] == 1
    given = RVOSDataset(root, classes=['truck', 'cat', 'person', 'dog'])
    assert given.get_data_info(0)['label'] == 3
    assert RVOSDataset(root, meta_file=None).get_data_info(0)['label'] == 0


def test_serialised_and_plain_items_are_equal(root):
    serialised, plain = RVOSDataset(root), RVOSDataset(root, serialize_data=False)
    assert [serialised.get_data_info(i) for i in range(16)] == [
        plain.get_data_info(i) for i in range(16)
    ]


def test_items_do_not_share_state(root):
    dataset = RVOSDataset(root)
    dataset.get_data_info(0)['frame_names'].clear()
    assert len(dataset.get_data_info(0)['frame_names']) == 7


def test_base_options_of_mmengine_work(root):
    dataset = RVOSDataset(root, lazy_init=True, indices=[15, 0])
    assert dataset.get_data_info(0)['video_id'] == 'train1'
    assert RVOSDataset(root).get_subset([15]).get_data_info(0)['exp_id'] == '3'


def test_other_layouts_by_arguments(root):
    (root / 'train' / 'JPEGImages').rename(root / 'pictures')
    (root / 'meta_expressions/train/meta_expressions.json').rename(root / 'train/expressions.json')
    dataset = RVOSDataset(
        root, ann_file='{split}/expressions.json', data_prefix={'img': 'pictures'}
    )
    assert dataset.get_data_info(0)['img_dir'] == str(root / 'pictures/train0')
    assert dataset.get_data_info(0)['mask_dir'] == str(root / 'train/Annotations/train0')


def test_videos_can_be_chosen_by_list_or_file(root):
    (root / 'ids.txt').write_text('train1\n')
    for ids in (['train1'], 'ids.txt'):
        dataset = RVOSDataset(root, video_ids=ids)
        assert {dataset.get_data_info(i)['video_id'] for i in range(len(dataset))} == {'train1'}
    with pytest.raises(ValueError, match=r'video_ids names videos .* nowhere'):
        RVOSDataset(root, video_ids=['nowhere'])


def test_an_item_without_a_visible_frame_is_replaced(root):
    def visible_only(results):
        return results if results['video_id'] == 'train1' else None

    dataset = RVOSDataset(root, pipeline=[visible_only])
    np.random.seed(0)
    first = [dataset[i]['sample_idx'] for i in range(8)]
    assert all(dataset.get_data_info(i)['video_id'] == 'train1' for i in first)
    np.random.seed(0)
    assert [dataset[i]['sample_idx'] for i in range(8)] == first


def test_an_error_in_the_pipeline_is_not_hidden(root):
    def fail(results):
        raise ValueError('broken')

    with pytest.raises(ValueError, match='broken'):
        RVOSDataset(root, pipeline=[fail])[0]


def test_missing_paths_name_what_is_there(root):
    with pytest.raises(FileNotFoundError, match=r'absent not found.* holds: .*meta_expressions'):
        RVOSDataset(root / 'absent')
    with pytest.raises(FileNotFoundError, match='holds: train, valid'):
        RVOSDataset(root, split='test')
    (root / 'train/meta.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'meta.json not found.*meta_file=None'):
        RVOSDataset(root)
    (root / 'train/Annotations').rename(root / 'train/Masks')
    with pytest.raises(FileNotFoundError, match=r'Annotations not found: the masks of .* Masks'):
        RVOSDataset(root)


def test_missing_video_folder_is_found_at_once(root):
    (root / 'train/JPEGImages/train1').rename(root / 'train/JPEGImages/other')
    with pytest.raises(FileNotFoundError, match='lacks the folders of 1 videos: train1'):
        RVOSDataset(root)


def test_malformed_json_names_the_position(root):
    path = root / 'meta_expressions/train/meta_expressions.json'
    path.write_text(path.read_text()[:60])
    with pytest.raises(ValueError, match=r'meta_expressions.json is not valid JSON: .* line 1 col'):
        RVOSDataset(root)
    path.write_bytes(b'\x80\x81')
    with pytest.raises(ValueError, match=r'meta_expressions.json is not valid JSON'):
        RVOSDataset(root)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda v: v['train1'].pop('frames'), r'videos\.train1\.frames is missing'),
        (lambda v: v['train1'].update(frames=3), r'videos\.train1\.frames must be a list'),
        (lambda v: v['train1'].update(frames=[]), 'video train1 has no frames'),
        (lambda v: v['train1'].pop('expressions'), r'videos\.train1\.expressions is missing'),
        (lambda v: v['train1']['expressions']['2'].pop('exp'), r'expressions\.2\.exp is missing'),
        (
            lambda v: v['train1']['expressions']['2'].update(exp=' \t'),
            'expression 2 of video train1 is empty',
        ),
        (
            lambda v: v['train1']['expressions']['2'].pop('obj_id'),
            'expression 2 of video train1 has no obj_id',
        ),
        (
            lambda v: v['train1']['expressions']['2'].update(obj_id='one'),
            "obj_id of expression 2 of video train1 must be an integer from .*, not 'one'",
        ),
        (
            lambda v: v['train1']['expressions']['2'].update(obj_id='9'),
            r'meta.json: videos\.train1\.objects\.9\.category is missing',
        ),
        (lambda v: v.clear(), 'leaves no video'),
        (lambda v: [x['expressions'].clear() for x in v.values()], 'has no expression'),
    ],
)
def test_malformed_expression_files_name_the_place(root, change, message):
    edit(root, 'train', change)
    with pytest.raises(ValueError, match=message):
        RVOSDataset(root)


def test_unknown_category_names_the_remedy(root):
    with pytest.raises(ValueError, match=r"is 'cat', not one of the 1 classes .*classes='meta'"):
        RVOSDataset(root, classes=['dog'])


@pytest.mark.parametrize(
    'options, change, message',
    [
        (
            {'kinds': ['colour']},
            lambda v: None,
            r"kinds=\['colour'\] takes all 8\. Their kinds are appearance, motion, relation\.",
        ),
        (
            {'video_ids': ['train1']},
            lambda v: v['train1']['expressions'].clear(),
            r'the videos that video_ids names \(train1\) have none',
        ),
        ({'video_ids': []}, lambda v: None, 'video_ids takes all videos .*: it names none'),
        (
            {'max_broken': 1.0},
            lambda v: [e.pop('obj_id') for x in v.values() for e in x['expressions'].values()],
            'all 8 are left out, as the first one: .* expression 0 of video train0 has no obj_id',
        ),
        (
            {},
            lambda v: [x['expressions'].clear() for x in v.values()],
            r'all its videos \(train0, train1\) have none',
        ),
    ],
)
def test_the_filter_that_took_all_expressions_is_named(root, options, change, message):
    edit(root, 'train', change)
    with pytest.raises(ValueError, match=message):
        RVOSDataset(root, **options)


def test_no_empty_clips(root):
    with pytest.raises(ValueError, match='num_frames must be at least 1'):
        RVOSDataset(root, num_frames=0)


def test_registry_builds_it(root):
    assert len(DATASETS.build({'type': 'RVOSDataset', 'data_root': str(root)})) == 16
