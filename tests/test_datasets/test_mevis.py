"""MeViS: unions of the masks of several objects, read from one big file of run lengths."""

import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_mevis import draw_masks, encode, write_mevis
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from small_configs import save_weights, write_small_config
from toy_project import REPO

from referformer.datasets import MeViS
from referformer.datasets.transforms import LoadFrames, LoadRLEMasks, PackClip, SampleFrames
from referformer.datasets.transforms.rle import find_masks, read_masks
from referformer.registry import DATASETS

WHOLE = (SampleFrames(mode='all'), LoadFrames(), LoadRLEMasks(), PackClip())
LEAVES = sorted(path.stem for path in (REPO / 'configs').glob('*_mevis.py'))


@pytest.fixture
def root(tmp_path):
    return write_mevis(tmp_path / 'data' / 'mevis')


def edit(root, split, change, name='meta_expressions.json'):
    path = root / split / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_items_name_all_objects(root):
    dataset = MeViS(root, 'train', num_frames=3)
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [(i['video_id'], i['exp_id'], i['centre']) for i in items] == [
        (video, str(exp_id), centre)
        for video, centres in (('1a2b3c', (0, 3, 6)), ('short', (0,)))
        for exp_id in range(3)
        for centre in centres
    ]
    by_key = {(i['video_id'], i['exp_id']): i for i in items}
    assert by_key['1a2b3c', '0']['text'] == "the dogs' owner, déjà vu, moves right"
    assert by_key['1a2b3c', '2']['obj_id'] == (0, 1, 2)
    assert by_key['short', '1']['obj_id'] == (3, 4)
    assert len(by_key['short', '1']['rle_spans']) == 2
    assert by_key['short', '0']['mask_dir'] is None and by_key['short', '0']['label'] == 0


def test_the_target_is_the_union_of_all_objects(root):
    dataset = MeViS(root, 'valid_u', pipeline=WHOLE)
    assert dataset.metainfo['expected'] == [('9f8e7d', str(i)) for i in range(3)]
    objects = [draw_masks(k, 5, (51, 83), 3) for k in range(3)]
    for exp_id, chosen in enumerate(((0,), (0, 1), (0, 1, 2))):
        sample = dataset[exp_id]['data_samples']
        expected = np.any([objects[k] for k in chosen], 0)
        assert sample.ori_shape == (51, 83)
        assert sample.gt_instances.masks.shape == (1, 5, 51, 83)
        assert (sample.gt_instances.masks[0].numpy() == expected).all()
        assert sample.gt_instances.valid.all()
        assert 'gt_control' not in sample
    rows, columns = np.nonzero(objects[0][2] | objects[1][2])
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    x, y, w, h = (
        dataset[1]['data_samples'].gt_instances.boxes[0, 2] * torch.tensor([83, 51, 83, 51])
    ).tolist()
    assert [x - w / 2, y - h / 2, x + w / 2, y + h / 2] == pytest.approx(box)


def test_an_absent_object_is_invisible(root):
    edit(root, 'valid_u', lambda c: expression(c, '0').update(anno_id=[102]))
    truth = MeViS(root, 'valid_u', pipeline=WHOLE)[0]['data_samples'].gt_instances
    assert truth.valid[0].tolist() == [False, True, True, True, True]
    assert not truth.masks[0, 0].any() and not truth.boxes[0, 0].any()


def test_published_valid_has_no_ground_truth(root):
    dataset = MeViS(root, 'valid', pipeline=WHOLE)
    info = dataset.get_data_info(0)
    assert (info['obj_id'], info['rle_file'], info['rle_spans']) == (None, None, None)
    assert 'gt_instances' not in dataset[0]['data_samples']


def test_frames_are_in_the_order_of_the_masks(root):
    edit(root, 'valid_u', lambda c: c['videos']['9f8e7d']['frames'].reverse())
    assert MeViS(root, 'valid_u').get_data_info(0)['frame_names'] == [f'{t:05d}' for t in range(5)]


