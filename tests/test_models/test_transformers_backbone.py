"""Backbones of ``transformers`` by name: each saved as its authors publish it, and loaded."""

import sys

import pytest
import torch
import transformers as hf
from mmengine.registry import init_default_scope
from model_fixtures import tiny_batch, tiny_model

from referformer.registry import MODELS

_PLAIN = {
    'hidden_size': 16,
    'num_hidden_layers': 3,
    'num_attention_heads': 2,
    'intermediate_size': 32,
}
_FOUR = {'hidden_sizes': [8, 12, 16, 24], 'depths': [1, 1, 2, 1]}
_SWIN = {'embed_dim': 8, 'depths': [1, 1, 2, 1], 'num_heads': [1, 1, 2, 2]}
BACKBONES = {
    'swin': ({**_SWIN, 'window_size': 3}, [8, 16, 32, 64]),
    'swinv2': ({**_SWIN, 'window_size': 4}, [8, 16, 32, 64]),
    'convnextv2': (_FOUR, _FOUR['hidden_sizes']),
    'dinov3_convnext': (_FOUR, _FOUR['hidden_sizes']),
    'pvt_v2': ({**_FOUR, 'num_attention_heads': [1, 1, 2, 2]}, _FOUR['hidden_sizes']),
    'resnet': ({**_FOUR, 'embedding_size': 8}, _FOUR['hidden_sizes']),
    'dinov2': ({**_PLAIN, 'image_size': 70, 'patch_size': 14}, [4, 8, 16, 16]),
    'dinov2_with_registers': ({**_PLAIN, 'image_size': 70, 'patch_size': 14}, [4, 8, 16, 16]),
    'dinov3_vit': ({**_PLAIN, 'patch_size': 16}, [4, 8, 16, 16]),
    'beit': ({**_PLAIN, 'image_size': 64}, [4, 8, 16, 16]),
}


def build(**options):
    init_default_scope('referformer')
    return MODELS.build({'type': 'TransformersBackbone', **options}).eval()


@pytest.fixture(scope='module', params=BACKBONES)
def published(request, tmp_path_factory):
    """A folder as on the Hub, and the channels of the four maps."""
    options, channels = BACKBONES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    config = hf.AutoConfig.for_model(request.param, **options)
    model = hf.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.half().save_pretrained(folder)
    return folder, channels


@pytest.mark.parametrize('size', [(64, 96), (75, 110)])
def test_four_maps_of_strides_4_to_32(published, size):
    folder, channels = published
    backbone = build(name=str(folder))
    assert backbone.out_channels == channels
    maps = backbone(torch.randn(2, 3, *size))
    expected = [
        (2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(channels, (4, 8, 16, 32))
    ]
    assert [tuple(x.shape) for x in maps] == expected


def test_the_published_weights_give_the_published_maps(published):
    folder, _ = published
    torch.manual_seed(5)
    backbone = build(name=str(folder))
    backbone.init_weights()
    stages = backbone.network.config.out_features
    config = hf.AutoConfig.from_pretrained(folder, out_features=stages)
    source = hf.AutoBackbone.from_config(config, dtype=torch.float32).eval()
    published_state = hf.AutoModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    plain = source if set(published_state) & set(source.state_dict()) else source.base_model
    lost = plain.load_state_dict(published_state, strict=False).missing_keys
    assert all('hidden_states_norms' in key for key in lost)
    frames = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        found = backbone(frames)
        if backbone.pyramid is None:
            for one, other in zip(found, source(frames).feature_maps):
                torch.testing.assert_close(one, other)
        else:
            patch = backbone.patch
            small = torch.nn.functional.interpolate(frames, (6 * patch, 4 * patch), mode='bilinear')
            torch.testing.assert_close(found[2], source(small).feature_maps[-1])


def test_every_parameter_that_is_trained_gets_a_gradient(published):
    folder, _ = published
    backbone = build(name=str(folder)).train()
    sum(x.square().sum() for x in backbone(torch.randn(1, 3, 64, 64))).backward()
    assert not [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    frozen = build(name=str(folder), frozen=True)
    trained = [n for n, p in frozen.named_parameters() if p.requires_grad]
    assert all(n.startswith('pyramid.') for n in trained)


def test_it_is_built_without_its_folder_from_what_its_config_says(published):
    folder, _ = published
    named = build(name=str(folder))
    plain = build(model=named.architecture)
    plain.load_state_dict(named.state_dict())
    frames = torch.randn(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(named(frames), plain(frames)))


@pytest.mark.parametrize('kind', ['convnextv2', 'dinov2'])
def test_a_model_trains_and_predicts_with_it(tmp_path, kind):
    backbone = {
        'type': 'TransformersBackbone',
        'model': {'model_type': kind, **BACKBONES[kind][0]},
        'with_cp': kind == 'dinov2',
    }
    model = tiny_model(tmp_path, backbone=backbone).train()
    data = model.data_preprocessor(tiny_batch(), training=True)
    losses = model(**data, mode='loss')
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert all(p.grad is not None for p in model.backbone.parameters() if p.requires_grad)
    samples = model.eval()(**data, mode='predict')
    assert samples[0].pred_instances.masks.shape == (1, 2, 64, 96)


def test_networks_without_such_maps_are_refused():
    two_stages = {'embed_dim': 8, 'depths': [1, 1], 'num_heads': [1, 1], 'window_size': 3}
    with pytest.raises(ValueError, match=r'it needs four stages .*; found \[8\]'):
        build(model={**two_stages, 'model_type': 'swin'})
    with pytest.raises(ValueError, match='hiera does not take frames of any size'):
        build(
            model={'model_type': 'hiera', 'embed_dim': 8, 'depths': [1] * 4, 'num_heads': [1] * 4}
        )
    with pytest.raises((OSError, ValueError), match='AutoBackbone'):
        build(model={'model_type': 'bert'})


def test_nothing_imports_torchvision_or_timm(published):
    build(name=str(published[0]))
    assert not {'torchvision', 'timm'} & set(sys.modules)
