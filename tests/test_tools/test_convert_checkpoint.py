"""convert_checkpoint.py: what it writes, what it says, what it refuses."""

import argparse
import os

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from model_fixtures import save_tokenizer
from safetensors.torch import load_file
from test_train_test import REPO, load_tool, refused

from referformer.apis import init_model
from referformer.engine.checkpoint import read_checkpoint
from referformer.engine.conversion import convert_to_official
from referformer.registry import MODELS

tool = load_tool(REPO / 'tools' / 'convert_checkpoint.py')
SMALL = """
_base_ = {base!r}
default_scope = 'referformer'
model = dict(
    num_classes={classes},
    backbone=dict(type={backbone!r}, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
    text_encoder=dict(
        model=dict(
            vocab_size=20,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=32,
            max_position_embeddings=20,
        )
    ),
    transformer=dict(
        embed_dim=32, num_encoder_layers=1, num_decoder_layers=2, feedforward_dim=32
    ),
    pixel_decoder=dict(feedforward_dim=32),
    mask_head=dict(mask_dim=16),
)
"""


def write_config(folder, backbone='VideoSwin', classes=1):
    base = str(REPO / 'configs' / '_base_' / 'models' / 'referformer.py')
    path = folder / f'{backbone}{classes}.py'
    path.write_text(SMALL.format(base=base, backbone=backbone, classes=classes))
    return path


@pytest.fixture(scope='module')
def official(tmp_path_factory):
    """A training file of the official code, and the weights of ours in it."""
    folder = tmp_path_factory.mktemp('official')
    init_default_scope('referformer')
    torch.manual_seed(0)
    ours = MODELS.build(Config.fromfile(write_config(folder)).model).state_dict()
    path = folder / 'checkpoint.pth'
    torch.save(
        {
            'model': convert_to_official(ours).state,
            'optimizer': {'state': {0: {'step': 3}}, 'param_groups': [{'lr': 1e-4}]},
            'lr_scheduler': {'milestones': [3, 5]},
            'epoch': 5,
            'args': argparse.Namespace(backbone='video_swin_t_p4w7', lr=1e-4, output_dir='x'),
        },
        path,
    )
    return path, ours


def convert(*arguments):
    tool.main([str(argument) for argument in arguments])


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_an_official_training_file_becomes_a_checkpoint_of_ours(official, tmp_path, capsys, suffix):
    source, ours = official
    path = tmp_path / f'ours{suffix}'
    convert(source, path)
    found = read_checkpoint(path)['state_dict']
    assert set(found) == set(ours) and all(torch.equal(found[k], ours[k]) for k in ours)
    tokenizer = {'model.text_encoder.tokenizer': save_tokenizer(tmp_path / 'tokenizer')}
    model = init_model(write_config(tmp_path), path, cfg_options=tokenizer)
    assert torch.equal(model.query_embed.weight, ours['query_embed.weight'])
    text = capsys.readouterr().out
    assert 'ReferFormer with the official names' in text
    for name in ('optimizer', 'lr_scheduler', 'epoch', 'args', 'a copy of bbox_embed'):
        assert name in text.split('not used')[1]


def test_and_back_to_the_bit(official, tmp_path):
    source, _ = official
    convert(source, tmp_path / 'ours.safetensors')
    convert(tmp_path / 'ours.safetensors', tmp_path / 'official.pth', '--to', 'official')
    convert(tmp_path / 'ours.safetensors', tmp_path / 'flat.safetensors', '--to', 'official')
    expected = read_checkpoint(source)['model']
    for found in (
        torch.load(tmp_path / 'official.pth', weights_only=True)['model'],
        load_file(tmp_path / 'flat.safetensors'),
    ):
        assert set(found) == set(expected)
        assert all(torch.equal(found[k], expected[k]) for k in expected)


def test_every_tensor_has_its_line_if_asked_for(official, tmp_path, capsys):
    source, ours = official
    convert(source, tmp_path / 'ours.pth', '--verbose')
    lines = capsys.readouterr().out.splitlines()
    targets = {line.split()[-1] for line in lines if line.startswith('  ')}
    assert set(ours) <= targets