@pytest.mark.parametrize('indent', [None, 1])
def test_masks_are_found_as_a_parser_finds_them(tmp_path, indent):
    rng = np.random.default_rng(0)
    content = {}
    for anno_id in rng.permutation(30).tolist():
        # Noise has long codes, in which most of the letters occur, brackets and backslashes too.
        masks = rng.random((int(rng.integers(0, 4)), 40, 31)) < rng.random()
        content[str(anno_id)] = [encode(mask) for mask in masks] + [None]
    letters = {c for masks in content.values() for m in masks if m for c in m['counts']}
    assert {'[', ']', '\\', ':'} <= letters
    path = tmp_path / 'mask_dict.json'
    path.write_text(json.dumps(content, indent=indent))
    spans = find_masks(path)
    assert list(spans) == list(map(int, content))
    assert {str(i): read_masks(path, span) for i, span in spans.items()} == content


def test_the_mask_file_is_not_held_in_memory(root):
    """What a process keeps of it does not grow with the masks."""
    small = len(pickle.dumps(MeViS(root, 'train').spans))

    def inflate(content):
        content['0'][1]['counts'] *= 10_000
        content['99'] = content['0']

    edit(root, 'train', inflate, 'mask_dict.json')
    spans = MeViS(root, 'train').spans
    assert len(spans) == 5 and len(pickle.dumps(spans)) < small + 20


def expression(content, exp_id, video='9f8e7d'):
    return content['videos'][video]['expressions'][exp_id]


def test_expressions_without_objects_are_refused(root):
    edit(root, 'valid_u', lambda c: expression(c, '1').update(anno_id=[]))
    with pytest.raises(ValueError, match='expression 1 of video 9f8e7d names no object'):
        MeViS(root, 'valid_u')
    edit(root, 'train', lambda c: expression(c, '2', 'short').pop('anno_id'))
    with pytest.raises(ValueError, match='expression 2 of video short names no object'):
        MeViS(root, 'train')


def test_unknown_objects_are_named(root):
    edit(root, 'valid_u', lambda c: expression(c, '1').update(anno_id=[100, 7]))
    message = r'mask_dict.json lacks 1 of the 4 objects .*: 7 of video 9f8e7d'
    with pytest.raises(ValueError, match=message):
        MeViS(root, 'valid_u')


def test_wrong_layout_is_described(root, tmp_path):
    with pytest.raises(ValueError, match=r"split must be .*, not 'test'"):
        MeViS(root, 'test')
    with pytest.raises(FileNotFoundError, match=r'meta_expressions.json not found.*holds: mevis'):
        MeViS(root.parent, 'train')
    (root / 'valid_u/mask_dict.json').rename(root / 'valid_u/masks.json')
    with pytest.raises(FileNotFoundError, match=r'mask_dict.json not found.*holds: .*masks.json'):
        MeViS(root, 'valid_u')
    (root / 'valid/JPEGImages/0a0b0c').rename(root / 'valid/JPEGImages/other')
    with pytest.raises(FileNotFoundError, match='lacks the folders of 1 videos: 0a0b0c'):
        MeViS(root, 'valid')


@pytest.mark.parametrize('size', [0, 40, -3, -1])
def test_mask_files_that_end_early_are_refused(root, size):
    path = root / 'valid_u/mask_dict.json'
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r'mask_dict.json .*[Gg]et it again'):
        MeViS(root, 'valid_u')


MASKS = {
    'another number of frames': (
        lambda c: c['100'].pop(),
        'object 100 of video 9f8e7d has masks for 4 frames, but the video has 5',
    ),
    'another size': (
        lambda c: c['100'].__setitem__(2, encode(np.ones((51, 84), bool))),
        r'no valid mask on frame 2: run lengths of the size \[51, 84\], not \[51, 83\]',
    ),
    'no code': (
        lambda c: c['100'][3].pop('counts'),
        'object 100 of video 9f8e7d has no valid mask on frame 3',
    ),
    'a code of fewer pixels': (  # pycocotools leaves the rest of its memory as it was
        lambda c: c['100'][3].update(counts=encode(np.ones((51, 82), bool))['counts']),
        'object 100 of video 9f8e7d has no valid mask on frame 3: run lengths that do not cover',
    ),
    'a code of more pixels': (
        lambda c: c['100'][3].update(counts=2 * c['100'][3]['counts']),
        'object 100 of video 9f8e7d has no valid mask on frame 3',
    ),
}


