"""Every leaf config builds at full size, and trains and tests in small through the tools."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_a2d import write_a2d_sentences
from fixtures_davis import write_ref_davis
from fixtures_instances import write_pictures
from fixtures_jhmdb import write_jhmdb_sentences
from fixtures_mevis import write_mevis
from fixtures_recent import write_long_rvos, write_mevis_v2, write_revos
from fixtures_refcoco import write_refcoco
from fixtures_rvos import write_ref_youtube_vos
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from small_configs import save_weights, write_small_config
from toy_project import REPO

from referformer.datasets.synthetic import generate_dataset
from referformer.engine import read_checkpoint
from referformer.registry import MODELS

CONFIGS = REPO / 'configs'
ABLATIONS = sorted((CONFIGS / 'ablations').glob('*.py'))
LEAVES = [
    str(path.relative_to(CONFIGS))[:-3] for path in [*sorted(CONFIGS.glob('*.py')), *ABLATIONS]
]
README = CONFIGS / 'README.md'
# What each ablation changes of its base, and to what.
CHANGES = {
    'queries-1': {'model.num_queries': 1},
    'queries-3': {'model.num_queries': 3},
    'queries-8': {'model.num_queries': 8},
    'frames-3': {'train_dataloader.dataset.num_frames': 3},
    'frames-7': {'train_dataloader.dataset.num_frames': 7},
    'no-box-refinement': {'model.transformer.with_box_refine': False},
    'no-relative-coordinates': {'model.mask_head.rel_coord': False},
    'no-early-fusion': {'model.fusion': None},
    'mask-channels-4': {'model.mask_head.num_channels': 4},
    'mask-channels-16': {'model.mask_head.num_channels': 16},
    'mask-features-64': {'model.mask_head.mask_dim': 64},
    'multi-class': {'model.num_classes': 65},
}

SCORES = {
    'FoundMetric': {'box_IoU'},
    'VOSMetric': {'J&F', 'J', 'F'},
    'RefDAVISMetric': {'J&F', 'J', 'F', *(f'J&F_anno_{i}' for i in range(4))},
    'ReferringMetric': {'overall_IoU', 'mean_IoU', 'P@0.5', 'P@0.9'},
}


def load_tool(name):
    path = REPO / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder with a tiny copy of every dataset where the configs look for it."""
    root = tmp_path_factory.mktemp('leaves')
    write_ref_youtube_vos(root / 'data' / 'ref-youtube-vos', num_train=1, num_valid=1, num_test=1)
    write_ref_davis(root / 'data' / 'ref-davis')
    load_tool('dataset_tools/convert_ref_davis').main([str(root / 'data' / 'ref-davis')])
    write_mevis(root / 'data' / 'mevis')
    write_mevis_v2(root / 'data' / 'mevis_v2')
    write_long_rvos(root / 'data' / 'long_rvos')
    write_revos(root / 'data' / 'revos')
    write_a2d_sentences(root / 'data' / 'a2d_sentences')
    write_jhmdb_sentences(root / 'data' / 'jhmdb_sentences')
    write_refcoco(root / 'data')
    write_pictures(root / 'data' / 'pictures')
    size = {'size': (48, 80), 'num_frames': 8}
    for name in ('synthetic', 'synthetic-large'):
        generate_dataset(root / 'data' / name, num_train=3, num_valid=1, num_workers=0, **size)
    return root


@pytest.fixture
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    # Half of the time goes into the layout of configs that are only written.
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda code, **_: (code, True))
    return workplace


def skip_without_mmdet(config):
    if config.model.backbone.type == 'ResNet' and importlib.util.find_spec('mmdet') is None:
        pytest.skip('ResNets come from mmdet, which is not installed')


@pytest.mark.parametrize('name', LEAVES)
def test_builds_at_full_size(name):
    init_default_scope('referformer')
    config = Config.fromfile(CONFIGS / f'{name}.py')
    skip_without_mmdet(config)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert all(p.is_meta for p in model.parameters())
    if config.model.type == 'BackbonePretraining':
        return
    assert len(model.query_embed.weight) == config.model.num_queries
    assert {head.out_features for head in model.class_heads} == {config.model.num_classes}