def test_a_backbone_keeps_what_the_source_lacks_at_its_initial_value(tmp_path, capsys):
    state = {
        f'backbone.{key.removeprefix("backbone.0.body.")}': value
        for key, value in convert_to_official(small_state(tmp_path, 'Swin')).state.items()
        if key.startswith('backbone.') and '.norm0' not in key
    }
    state['head.weight'] = torch.zeros(3, 64)
    torch.save({'model': state}, tmp_path / 'swin.pth')
    convert(tmp_path / 'swin.pth', tmp_path / 'out.pth')
    text = capsys.readouterr().out
    assert 'left at its initial value' in text and 'out_norms' in text
    found = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    assert 'patch_embed.weight' in found and not any(k.startswith('backbone.') for k in found)


def small_state(folder, backbone):
    init_default_scope('referformer')
    return MODELS.build(Config.fromfile(write_config(folder, backbone)).model).state_dict()


@pytest.mark.parametrize(
    ('backbone', 'classes', 'message'),
    [('Swin', 1, 'backbone.out_norms.0'), ('VideoSwin', 65, 'class_heads.0.weight')],
)
def test_a_checkpoint_of_another_model_is_refused(
    official, tmp_path, capsys, backbone, classes, message
):
    config = write_config(tmp_path, backbone, classes)
    error = refused(capsys, tool, official[0], tmp_path / 'out.pth', '--config', config)
    assert 'belongs to another architecture' in error and message in error
    assert not (tmp_path / 'out.pth').exists()


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'touch {self.mark}',)


def truncated(path, source):
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def hostile(path, source):
    torch.save({'model': {'w': torch.zeros(1)}, 'args': Hostile(path.parent / 'ran')}, path)


BAD = {
    'truncated': (truncated, 'truncated'),
    'hostile': (hostile, 'could run code'),
    'text': (lambda path, source: path.write_text('not weights'), 'cannot be read as a checkpoint'),
    'list': (lambda path, source: torch.save([1, 2], path), 'holds a list, not a checkpoint'),
    'numbers': (lambda path, source: torch.save({'epoch': 3}, path), 'holds no weights'),
    'empty': (lambda path, source: torch.save({'model': {}}, path), 'holds no weights'),
    'other': (
        lambda path, source: torch.save({'model': {'features.0.weight': torch.zeros(2)}}, path),
        'whose names are those of none of',
    ),
    'missing': (lambda path, source: None, 'does not exist'),
}


@pytest.mark.parametrize('kind', BAD)
def test_bad_files_are_named_and_nothing_is_written(official, tmp_path, capsys, kind):
    make, message = BAD[kind]
    make(tmp_path / 'bad.pth', official[0])
    error = refused(capsys, tool, tmp_path / 'bad.pth', tmp_path / 'out.pth')
    assert message in error
    assert not (tmp_path / 'out.pth').exists() and not (tmp_path / 'ran').exists()


def test_a_checkpoint_that_lacks_a_part_is_refused(official, tmp_path, capsys):
    state = read_checkpoint(official[0])['model']
    del state['query_embed.weight'], state['controller.layers.0.bias']
    torch.save({'model': state}, tmp_path / 'bad.pth')
    error = refused(capsys, tool, tmp_path / 'bad.pth', tmp_path / 'out.pth')
    assert 'query_embed.weight' in error and not (tmp_path / 'out.pth').exists()


def test_outputs_are_checked_first(official, tmp_path, capsys):
    error = refused(capsys, tool, tmp_path / 'missing.pth', tmp_path / 'out.bin')
    assert 'name a file that ends in .pth or .safetensors' in error
    (tmp_path / 'there.pth').write_text('mine')
    error = refused(capsys, tool, official[0], tmp_path / 'there.pth')
    assert 'is there already' in error and (tmp_path / 'there.pth').read_text() == 'mine'
    convert(official[0], tmp_path / 'there.pth', '--overwrite')
    assert read_checkpoint(tmp_path / 'there.pth')['state_dict']


def test_names_of_ours_are_not_converted_twice(official, tmp_path, capsys):
    convert(official[0], tmp_path / 'ours.pth')
    capsys.readouterr()
    error = refused(capsys, tool, tmp_path / 'ours.pth', tmp_path / 'again.pth')
    assert 'has the names of this project already' in error
    error = refused(capsys, tool, official[0], tmp_path / 'again.pth', '--to', 'official')
    assert 'only whole models of this project go back' in error
