"""Reading, checking and writing checkpoints."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file
from torch import nn

from referformer.engine.checkpoint import load_checkpoint, read_checkpoint
from referformer.files import atomic_write


class Hostile:
    """Unpickles by calling ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def save_hostile(path, payload, container):
    if container == 'zip':
        torch.save({'state_dict': {'w': torch.ones(2)}, 'meta': payload}, path)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=2))


PAYLOADS = {
    'system': lambda mark: Hostile(os.system, f'touch {mark}'),
    'eval': lambda mark: Hostile(eval, f'open({str(mark)!r}, "w").close()'),
    'open': lambda mark: Hostile(open, str(mark), 'w'),
}


@pytest.mark.parametrize('container', ['zip', 'pickle'])
@pytest.mark.parametrize('payload', PAYLOADS)
def test_hostile_pickle_does_not_run(tmp_path, payload, container):
    mark, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    save_hostile(path, PAYLOADS[payload](mark), container)
    with pytest.raises(ValueError, match=r'hostile.pth was not loaded: .* could run code'):
        read_checkpoint(path)
    assert not mark.exists()


def test_the_payload_runs_where_nothing_holds_it_back(tmp_path):
    """Else the test above could not fail."""
    mark, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    save_hostile(path, PAYLOADS['system'](mark), 'zip')
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_mmengine_reads_local_files_without_running_them(tmp_path):
    mark, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    save_hostile(path, PAYLOADS['system'](mark), 'zip')
    with pytest.raises(ValueError, match='could run code'):
        CheckpointLoader.load_checkpoint(str(path))
    backbone = BaseModule(init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    with pytest.raises(ValueError, match='could run code'):
        backbone.init_weights()
    assert not mark.exists()


@pytest.mark.parametrize('owner, name', [(HistoryBuffer, '__init__'), (dict, 'get')])
def test_getattr_gives_nothing_but_the_statistics_of_history_buffers(tmp_path, owner, name):
    path = tmp_path / 'hostile.pth'
    save_hostile(path, Hostile(getattr, owner, name), 'zip')
    with pytest.raises(ValueError, match=r'was not loaded|cannot be read'):
        read_checkpoint(path)


def test_logs_in_a_checkpoint_are_read(tmp_path):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    torch.save(
        {'state_dict': {}, 'message_hub': {'log_scalars': {'loss': buffer}}}, tmp_path / 'a.pth'
    )
    read = read_checkpoint(tmp_path / 'a.pth')['message_hub']['log_scalars']['loss']
    assert read.statistics('mean') == 2.0
    assert read.statistics('max', 1) == 3.0


@pytest.mark.parametrize('kept', [0, 0.3, 0.95])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_truncated_file_is_named(tmp_path, kept, suffix):
    path = tmp_path / f'cut{suffix}'
    tensors = {'w': torch.randn(100)}
    save_file(tensors, path) if suffix == '.safetensors' else torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf'cut{suffix} \(\d+ bytes\) cannot be read .* truncated'):
        read_checkpoint(path)


def test_what_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / 'page.pth').write_text('<html>404 not found</html>')
    with pytest.raises(ValueError, match=r'page.pth .* cannot be read'):
        read_checkpoint(tmp_path / 'page.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='holds a list, not a checkpoint'):
        read_checkpoint(tmp_path / 'list.pth')
    torch.save({'epoch': 3}, tmp_path / 'numbers.pth')
    with pytest.raises(ValueError, match=r'holds no weights: .* got the keys epoch'):
        load_checkpoint(nn.Linear(1, 1), tmp_path / 'numbers.pth')
    with pytest.raises(FileNotFoundError, match=r'nowhere.pth does not exist'):
        read_checkpoint(tmp_path / 'nowhere.pth')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_weights_arrive_unchanged(tmp_path, suffix):
    torch.manual_seed(0)
    source, model = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / f'weights{suffix}'
    if suffix == '.pth':
        torch.save({'state_dict': source.state_dict(), 'meta': {'origin': 'test'}}, path)
    else:
        save_file(source.state_dict(), path, metadata={'origin': 'test'})
    assert load_checkpoint(model, path) == {'origin': 'test'}
    assert torch.equal(model.weight, source.weight)
    assert torch.equal(model.bias, source.bias)


def test_weights_of_a_distributed_training_are_loaded(tmp_path):
    source, model = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({f'module.{k}': v for k, v in source.state_dict().items()}, tmp_path / 'a.pth')
    load_checkpoint(model, tmp_path / 'a.pth')
    assert torch.equal(model.weight, source.weight)


def test_other_architecture_is_refused_with_keys_both_ways(tmp_path):
    source = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5), *(nn.Linear(1, 1) for _ in range(6)))
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    model.add_module('head', nn.Linear(4, 1))
    meta = {'experiment_name': 'somebody_else'}
    torch.save({'state_dict': source.state_dict(), 'meta': meta}, tmp_path / 'other.pth')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'other\.pth belongs to another architecture') as caught:
        load_checkpoint(model, tmp_path / 'other.pth')
    message = str(caught.value)
    assert '2 keys of the model are missing in the file: head.weight, head.bias\n' in message
    assert '12 keys of the file are not in the model: 2.weight, 2.bias, ' in message
    assert ', ... and 2 more\n' in message
    assert '2 keys differ in shape: 1.weight ((5, 2) in the file, (4, 2) in the model)' in message
    assert 'somebody_else' in message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_fits_is_loaded_when_not_strict(tmp_path):
    source, model = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    state = {'0.weight': source.weight.detach(), '1.weight': torch.zeros(7, 7)}
    torch.save(state, tmp_path / 'part.pth')
    load_checkpoint(model, tmp_path / 'part.pth', strict=False)
    assert torch.equal(model[0].weight, source.weight)
    assert model[1].weight.shape == (1, 2)


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / 'sub' / 'file.bin'
    atomic_write(path, b'old')

    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        atomic_write(path, b'new')
    assert path.read_bytes() == b'old'
    assert os.listdir(path.parent) == ['file.bin']


def test_changed_bytes_of_a_tensor_are_found(tmp_path):
    """PyTorch writes checksums, but does not look at them."""
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': {'w': torch.arange(99.0)}}, path)
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(99, dtype=np.float32).tobytes()) + 40] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)['state_dict']['w'], torch.arange(99.0))
    with pytest.raises(ValueError, match=r'a\.pth .* cannot be read'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    'content',
    [
        {'state_dict': {1: torch.ones(1)}},
        {1: torch.ones(1)},
        {'state_dict': {'weight': torch.ones(1, 1), 'bias': torch.ones(1)}, 'meta': [1]},
        {'state_dict': {'weight': torch.ones(1, 1), 3: torch.ones(1)}, 'meta': {}},
    ],
)
def test_keys_are_names_and_meta_is_a_dict(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r"a\.pth(: 'meta' must be a dict| holds no weights)"):
        load_checkpoint(nn.Linear(1, 1), tmp_path / 'a.pth')
