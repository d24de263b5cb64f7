"""Broken and hostile checkpoints: a clear error, or weights; nothing of theirs runs."""

import contextlib
import io
import pickle
import random

import numpy as np
import torch
from fuzzing import JUNK, Child, Tally, damage
from safetensors.torch import save
from torch import nn

from referformer.engine.checkpoint import load_checkpoint, read_as_ours, read_checkpoint
from referformer.engine.conversion import recognise, weights_of

CALLABLES = (
    'os system', 'posix system', 'builtins eval', 'builtins exec', 'builtins open', 'io open',
    'subprocess Popen', 'subprocess check_output', 'builtins getattr', 'builtins __import__',
    'pathlib Path.touch', 'torch load', 'numpy load', 'pickle loads', 'runpy run_path',
    'functools partial', 'operator methodcaller', 'torch.hub load', 'numpy.core.multiarray scalar',
    'mmengine.logging.history_buffer HistoryBuffer', 'argparse Namespace', 'shutil rmtree',
    'torch.storage _load_from_bytes', 'torch._utils _rebuild_tensor_v2', 'codecs encode',
)  # fmt: skip


class Named:
    """Pickles as the call of any function."""

    def __init__(self, name: str, arguments: tuple) -> None:
        self.name, self.arguments = name, arguments


class Pickler(pickle._Pickler):
    """Writes ``Named`` by its name, without importing it."""

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, Named):
            return super().save(obj, save_persistent_id)
        module, name = obj.name.split()
        self.write(pickle.GLOBAL + f'{module}\n{name}\n'.encode())
        super().save(obj.arguments)
        self.write(pickle.REDUCE)


class Module:
    """What ``torch.save`` wants of a pickle module."""

    Pickler = Pickler
    dump = staticmethod(pickle.dump)


def model() -> nn.Module:
    return nn.Linear(3, 2)


def content(rng: random.Random, mark) -> object:
    """A checkpoint, mostly with something strange in it."""
    torch.manual_seed(0)
    whole = {
        'meta': {'epoch': 3, 'experiment_name': 'a'},
        'state_dict': dict(model().state_dict()),
        'optimizer': {'state': {0: {'step': torch.tensor(1.0)}}, 'param_groups': [{'lr': 0.1}]},
        'message_hub': {'n': np.float64(3)},
    }
    for _ in range(rng.choice((0, 1, 1, 2))):
        hostile = Named(rng.choice(CALLABLES), rng.choice(((f'touch {mark}',), (str(mark), 'w'))))
        junk = rng.choice(JUNK)
        value = rng.choice((junk() if callable(junk) else junk, hostile))
        place = rng.choice((whole, whole['state_dict'], whole['meta']))
        if isinstance(place, dict):
            key = rng.choice((*place, 7, None, (1, 2), 'module.weight', 'weight', 'x', b'b', 1.5))
            place[key] = value
    return rng.choice((whole, whole, whole, whole.get('state_dict'), [whole]))


def make(rng: random.Random, mark) -> tuple[str, bytes]:
    kind = rng.choice(('.pth', '.pth', '.old.pth', '.pkl', '.safetensors'))
    if kind == '.safetensors':
        return kind, save(model().state_dict(), metadata={'a': 'b'})
    file = io.BytesIO()
    value = content(rng, mark)
    try:
        if kind == '.pkl':
            Pickler(file, 2).dump(value)
        else:
            zipped = kind == '.pth'
            torch.save(value, file, pickle_module=Module, _use_new_zipfile_serialization=zipped)
    except (TypeError, UnicodeError):  # halves of characters cannot be pickled
        torch.save(None, file)
    return kind, file.getvalue()


def read(path) -> dict | None:
    """What train, test, infer, convert do with a file; its weights where they belong to a model."""
    read_checkpoint(path)
    read_as_ours(path)
    with contextlib.suppress(ValueError):
        recognise(weights_of(read_checkpoint(path), str(path))[0])
    built = model()
    load_checkpoint(built, path)
    return {name: value.numpy() for name, value in built.state_dict().items()}


def test_checkpoints(tmp_path, fuzz):
    rng, tally = random.Random(fuzz.seed), Tally()
    mark = tmp_path / 'ran'
    with Child(read) as child:
        for number in range(fuzz.count(500)):
            kind, data = make(rng, mark)
            broken = damage(data, rng) if rng.random() < 0.5 else data
            path = tmp_path / f'a{kind}'
            path.write_bytes(broken)
            outcome = child(path)
            tally.add(outcome, f'checkpoint {number} {kind}')
            if outcome.kind == 'refused':
                assert str(path) in outcome.detail
            elif outcome.kind == 'accepted' and kind == '.pth':  # the others have no checksums
                torch.manual_seed(0)
                for name, value in model().state_dict().items():
                    np.testing.assert_array_equal(outcome.detail[name], value)
    tally.check()
    assert not mark.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {
        'a.pth', 'a.old.pth', 'a.pkl', 'a.safetensors',
    }  # fmt: skip
