"""No library unpickles freely in our processes, whatever door a checkpoint comes in by."""

import os

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint, _load_checkpoint_with_prefix
from test_engine.test_checkpoint import Hostile, save_hostile
from torch import nn

from referformer.engine.checkpoint import read_checkpoint


def start(module: type, source: str) -> None:
    """What a library's module does that is to start from published weights."""
    module(init_cfg={'type': 'Pretrained', 'checkpoint': source}).init_weights()


def of_mmdet(source: str) -> None:
    backbones = pytest.importorskip('mmdet.models.backbones')
    start(lambda **cfg: backbones.ResNet(18, **cfg), source)


DOORS = {
    'ours': read_checkpoint,
    'loader': CheckpointLoader.load_checkpoint,
    'load_checkpoint': lambda source: load_checkpoint(nn.Linear(1, 1), source),
    '_load_checkpoint': _load_checkpoint,
    'with prefix': lambda source: _load_checkpoint_with_prefix('a.', source),
    'init_cfg': lambda source: start(BaseModule, source),
    'mmdet': of_mmdet,
}


@pytest.mark.parametrize('from_server', [False, True])
@pytest.mark.parametrize('container', ['zip', 'pickle'])
@pytest.mark.parametrize('door', DOORS)
def test_a_hostile_pickle_runs_at_no_door(server, tmp_path, door, container, from_server):
    mark, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    save_hostile(path, Hostile(os.system, f'touch {mark}'), container)
    server.files['/hostile.pth'] = path.read_bytes()
    with pytest.raises(ValueError, match='could run code'):
        DOORS[door](f'{server.url}/hostile.pth' if from_server else str(path))
    assert not mark.exists()
    assert bool(server.asked) == from_server


def test_transformers_run_nothing_either(tmp_path):
    from transformers import BertConfig, BertModel

    options = {'hidden_size': 8, 'num_hidden_layers': 1, 'num_attention_heads': 1}
    BertModel(BertConfig(vocab_size=9, intermediate_size=8, **options)).save_pretrained(tmp_path)
    (tmp_path / 'model.safetensors').unlink()
    mark = tmp_path / 'ran'
    torch.save({'a': Hostile(os.system, f'touch {mark}')}, tmp_path / 'pytorch_model.bin')
    with pytest.raises(Exception, match=r'(?i)weights_?only|load'):
        BertModel.from_pretrained(tmp_path)
    assert not mark.exists()
