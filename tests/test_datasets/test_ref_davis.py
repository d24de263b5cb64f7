"""Ref-DAVIS17, from the published files through the converter to scores of a small model."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_davis import write_ref_davis
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from small_configs import save_weights, write_small_config
from toy_project import REPO

from referformer.datasets import RefDAVIS
from referformer.datasets.transforms import LoadFrames, LoadMasks, PackClip, SampleFrames
from referformer.engine import VideoSampler, samplers
from referformer.registry import DATASETS

WHOLE = (SampleFrames(mode='all'), LoadFrames(), LoadMasks(), PackClip())
SMALL = 'referformer_efflite0_davis17'  # tests only
LEAVES = sorted({path.stem for path in (REPO / 'configs').glob('*_davis17.py')} - {SMALL})
EXPRESSIONS = 'meta_expressions/valid/meta_expressions.json'


def load_tool(name):
    path = REPO / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    root = write_ref_davis(tmp_path / 'data' / 'ref-davis')
    load_tool('dataset_tools/convert_ref_davis').main([str(root)])
    return root


def edit(path, change):
    content = json.loads(path.read_text())
    change(content['videos'])
    path.write_text(json.dumps(content))


def test_there_are_78_classes():
    classes = RefDAVIS.METAINFO['classes']
    assert len(classes) == len(set(classes)) == 78
    assert list(classes) == sorted(classes)


def test_training_items(root):
    dataset = RefDAVIS(root, num_frames=3, pipeline=WHOLE)
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    by_video = {}
    for item in items:
        by_video.setdefault(item['video_id'], []).append(item)
    counts = {video: len(found) for video, found in by_video.items()}
    # Expressions times every third frame.
    assert counts == {'classic-car': 8 * 2, 'dogs-scale': 4 * 1, 'motorbike': 4 * 2}
    assert {item['label'] for item in by_video['classic-car']} == {11, 47}
    assert by_video['dogs-scale'][2]['text'] == "the dog's café no 1, by 2"
    assert dataset[0]['data_samples'].gt_instances.masks.shape == (1, 6, 48, 64)


def test_test_items_and_what_the_metric_needs(root):
    dataset = RefDAVIS(root, 'valid', pipeline=WHOLE)
    assert dataset.metainfo['expected'] == [
        *(('judo', str(i)) for i in range(8)),
        *(('blackswan', str(i)) for i in range(4)),
    ]
    assert dataset.metainfo['mask_dir'] == str(root / 'valid/Annotations')
    assert [dataset.get_data_info(i)['obj_id'] for i in range(8)] == [1] * 4 + [2] * 4
    assert [dataset.get_data_info(i)['label'] for i in (0, 8)] == [47, 5]
    sample = dataset[0]['data_samples']
    # Void pixels on the last frame are not the object.
    assert sample.gt_instances.masks[0].sum((1, 2)).tolist() == [27 * 13] * 6 + [27 * 11]


def test_other_orders_of_expressions_are_refused(root):
    def swap(videos):
        expressions = videos['judo']['expressions']
        expressions['3'], expressions['4'] = expressions['4'], expressions['3']

    edit(root / EXPRESSIONS, swap)
    message = 'expression 3 of video judo is about the object 2, the one before it about 1'
    with pytest.raises(ValueError, match=message):
        RefDAVIS(root, 'valid')
    edit(root / EXPRESSIONS, lambda v: v['judo']['expressions']['5'].pop('obj_id'))
    with pytest.raises(ValueError, match='video judo some have no obj_id: 5'):
        RefDAVIS(root, 'valid')
    edit(root / EXPRESSIONS, lambda v: v['judo'].update(expressions={'a': {'exp': 'a man'}}))
    with pytest.raises(ValueError, match='expression a of video judo must have a number'):
        RefDAVIS(root, 'valid')


def test_wrong_layout_is_described(root):
    with pytest.raises(ValueError, match=r"split must be 'train' or 'valid', not 'val'"):
        RefDAVIS(root, 'val')
    with pytest.raises(FileNotFoundError, match=r'meta_expressions.json not found'):
        RefDAVIS(root / 'DAVIS')
    (root / 'valid/JPEGImages/judo').unlink()
    with pytest.raises(FileNotFoundError, match=r'lacks the folders of 1 videos: judo'):
        RefDAVIS(root, 'valid')


def test_missing_frames_are_named(root):
    (root / 'DAVIS/JPEGImages/480p/judo/00004.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'judo/00004.jpg not found'):
        RefDAVIS(root, 'valid', pipeline=WHOLE)[0]


@pytest.mark.parametrize('name', LEAVES)
def test_leaf_configs_build_their_datasets(root, name, monkeypatch):
    monkeypatch.chdir(root.parents[1])  # configs look in data/ref-davis
    init_default_scope('referformer')
    config = Config.fromfile(REPO / 'configs' / f'{name}.py')
    assert config.model.test_cfg.window == 36 and config.model.test_cfg.keep_logits
    np.random.seed(0)
    item = DATASETS.build(config.train_dataloader.dataset)[0]
    assert item['inputs'].shape[0] == 5 and item['data_samples'].gt_instances.valid.any()
    item = DATASETS.build(config.test_dataloader.dataset)[0]
    assert item['inputs'].shape == (7, 3, 360, 585)
    assert item['data_samples'].gt_instances.masks.shape == (1, 7, 51, 83)


def test_the_small_model_is_tested_in_clips_of_8_at_its_own_size(root, monkeypatch):
    monkeypatch.chdir(root.parents[1])
    init_default_scope('referformer')
    config = Config.fromfile(REPO / 'configs' / f'{SMALL}.py')
    assert config.model.test_cfg.window == 8 and config.model.test_cfg.keep_logits
    item = DATASETS.build(config.test_dataloader.dataset)[0]
    assert item['inputs'].shape == (7, 3, 288, 468)
    assert item['data_samples'].gt_instances.masks.shape == (1, 7, 51, 83)
    assert 'RefDAVIS' not in str(config.train_dataloader)  # for validation only


@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_videos_stay_on_one_process(root, monkeypatch, world_size):
    dataset = RefDAVIS(root, 'valid')
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world_size))
        sampler = VideoSampler(dataset, seed=3)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
    assert sorted(i for share in shares for i in share) == list(range(12))
    assert [len(share) for share in shares] == [[12], [8, 4], [8, 4, 0]][world_size - 1]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='checked on CPU')
def test_the_recipe_tests_in_windows(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    config = write_small_config('referformer_vswin-b_davis17', tmp_path, root)
    save_weights(Config.fromfile(config).model, Path('weights.pth'))
    test, score = load_tool('test'), load_tool('score')
    for window in (36, 3):
        options = [f'model.test_cfg.window={window}', f'test_evaluator.out_dir=maps{window}']
        options += [f'experiment_name=window{window}']
        arguments = [str(config), 'weights.pth', '--out', f'{window}.json']
        test.main([*arguments, '--cfg-options', *options])
        metrics = json.loads(Path(f'{window}.json').read_text())['metrics']
        assert {'J&F', 'J', 'F', *(f'J&F_anno_{i}' for i in range(4))} <= set(metrics)
        protocol = ['--protocol', 'ref-davis', '--json', f'scores{window}.json']
        score.main(['--pred', f'maps{window}', '--gt', str(root / 'valid/Annotations'), *protocol])
        mean = json.loads(Path(f'scores{window}.json').read_text())['overall']['mean']
        assert metrics['J&F'] == 100 * mean['J&F-Mean']
    with Image.open('maps3/anno_3/judo/00006.png') as image:
        assert image.mode == 'P' and image.size == (83, 51)
