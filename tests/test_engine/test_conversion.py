"""Published weights to this project's names, and back."""

import json
import re
import zlib

import pytest
import torch

from referformer.engine.conversion import (
    convert_to_official,
    convert_to_ours,
    model_options,
    recognise,
    relative_position_index,
)
from referformer.engine.official_names import to_official, to_ours
from referformer.models.backbones import Swin, VideoSwin

SMALL = {'embed_dim': 8, 'depths': (2, 1, 1, 1), 'num_heads': (1, 2, 2, 4)}
BACKBONES = {
    'swin': {'type': 'Swin', **SMALL},
    'video_swin': {'type': 'VideoSwin', **SMALL},
    'resnet': {'type': 'ResNet', 'depth': 50},
}


@pytest.fixture
def make(tiny_model):
    def make(backbone='video_swin', **changes):
        if backbone == 'resnet':
            pytest.importorskip('mmdet.models', reason='mmdet is not installed')
        return tiny_model(backbone=BACKBONES[backbone], **changes).state_dict()

    return make


def equal(first, second):
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('refine', [True, False], ids=['refine', 'norefine'])
def test_there_and_back_is_equal_to_the_bit(make, backbone, refine):
    ours = make(backbone, transformer={'with_box_refine': refine})
    official = convert_to_official(ours).state
    assert recognise(ours) == 'ours' and recognise(official) == 'official'
    result = convert_to_ours(official)
    assert equal(dict(sorted(result.state.items())), dict(sorted(ours.items())))
    again = convert_to_official(result.state).state
    assert equal(dict(sorted(again.items())), dict(sorted(official.items())))
    # Every key of the source is used or named.
    assert set(result.origins.values()) | set(result.dropped) == set(official)


def test_copies_are_made_as_in_the_official_model(make):
    refined = convert_to_official(make()).state
    for key, value in refined.items():
        if key.startswith('bbox_embed.'):
            assert torch.equal(refined[f'transformer.decoder.{key}'], value)
    shared = convert_to_official(make(transformer={'with_box_refine': False})).state
    assert not any(key.startswith('transformer.decoder.bbox_embed.') for key in shared)
    assert torch.equal(shared['class_embed.0.weight'], shared['class_embed.1.weight'])
    assert torch.equal(shared['bbox_embed.0.layers.2.bias'], shared['bbox_embed.1.layers.2.bias'])
    assert len({value.data_ptr() for value in shared.values()}) == len(shared)  # safetensors


@pytest.mark.parametrize('refine', [True, False])
def test_copies_that_differ_are_refused(make, refine):
    official = convert_to_official(make(transformer={'with_box_refine': refine})).state
    key = 'transformer.decoder.bbox_embed.1.layers.0.bias' if refine else 'class_embed.1.bias'
    official[key] = official[key] + 1
    with pytest.raises(ValueError, match=f'{re.escape(key)} must be a copy of'):
        convert_to_ours(official)


def test_constants_of_older_checkpoints_are_left_out(make):
    official = convert_to_official(make()).state
    official['text_encoder.embeddings.position_ids'] = torch.arange(20)[None]
    result = convert_to_ours(official)
    assert 'constant' in result.dropped['text_encoder.embeddings.position_ids']


def test_unknown_names_are_refused(make):
    official = convert_to_official(make()).state
    official['mask_refiner.weight'] = torch.zeros(1)
    with pytest.raises(ValueError, match=r'1 tensors have no place .*: mask_refiner\.weight'):
        convert_to_ours(official)
    with pytest.raises(ValueError, match='whose names are those of none of: '):
        convert_to_ours({'head.weight': torch.zeros(1)})


def test_another_backbone_is_named(make):
    official = {
        key.replace('body.patch_embed', 'body.stem').replace('body.downsamples', 'body.down'): value
        for key, value in convert_to_official(make()).state.items()
    }
    with pytest.raises(ValueError, match='not ResNet-50/101, Swin or Video Swin'):
        convert_to_ours(official)


def published(model, kind):
    """The names of a Swin that was published on its own."""
    state = convert_backbone_to_official(model, kind)
    state = {re.sub(r'^downsamples\.(\d)', r'layers.\1.downsample', k): v for k, v in state.items()}
    state['layers.0.blocks.0.attn.relative_position_index'] = torch.zeros(49, 49)
    state['norm.weight'] = torch.ones(64)
    return state