@pytest.mark.parametrize('name', MASKS)
def test_broken_masks_are_named(root, name):
    change, message = MASKS[name]
    edit(root, 'valid_u', change, 'mask_dict.json')
    with pytest.raises(ValueError, match=message):
        MeViS(root, 'valid_u', pipeline=WHOLE)[0]


def test_masks_damaged_after_the_start_are_named(root):
    dataset = MeViS(root, 'valid_u', pipeline=WHOLE)
    path = root / 'valid_u/mask_dict.json'
    path.write_bytes(path.read_bytes().replace(b'"counts"', b'"counts '))
    with pytest.raises(ValueError, match=r'mask_dict.json is not valid JSON between the bytes'):
        dataset[0]


def test_missing_frames_are_named(root):
    (root / 'valid_u/JPEGImages/9f8e7d/00003.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'9f8e7d/00003.jpg not found'):
        MeViS(root, 'valid_u', pipeline=WHOLE)[0]


def test_loader_with_workers_reads_the_same(root):
    loader = {
        'dataset': {
            'type': 'referformer.MeViS',
            'data_root': str(root),
            'pipeline': [
                {'type': f'referformer.{name}'}
                for name in ('SampleFrames', 'LoadFrames', 'LoadRLEMasks', 'PackClip')
            ],
        },
        'batch_size': 2,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': {'type': 'pseudo_collate'},
    }
    batches = list(Runner.build_dataloader({**loader, 'num_workers': 2}, seed=0))
    assert len(batches) == 5
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert [s.obj_id for s in samples][:4] == [(0,), (0,), (0, 1), (0, 1)]
    assert all(s.gt_instances.valid.any() for s in samples)


@pytest.mark.parametrize('name', LEAVES)
def test_leaf_configs_build_their_datasets(root, name, monkeypatch):
    monkeypatch.chdir(root.parents[1])  # configs look in data/mevis
    init_default_scope('referformer')
    config = Config.fromfile(REPO / 'configs' / f'{name}.py')
    np.random.seed(0)
    item = DATASETS.build(config.train_dataloader.dataset)[0]
    assert item['inputs'].shape[0] == 5
    assert item['data_samples'].gt_instances.valid.any()
    item = DATASETS.build(config.test_dataloader.dataset)[1]
    assert item['inputs'].shape == (5, 3, 360, 585)
    assert item['data_samples'].gt_instances.masks.shape == (1, 5, 51, 83)


def load_tool(name):
    spec = importlib.util.spec_from_file_location(f'tool_{name}', REPO / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='checked on CPU')
def test_the_recipe_tests_and_submits(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    config = write_small_config('referformer_vswin-t_mevis', tmp_path, root)
    save_weights(Config.fromfile(config).model, Path('weights.pth'))
    test = load_tool('test')
    test.main([str(config), 'weights.pth', '--out', 'scores.json'])
    metrics = json.loads(Path('scores.json').read_text())['metrics']
    assert {'J', 'F', 'J&F'} <= set(metrics) and 0 <= metrics['J&F'] <= 100
    options = ['test_dataloader.dataset.split=valid', 'test_evaluator.type=SubmissionMetric']
    options += ['test_evaluator.out_dir=submission', 'experiment_name=submission']
    test.main([str(config), 'weights.pth', '--cfg-options', *options])
    names = {str(path.relative_to('submission')) for path in Path('submission').rglob('*.png')}
    expected = {f'Annotations/0a0b0c/{e}/{t:05d}.png' for e in range(3) for t in range(4)}
    assert names == expected
