"""A2D-Sentences: what its items hold, and its configs from files to scores."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from fixtures_a2d import INSTANCES, VIDEO_IDS, cut_video, mask_file, write_a2d_sentences, write_h5
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from model_fixtures import tiny_model_cfg
from small_configs import save_weights, write_small_config
from toy_project import REPO

from referformer.datasets import A2DSentences
from referformer.registry import MODELS

FIRST, SECOND = VIDEO_IDS['train']
TEST_PIPELINE = [
    {'type': 'SampleFrames', 'mode': 'centred'},
    {'type': 'LoadVideoFrames'},
    {'type': 'LoadH5Masks'},
    {'type': 'Resize', 'shorter': 24, 'resize_masks': False},
    {'type': 'PackClip'},
]


@pytest.fixture
def root(tmp_path):
    return write_a2d_sentences(tmp_path / 'a2d')


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('referformer')


def items_of(dataset):
    return [dataset.get_data_info(i) for i in range(len(dataset))]


def edit(root, change, split='train'):
    """Apply ``change`` to the rows of an annotation file."""
    path = root / f'a2d_sentences_single_frame_{split}_annotations.json'
    rows = json.loads(path.read_text(encoding='utf-8'))
    change(rows)
    path.write_text(json.dumps(rows), encoding='utf-8')


def test_training_item_is_complete(root):
    item = A2DSentences(root).get_data_info(3)
    assert item == {
        'video_id': FIRST,
        'exp_id': '5',
        'text': 'the café cat on the left',
        'kind': None,
        'obj_id': 5,
        'label': 0,
        'key_frame': 6,  # frame 7, from 1
        'centre': 6,
        'num_frames': 5,
        'frame_names': [f'{number:05d}' for number in range(1, 13)],
        'video_file': str(root / 'Release/clips320H' / f'{FIRST}.mp4'),
        'mask_dir': str(root / 'text_annotations/a2d_annotation_with_instances' / FIRST),
        'mask_suffix': '.h5',
        'sample_idx': 3,
    }


def test_each_sentence_on_each_annotated_frame_is_an_item(root):
    dataset = A2DSentences(root, split='test', num_frames=6)
    assert dataset.test_mode
    items = items_of(dataset)
    first, second = VIDEO_IDS['test']
    expected = [(first, str(k), f'{t:05d}') for t in (1, 7, 12) for k in INSTANCES]
    expected += [(second, '2', f'{t:05d}') for t in (1, 7, 12)]
    assert dataset.metainfo['expected'] == expected
    assert [(i['key_frame'] + 1, i['num_frames']) for i in items[-2:]] == [(7, 6), (12, 6)]
    assert items[0]['text'] == "the dog's ball rolls"
    assert not any('centre' in item for item in items)


def test_videos_can_be_chosen(root):
    dataset = A2DSentences(root, video_ids=[SECOND])
    assert {item['video_id'] for item in items_of(dataset)} == {SECOND}
    with pytest.raises(ValueError, match=r'video_ids names .* that are not in .*: no-video'):
        A2DSentences(root, video_ids=['no-video'])


@pytest.mark.parametrize('size', [(48, 64), (45, 63)], ids=['even', 'odd'])
def test_packed_test_clips(tmp_path, size):
    root = write_a2d_sentences(tmp_path, size=size)
    dataset = A2DSentences(root, split='test', pipeline=TEST_PIPELINE)
    for index, (t, visible) in enumerate([(0, True), (0, True), (6, True), (6, True), (11, True)]):
        item = dataset[index]
        sample = item['data_samples']
        truth = sample.gt_instances
        assert item['inputs'].shape == (5, 3, *sample.img_shape)
        assert sample.ori_shape == size and truth.masks.shape == (1, 1, *size)
        assert sample.frame_names == [f'{t + 1:05d}']
        assert truth.valid.tolist() == [[visible]] and truth.boxes.shape == (1, 1, 4)
        # The annotated frame of the clip is the one with the mask: it is red or green there.
        (key,) = sample.key_frames
        mask = torch.nn.functional.interpolate(truth.masks[0].float()[None], sample.img_shape)[0, 0]
        inside = item['inputs'][key].float()[:, mask > 0].mean(1)
        assert inside[index % 2] > 2 * inside[2]


def test_absent_objects_are_not_valid(root):
    dataset = A2DSentences(root, split='test', pipeline=TEST_PIPELINE)
    truth = dataset[5]['data_samples'].gt_instances
    assert truth.valid.tolist() == [[False]] and not truth.masks.any()
    assert truth.boxes.tolist() == [[[0, 0, 0, 0]]]


def test_training_draws_another_item_for_an_absent_object(root):
    pipeline = [{'type': 'SampleFrames'}, *TEST_PIPELINE[1:3], {'type': 'FilterVisible'}]
    dataset = A2DSentences(root, pipeline=pipeline)
    assert dataset.get_data_info(5)['text'] == 'the café cat on the left'
    np.random.seed(0)
    for _ in range(10):
        item = dataset[5]
        assert item['valid'].tolist() == [[True]]
        assert (item['sample_idx'], item['key_frame']) != (5, 11)
        assert item['imgs'].shape == (5, 48, 64, 3)


def test_videos_may_be_shorter_than_the_clip(tmp_path):
    root = write_a2d_sentences(tmp_path, num_frames=2, num_videos=1)
    clip = A2DSentences(root, split='test', pipeline=TEST_PIPELINE)[2]
    assert clip['inputs'].shape[0] == 5
    assert clip['data_samples'].frame_names == ['00002']


@pytest.mark.parametrize(
    'row, message',
    [
        (['a dog', FIRST, 1], r'row 10 must be \[text, video, frame, instance\], not'),
        (['a dog', FIRST, 0, 2], 'row 10: the frame must be an integer from 1, not 0'),
        (['a dog', FIRST, 'x', 2], "row 10: the frame must be an integer from 1, not 'x'"),
        (['a dog', FIRST, 1, None], 'row 10: the instance must be an integer from 1, not None'),
        (['a dog', '', 1, 2], "row 10: the video must be a name, not ''"),
        ([' ', FIRST, 1, 2], 'row 10 is empty'),
    ],
)
def test_malformed_rows_are_named(root, row, message):
    edit(root, lambda rows: rows.append(row))
    with pytest.raises(ValueError, match=r'train_annotations\.json: ' + message):
        A2DSentences(root)


def test_malformed_files_are_named(root):
    path = root / 'a2d_sentences_single_frame_train_annotations.json'
    path.write_text('[[')
    with pytest.raises(ValueError, match=r'train_annotations\.json is not valid JSON'):
        A2DSentences(root)
    path.write_text('{}')
    with pytest.raises(ValueError, match='must be a list of rows'):
        A2DSentences(root)


def test_wrong_layout_says_what_is_there(root):
    with pytest.raises(FileNotFoundError, match=r'A2D-Sentences .*holds: Release'):
        A2DSentences(root / 'nowhere')
    with pytest.raises(FileNotFoundError, match=r'_train_annotations\.json not found'):
        A2DSentences(root / 'Release')
    with pytest.raises(ValueError, match="split must be 'train' or 'test', not 'valid'"):
        A2DSentences(root, split='valid')


def test_missing_videos_and_masks_are_named(root):
    video = root / 'Release' / 'clips320H' / f'{FIRST}.mp4'
    content = video.read_bytes()
    video.unlink()
    with pytest.raises(FileNotFoundError, match=rf'1 videos not found: .*{FIRST}\.mp4'):
        A2DSentences(root)
    video.write_bytes(content)
    mask_file(root, FIRST, 1).parent.rename(root / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=rf'1 folders of masks not found: .*{FIRST}'):
        A2DSentences(root)


def test_frames_beyond_the_end_are_named(root):
    edit(root, lambda rows: rows.append(['a dog', FIRST, 13, 2]))
    dataset = A2DSentences(root)
    with pytest.raises(ValueError, match=rf'frame 13 of video {FIRST} is annotated, but .* has 12'):
        dataset.get_data_info(len(dataset) - 1)
    edit(root, lambda rows: rows.append(['a dog', VIDEO_IDS['test'][0], 13, 2]), 'test')
    with pytest.raises(ValueError, match='frame 13'):  # testing looks at all videos first
        A2DSentences(root, split='test')


def test_frames_annotated_twice_are_refused_in_testing(root):
    edit(root, lambda rows: rows.append(['a ball', *rows[0][1:]]), 'test')
    message = f'expression 2 of video {VIDEO_IDS["test"][0]} is on frame 1 twice'
    with pytest.raises(ValueError, match=message):
        A2DSentences(root, split='test')


def test_an_early_end_and_a_missing_field_stop_testing(root):
    dataset = A2DSentences(root, split='test', pipeline=TEST_PIPELINE)
    first, second = VIDEO_IDS['test']
    cut_video(root / 'Release' / 'clips320H' / f'{first}.mp4')
    with pytest.raises(ValueError, match='claims 12, and frame 10 is needed'):
        dataset[4]
    write_h5(mask_file(root, second, 1), (2,), np.zeros((1, 48, 64), bool), reMask=None)
    with pytest.raises(ValueError, match='the field reMask is missing'):
        dataset[6]


@pytest.mark.parametrize('broken', ['video', 'field'])
def test_an_early_end_and_a_missing_field_are_skipped_and_counted_in_training(root, broken):
    train = [
        {'type': 'SampleFrames'},
        {'type': 'LoadVideoFrames'},
        {'type': 'LoadH5Masks'},
        {'type': 'FilterVisible'},
        {'type': 'PackClip'},
    ]
    dataset = A2DSentences(root, num_frames=12, pipeline=train, max_broken=0.01)
    items = items_of(dataset)
    affected = [i for i, item in enumerate(items) if item['video_id'] == FIRST]
    if broken == 'video':
        cut_video(root / 'Release' / 'clips320H' / f'{FIRST}.mp4')
    else:
        for frame in (1, 7, 12):
            path = mask_file(root, FIRST, frame)
            write_h5(path, INSTANCES, np.zeros((len(INSTANCES), 48, 64), bool), reMask=None)
    np.random.seed(0)
    assert dataset[affected[0]]['data_samples'].video_id == SECOND
    assert dataset.num_broken >= 1
    assert dataset.num_read > dataset.num_broken

    strict = A2DSentences(root, num_frames=12, pipeline=train, max_broken=0.0)
    with pytest.raises(ValueError, match=rf'{FIRST}.*max_broken=0\.0'):
        strict[affected[0]]


def load_tool(name):
    path = REPO / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_annotated_frame_of_every_sentence_is_drawn(root, tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.chdir(tmp_path)
    config = write_small_config('referformer_vswin-t_a2d', tmp_path, root)
    save_weights(Config.fromfile(config).model, tmp_path / 'weights.pth')
    test = [str(config), 'weights.pth', '--out', 'scores.json', '--show-dir', 'shown']
    load_tool('test').main([*test, '--cfg-options', 'default_hooks.visualization.interval=1'])
    scores = json.loads((tmp_path / 'scores.json').read_text())['metrics']
    assert {'mAP', 'mAP_best'} <= set(scores)
    drawn = {path.name for path in (tmp_path / 'shown').glob('*/*.png')}
    first, second = VIDEO_IDS['test']
    expected = {f'{first}_{k}_{t:05d}.png' for k in INSTANCES for t in (1, 7, 12)}
    assert drawn == expected | {f'{second}_2_{t:05d}.png' for t in (1, 7, 12)}


def test_the_model_answers_for_the_annotated_frame_alone(root, tmp_path):
    dataset = A2DSentences(root, split='test', pipeline=TEST_PIPELINE)
    items = [dataset[0], dataset[4]]
    cfg = tiny_model_cfg(
        tmp_path / 'tokenizer',
        num_queries=5,
        test_cfg={'keep': 'all', 'resize': 'masks'},
        data_preprocessor={'test_divisor': 32},
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    batch = {key: [item[key] for item in items] for key in items[0]}
    data = model.data_preprocessor(batch)
    assert data['inputs'].shape == (2, 5, 3, 32, 32)
    for sample in model(**data, mode='predict'):
        found = sample.pred_instances
        assert found.masks.shape == (5, 1, 48, 64) and found.boxes.shape == (5, 1, 4)
        assert found.scores.shape == (5,)
    # Frames of the backbone that are not annotated count by what Video Swin makes of them only:
    # their own maps do not go on.
    visual = model.see(data['inputs'], data['data_samples'])
    maps = model.backbone(data['inputs'])[0].unflatten(0, (2, 5))
    for i, item in enumerate(items):
        (key,) = item['data_samples'].key_frames
        entered = model.pixel_decoder.enter(maps[i, key][None])[0]
        torch.testing.assert_close(visual.stride4[i], entered)


# Epochs, those after which the learning rate drops, weight decay, frames, dropout, start.
RECIPES = {
    'vswin-t': (6, [3, 5], 5e-4, 5, 0.1, 'checkpoints/referformer_vswin-t_refcoco.pth'),
    'vswin-s': (6, [3, 5], 5e-4, 5, 0.1, 'checkpoints/referformer_vswin-s_refcoco.pth'),
    'vswin-b': (6, [3, 5], 5e-4, 5, 0.1, 'checkpoints/referformer_vswin-b_refcoco.pth'),
    'vswin-t_scratch': (12, [8, 10], 1e-4, 6, 0.0, None),
}


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_are_the_published_ones(name):
    config = Config.fromfile(REPO / 'configs' / f'referformer_{name}_a2d.py')
    epochs, drops, weight_decay, num_frames, dropout, start = RECIPES[name]
    assert config.train_cfg.max_epochs == epochs
    assert config.param_scheduler.milestones == drops
    assert config.optim_wrapper.optimizer.weight_decay == weight_decay
    assert config.train_dataloader.batch_size == 2 and config.auto_scale_lr.base_batch_size == 16
    loaders = [config[f'{kind}_dataloader'] for kind in ('train', 'val', 'test')]
    assert {loader.dataset.num_frames for loader in loaders} == {num_frames}
    assert [loader.dataset.split for loader in loaders] == ['train', 'test', 'test']
    assert config.model.transformer.dropout == dropout
    assert config.model.text_encoder.frozen
    assert config.load_from == start
    fresh = config.default_hooks.checkpoint_keys.get('fresh')
    assert fresh == ([r'^class_heads\.'] if start else None)
    assert config.model.test_cfg == {'keep': 'all', 'resize': 'masks', 'threshold': 0.5}
    preprocessor = config.model.data_preprocessor
    assert preprocessor.train_divisor == preprocessor.test_divisor == 32