def convert_backbone_to_official(model, kind):
    names = {key: to_official(f'backbone.{key}', kind) for key in model.state_dict()}
    prefix = 'backbone.0.body.'
    return {names[k].removeprefix(prefix): v for k, v in model.state_dict().items()}


def test_kinetics_patches_are_summed_over_their_frames():
    model = VideoSwin(**SMALL)
    state = published(model, 'video_swin')
    patch = torch.randn(8, 3, 2, 4, 4)
    state['patch_embed.proj.weight'] = patch
    state = {f'backbone.{key}': value for key, value in state.items()}
    state['cls_head.fc_cls.weight'] = torch.zeros(400, 64)
    result = convert_to_ours(state)
    assert result.kind == 'video_swin' and 'classifier' in result.dropped['cls_head.fc_cls.weight']
    model.load_state_dict(result.state)
    # What two equal frames would give.
    still = torch.randn(1, 3, 8, 8)
    expected = torch.nn.functional.conv3d(
        still[:, :, None].expand(-1, -1, 2, -1, -1), patch, model.patch_embed.bias, (2, 4, 4)
    )
    torch.testing.assert_close(model.patch_embed(still), expected[:, :, 0])
    assert 'summed over its 2 frames' in result.origins['patch_embed.weight']


def test_published_swin_fills_all_but_the_norms_of_the_outputs():
    model = Swin(**SMALL)
    state = {k: v for k, v in published(model, 'swin').items() if not re.match(r'norm\d', k)}
    state['layers.0.blocks.1.attn_mask'] = torch.zeros(64, 49, 49)
    state['head.weight'] = torch.zeros(1000, 64)
    result = convert_to_ours(state)
    assert result.kind == 'swin'
    missing, unexpected = Swin(**SMALL).load_state_dict(result.state, strict=False)
    assert not unexpected and all(name.startswith('out_norms.') for name in missing)
    assert len(result.dropped) == 4


def test_torchvision_resnet_keeps_its_names():
    state = {
        'conv1.weight': torch.zeros(64, 3, 7, 7),
        'bn1.num_batches_tracked': torch.tensor(0),
        'layer1.0.conv3.weight': torch.zeros(256, 64, 1, 1),
        'fc.weight': torch.zeros(1000, 2048),
    }
    result = convert_to_ours(state)
    assert result.kind == 'resnet' and list(result.state) == [
        'conv1.weight',
        'layer1.0.conv3.weight',
    ]
    assert set(result.dropped) == {'bn1.num_batches_tracked', 'fc.weight'}


@pytest.mark.parametrize('backbone', BACKBONES)
def test_weights_tell_the_options_of_their_model(make, backbone):
    options = model_options(make(backbone, num_classes=7, mask_head={'rel_coord': False}))
    assert {**BACKBONES[backbone], **options['backbone']} == options['backbone']
    assert (options['num_classes'], options['num_queries']) == (7, 3)
    assert options['mask_head'] == {
        'mask_dim': 16,
        'num_channels': 4,
        'num_controller_layers': 3,
        'rel_coord': False,
    }
    assert options['transformer']['with_box_refine']
    assert not model_options(make(transformer={'with_box_refine': False}))['transformer'][
        'with_box_refine'
    ]


def test_names_cover_the_official_manifests(shared_dir):
    manifests = sorted((shared_dir / 'parity').glob('manifest_*.json'))
    assert len(manifests) == 7
    for path in manifests:
        entries = json.loads(path.read_text())['state_dict']
        kind = next(k for k in ('video_swin', 'swin', 'resnet') if k in path.name)
        ours = set()
        for key, entry in entries.items():
            if key.endswith('relative_position_index'):
                window = (8, 7, 7) if kind == 'video_swin' else (1, 7, 7)
                index = relative_position_index(window).numpy()
                assert zlib.crc32(index.tobytes()) == entry['crc32']
            elif not key.startswith('transformer.decoder.bbox_embed.'):
                name = to_ours(key, kind)
                assert to_official(name, kind) == key
                ours.add(name)
        stored = [k for k in entries if 'decoder.bbox_embed' not in k and 'position_index' not in k]
        assert len(ours) == len(stored)
