"""The configs build at full size, without a download, and mean what the paper says."""

import importlib.util
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from toy_project import REPO

from referformer.registry import DATASETS, METRICS, MODELS, TRANSFORMS, build

# Parameters of the official models, and those that are trained.
SIZES = {
    'r50': (176262207, 51394175),
    'r101': (195202111, 70334079),
    'swin-t': (176764473, 52118841),
    'swin-l': (346380051, 221734419),
    'vswin-t': (177088101, 52442469),
    'vswin-s': (198746709, 74101077),
    'vswin-b': (237587271, 112941639),
}
needs_mmdet = pytest.mark.skipif(
    importlib.util.find_spec('mmdet') is None, reason='mmdet is not installed'
)
NAMES = [
    pytest.param(name, marks=[needs_mmdet] if name in ('r50', 'r101') else []) for name in SIZES
]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('referformer')


LEAVES = sorted((REPO / 'configs').glob('*.py'))
ROBERTA = 124645632  # parameters of roberta-base


def load(name, dataset='ytvos'):
    return Config.fromfile(REPO / 'configs' / f'referformer_{name}_{dataset}.py')


def datasets_of(loader):
    return loader.dataset.get('datasets', [loader.dataset])


@pytest.mark.parametrize('dataset', ['ytvos', 'joint', 'refcoco'])
@pytest.mark.parametrize('name', NAMES)
def test_models_have_the_official_numbers_of_parameters(name, dataset):
    with torch.device('meta'):
        model = MODELS.build(load(name, dataset).model)
    parameters = list(model.parameters())
    total, trained = SIZES[name]
    trained += ROBERTA if dataset == 'refcoco' else 0  # the text encoder is trained there alone
    assert sum(p.numel() for p in parameters) == total
    assert sum(p.numel() for p in parameters if p.requires_grad) == trained


@pytest.mark.parametrize('name', ['swin-s', 'swin-b'])
def test_backbones_without_a_published_model_build_too(name):
    with torch.device('meta'):
        model = MODELS.build(load(name, 'refcoco').model)
    assert [len(blocks) for blocks in model.backbone.stages] == [2, 2, 18, 2]
    width = {'swin-s': 96, 'swin-b': 128}[name]
    assert model.backbone.out_channels == [width * 2**i for i in range(4)]


def test_learning_rates_are_those_of_the_paper():
    config = load('vswin-t', 'refcoco')
    assert not config.model.text_encoder.frozen
    with torch.device('meta'):
        model = MODELS.build(config.model)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    rate = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in wrapper.optimizer.param_groups:
        assert group['weight_decay'] == 5e-4
        rate.update({names[id(p)]: group['lr'] for p in group['params']})
    assert len(rate) == len(names)
    for name, value in rate.items():
        expected = 5e-5 if name.startswith('backbone.') else 1e-4
        expected = 1e-5 if name.startswith('text_encoder.encoder.') else expected
        assert value == pytest.approx(expected), name
    assert wrapper.clip_grad_kwargs == {'max_norm': 0.1, 'norm_type': 2}


def test_frozen_parameters_stay_as_they_are(tiny_model):
    config = load('vswin-t')
    model = tiny_model().train()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    from model_fixtures import tiny_batch

    data = model.data_preprocessor(tiny_batch(), training=True)
    wrapper.update_params(sum(model(**data, mode='loss').values()))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is not parameter.requires_grad, name


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: p.stem)
def test_every_name_in_a_config_is_known(path):
    config = Config.fromfile(path)
    for loader in (config[key] for key in config if key.endswith('_dataloader')):
        if loader is None:
            continue
        for dataset in datasets_of(loader):
            assert DATASETS.get(dataset.type)
            for step in dataset.pipeline:
                build(dict(step), TRANSFORMS)
    if config.test_cfg is not None:
        evaluators = config.test_evaluator
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
            assert METRICS.get(evaluator.type)


SMALL = [p for p in LEAVES if re.search('micro|efflite0', p.stem)]  # without RoBERTa