def differences(old, new, key=''):
    """Dotted keys of what two configs say differently, with the second one's value."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if not (key == '' and name == 'filename')]
        parts = (
            differences(old.get(name), new.get(name), f'{key}.{name}' if key else name)
            for name in names
        )
        return {name: value for part in parts for name, value in part.items()}
    return {} if old == new else {key: new}


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_is_two_lines_and_changes_one_thing(path, tmp_path):
    assert len(path.read_text().splitlines()) == 2
    config = Config.fromfile(path)
    base = Config.fromfile(CONFIGS / 'referformer_vswin-t_scratch_ytvos.py')
    dumped = []
    for number, entry in enumerate((base, config)):
        entry.dump(tmp_path / f'{number}.py')
        dumped.append(Config.fromfile(tmp_path / f'{number}.py').to_dict())
    subject = re.fullmatch(r'referformer_vswin-t_(.+)_ytvos', path.stem)[1]
    assert differences(*dumped) == CHANGES[subject]


def test_every_ablation_is_there():
    assert len(CHANGES) == len(ABLATIONS)


def test_readme_names_every_config_and_no_other():
    text = README.read_text()
    named = set(re.findall(r'[\w/.+-]*referformer_[\w.+-]+\.py', text))
    named = {name.removeprefix('configs/').removesuffix('.py') for name in named}
    assert {name for name in named if not name.startswith('_base_')} == set(LEAVES)


def test_readme_names_checkpoints_that_a_recipe_leaves():
    """Work dir and epoch in the commands are those of a config that is there."""
    commands = re.findall(r'work_dirs/([\w-]+)/(epoch|iter)_(\d+)\.pth', README.read_text())
    assert commands
    for name, unit, number in commands:
        train_cfg = Config.fromfile(CONFIGS / f'{name}.py').train_cfg
        assert train_cfg[{'epoch': 'max_epochs', 'iter': 'max_iters'}[unit]] == int(number), name


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='checked on CPU')
@pytest.mark.parametrize('name', LEAVES)
def test_trains_and_tests(in_workplace, name):
    skip_without_mmdet(Config.fromfile(CONFIGS / f'{name}.py'))
    path = write_small_config(name, in_workplace)
    config, out = Config.fromfile(path), Path('out', path.stem)
    # With SAM 2 what is trained is the config that it tests.
    if 'train_dataloader' in config and not name.endswith('_sam2'):
        load_tool('train').main([str(path), '--work-dir', str(out)])
        (checkpoint,) = out.glob('*.pth')
        check_training(config, out, checkpoint)
        if config.test_cfg is None:  # a backbone alone segments nothing
            assert config.model.type == 'BackbonePretraining'
            return
    else:
        checkpoint = out / 'other.pth'
        save_weights(weights_of(config).model, checkpoint)

    options = [f'experiment_name={config.experiment_name}-test']
    evaluators = config.test_evaluator
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    submits = evaluators[0].type == 'SubmissionMetric'
    if submits:  # of the 2 configs that a user has, one may not write over the other
        options.append(f'test_evaluator.out_dir={out / "submission"}')
    arguments = [str(path), str(checkpoint), '--out', str(out / 'scores.json')]
    load_tool('test').main([*arguments, '--work-dir', f'{out}-test', '--cfg-options', *options])
    scores = json.loads((out / 'scores.json').read_text())['metrics']
    if submits:
        masks = {p.relative_to(out) for p in out.glob('submission/Annotations/*/*/*.png')}
        names = [f'{5 * t:05d}.png' for t in range(6)]
        tree = Path('submission', 'Annotations', 'valid0')
        assert masks == {tree / str(exp) / frame for exp in range(4) for frame in names}
    else:
        assert set().union(*(SCORES[e.type] for e in evaluators)) <= set(scores)
        assert ('REC_P@1' in scores) is evaluators[0].get('with_boxes', False)
        assert all(value is None or abs(value) <= 100 for value in scores.values())


def check_training(config, work_dir, checkpoint):
    """The run has made its iterations, from the weights it should, and what is frozen stayed."""
    several = config.train_dataloader.dataset.get('datasets')
    batches = len(several) // config.train_dataloader.batch_size if several else 2
    trained = read_checkpoint(checkpoint)
    assert trained['meta']['iter'] == max(batches, 2)
    log = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    rows = [json.loads(line) for line in log.splitlines()]
    assert all(np.isfinite(row['loss']) for row in rows if 'loss' in row)
    scored = [row for row in rows if 'loss' not in row]
    assert bool(scored) is (config.get('val_cfg') is not None)
    if config.model.type == 'BackbonePretraining':
        return
    name = 'encoder.embeddings.word_embeddings.weight'
    if config.load_from:
        before = read_checkpoint(config.load_from)['state_dict'][f'text_encoder.{name}']
    elif config.model.text_encoder.pretrained:
        from transformers import AutoModel

        before = AutoModel.from_pretrained('roberta').state_dict()[name.partition('.')[2]]
    else:
        return
    same = torch.equal(trained['state_dict'][f'text_encoder.{name}'], before)
    assert same is config.model.text_encoder.frozen


def weights_of(config):
    """The config whose weights a config without training is tested with, by its first line."""
    source = Path(config.filename)
    first = (CONFIGS / source.name).read_text().splitlines()[0]
    name = re.fullmatch(r'# With the weights of (\w[\w.-]+)\.py\.', first)[1]
    return Config.fromfile(write_small_config(name, source.parent))


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='checked on CPU')
@pytest.mark.parametrize('name', ['finetune', 'scratch', 'joint'])
def test_a_recipe_trains_as_the_micro_config_with_its_numbers(in_workplace, name):
    curves, train = load_tool('analysis_tools/compare_curves'), load_tool('train')
    places = curves.Places(Path('data', 'synthetic'), Path('curves', name))
    curves.write_images(places.data, places.coco)
    if name == 'finetune':
        train.main([*curves.pretraining(places, 1), 'train_cfg.max_epochs=1'])
        (places.pretrained.parent / 'epoch_1.pth').rename(places.pretrained)
    micro = curves.from_micro(name, places, items=10, epochs=1)
    train.main(curves.from_leaf(name, places, items=10, epochs=1))
    train.main(micro)
    count, first, last, difference = curves.compare(places.runs / name, Path(micro[2]))
    assert count == 10 and np.isfinite([first, last]).all()
    assert difference == 0
    if name == 'scratch':  # the comparison sees a small change of one number
        other = ['optim_wrapper.clip_grad.max_norm=0.101', 'experiment_name=other']
        train.main([*micro, *other, '--overwrite'])
        assert curves.compare(places.runs / name, Path(micro[2]))[-1] > 0
