"""The configs build at full size, without a download, and mean what the paper says."""

import importlib.util

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


def load(name):
    return Config.fromfile(REPO / 'configs' / f'referformer_{name}_ytvos.py')


@pytest.mark.parametrize('name', NAMES)
def test_models_have_the_official_numbers_of_parameters(name):
    with torch.device('meta'):
        model = MODELS.build(load(name).model)
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    assert (total, sum(p.numel() for p in parameters if p.requires_grad)) == SIZES[name]


def test_learning_rates_are_those_of_the_paper():
    config = load('vswin-t')
    config.model.text_encoder.frozen = False
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


@pytest.mark.parametrize('path', sorted((REPO / 'configs').glob('*.py')), ids=lambda p: p.stem)
def test_every_name_in_a_config_is_known(path):
    config = Config.fromfile(path)
    for loader in ('train_dataloader', 'test_dataloader'):
        dataset = config[loader].dataset
        assert DATASETS.get(dataset.type)
        for step in dataset.pipeline:
            build(dict(step), TRANSFORMS)
    assert METRICS.get(config.test_evaluator.type)


def test_one_file_changes_a_backbone_only():
    first, second = load('vswin-t').to_dict(), load('swin-l').to_dict()
    first['model'].pop('backbone'), second['model'].pop('backbone')
    first.pop('load_from'), second.pop('load_from')
    assert first == second