@pytest.mark.parametrize('path', [p for p in LEAVES if p not in SMALL], ids=lambda p: p.stem)
def test_every_weight_comes_from_somewhere(path):
    config = Config.fromfile(path)
    if 'train_dataloader' not in config:
        pytest.skip('this config only tests, with the weights that tools/test.py is given')
    start = config.model.backbone.get('init_cfg'), config.model.text_encoder.pretrained
    if config.load_from is None:
        assert start[0].type == 'Pretrained' and start[0].checkpoint.startswith('checkpoints/')
        assert start[1] == 'FacebookAI/roberta-base'
    else:
        assert start == (None, None)


@pytest.mark.parametrize('path', SMALL, ids=lambda p: p.stem)
def test_stages_of_small_models_start_where_the_one_before_ends(path):
    config = Config.fromfile(path)
    backbone = config.model.backbone.get('init_cfg')
    start = config.load_from or (backbone and backbone.checkpoint)
    if start == 'checkpoints/efficientnet-lite0.pth':  # tools/convert_checkpoint.py
        assert path.stem.endswith('_pictures')
        return
    if start is None:
        assert path.stem.endswith(('-backbone', '-quick-frames'))
        return
    _, stage, name = start.split('/')
    before = Config.fromfile(path.with_name(f'{stage}.py'))
    assert name == f'iter_{before.train_cfg.max_iters}.pth'


# Epochs, those after which the learning rate drops, clips per GPU, frames, start.
RECIPES = {
    'vswin-t_refcoco': (12, [8, 10], 2, {1}, 'encoders'),
    'vswin-t_ytvos': (6, [3, 5], 1, {5}, 'checkpoints/referformer_vswin-t_refcoco.pth'),
    'vswin-t_scratch_ytvos': (10, [6, 8], 1, {5}, 'encoders'),
    'vswin-t_joint': (12, [8, 10], 1, {5}, 'encoders'),
}


@pytest.mark.parametrize('name', RECIPES)
def test_recipes_are_those_of_the_paper(name):
    config = load(*name.rsplit('_', 1))
    loader, schedule = config.train_dataloader, config.param_scheduler
    frames = set()
    for dataset in datasets_of(loader):
        steps = {step.type: step for step in dataset.pipeline}
        frames.add(steps.get('PseudoClip', dataset).get('num_frames', 1))
    assert (
        config.train_cfg.max_epochs,
        schedule.milestones,
        loader.batch_size,
        frames,
        config.load_from or 'encoders',
    ) == RECIPES[name]
    assert (schedule.type, schedule.gamma) == ('MultiStepLR', 0.1)
    assert config.auto_scale_lr.base_batch_size == 8 * loader.batch_size
    fresh = config.default_hooks.checkpoint_keys.get('fresh')
    assert fresh == ([r'^class_heads\.'] if config.load_from else None)
    assert config.model.num_classes == 1


def test_images_and_videos_are_trained_on_together():
    kinds = [
        (d.type, d.get('name')) for d in datasets_of(load('vswin-t', 'joint').train_dataloader)
    ]
    coco = [('RefCOCO', name) for name in ('refcoco', 'refcoco+', 'refcocog')]
    assert kinds == [('RefYouTubeVOS', None), *coco]
    pretraining = load('vswin-t', 'refcoco').train_dataloader
    assert [(d.type, d.get('name')) for d in datasets_of(pretraining)] == coco


@pytest.mark.parametrize('dataset', ['ytvos', 'joint', 'refcoco'])
def test_one_file_changes_a_backbone_only(dataset):
    first, second = (load(name, dataset).to_dict() for name in ('vswin-t', 'swin-l'))
    for config in first, second:
        del config['model']['backbone'], config['load_from']
    assert first == second


def test_backbones_start_from_their_own_weights(tiny_model, tmp_path):
    source = tiny_model(seed=1).backbone.state_dict()
    path = tmp_path / 'backbone.pth'
    torch.save(source, path)
    init_cfg = load('vswin-t', 'refcoco').model.backbone.init_cfg
    init_cfg.checkpoint = str(path)
    model = tiny_model(seed=2)
    model.backbone.init_cfg = init_cfg
    model.init_weights()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, source[name]), name
