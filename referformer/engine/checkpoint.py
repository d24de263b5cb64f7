"""Checkpoints that cannot run code, are never half-written, and belong to the model they load.

Importing this module makes MMEngine read through :func:`read_checkpoint` too, whether paths or
addresses (``load_from``, ``resume``, ``init_cfg``): its own readers fall back to unpickling freely
when a file holds more than tensors. It also makes ``init_cfg`` refuse weights that do not fit,
where MMEngine would only log it.
"""

import errno
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.model import PretrainedInit, is_model_wrapper, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner import CheckpointLoader, load_state_dict
from torch import Tensor, nn

from ..files import is_address
from ..zoo.download import fetch, set_aside
from .conversion import FRESH, convert_to_ours, recognise, weights_of

_LISTED = 10  # keys of each kind that a message spells out


def read_checkpoint(source: str | Path, map_location: Any = 'cpu') -> dict:
    """Read a ``.pth`` or ``.safetensors`` file without running anything that is in it.

    Args:
        source: The file, or an address (see :mod:`referformer.zoo.download`). A ``.safetensors``
            file becomes ``dict(state_dict=..., meta=...)``.
        map_location: As in ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It could not be fetched.
        ValueError: The file is truncated, is no checkpoint, or asks for functions or classes beyond
            what the checkpoints of MMEngine and of the official ReferFormer consist of.
    """
    path = fetch(source)
    read = _read_safetensors if path.suffix == '.safetensors' else _read_pickle
    try:
        checkpoint = read(path, map_location)
        if not isinstance(checkpoint, dict):
            raise ValueError(
                f'{path} holds a {type(checkpoint).__name__}, not a checkpoint; '
                "expected a dict of tensors, or a dict with the key 'state_dict'"
            )
        meta = checkpoint.get('meta')
        if not isinstance(meta, Tensor | Mapping | None):
            raise ValueError(f"{path}: 'meta' must be a dict, not a {type(meta).__name__}.")
    except ValueError as error:
        if not is_address(source):
            raise
        raise ValueError(f'{source}: {error} It was set aside as {set_aside(path)}.') from error
    return checkpoint


def read_as_ours(
    source: str | Path, map_location: Any = 'cpu', kinds: Sequence[str] = ('official',)
) -> dict:
    """Read a checkpoint; what others published gets the names of this project.

    Args:
        source: See :func:`read_checkpoint`.
        map_location: As in ``torch.load``.
        kinds: Which are renamed, keys of ``conversion.KINDS``; all else stays as it is.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As :func:`read_checkpoint`.
    """
    checkpoint = read_checkpoint(source, map_location)
    try:
        state, _ = weights_of(checkpoint, str(source))
        kind = recognise(state)
    except (TypeError, ValueError):  # names that are no strings, or of another project
        return checkpoint
    # Other descendants of Deformable DETR have the names by which an official file is known, too.
    if kind not in kinds or (kind == 'official' and 'resizer.fc.weight' not in state):
        return checkpoint
    return {'state_dict': convert_to_ours(state).state, 'meta': {}}


def load_checkpoint(model: nn.Module, path: str | Path, strict: bool = True) -> dict:
    """Load the weights of ``path`` into ``model`` and return the checkpoint's meta information.

    Args:
        model: Its own device and dtype are kept.
        path: A file or address, see :func:`read_as_ours`.
        strict: Refuse a checkpoint whose keys or shapes are not the model's. Otherwise what fits is
            loaded.

    Raises:
        ValueError: The checkpoint belongs to another architecture. The model is unchanged then.
    """
    checkpoint = read_as_ours(path)
    model = model.module if is_model_wrapper(model) else model
    state = state_dict_of(checkpoint, path)
    expected = model.state_dict()
    if strict:
        check_keys(expected, checkpoint, path)
    fitting = {k: v for k, v in state.items() if k in expected and v.shape == expected[k].shape}
    model.load_state_dict(fitting, strict=False)
    meta = checkpoint.get('meta')
    return dict(meta) if isinstance(meta, Mapping) else {}


def state_dict_of(checkpoint: Mapping, path: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, without the prefix of ``DistributedDataParallel``.

    Args:
        checkpoint: What :func:`read_checkpoint` returned for ``path``.
        path: Named in the message.

    Raises:
        ValueError: It holds something else.
    """
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ValueError(
            f"{path} holds no weights: expected tensors by name, or under the key 'state_dict', "
            f'got the keys {_first(map(str, checkpoint))}'
        )
    return {re.sub(r'^module\.', '', name): value for name, value in state.items()}


def check_keys(
    expected: Mapping[str, Tensor],
    checkpoint: Mapping,
    path: str | Path,
    fresh: Iterable[str] = (),
) -> None:
    """Refuse a checkpoint of another architecture, naming what differs both ways.

    Args:
        expected: The model's ``state_dict()``.
        checkpoint: What :func:`read_checkpoint` returned for ``path``.
        path: Named in the message.
        fresh: Regular expressions of parameters that ``checkpoint`` need not have.

    Raises:
        ValueError: Keys or shapes differ.
    """
    found = state_dict_of(checkpoint, path)
    # MMEngine ignores these counters of BatchNorm too: many published backbones lack them.
    counters = r'\.num_batches_tracked$'
    optional = re.compile('|'.join([counters, *fresh]))
    missing = [k for k in expected if k not in found and not optional.search(k)]
    unknown = [k for k in found if k not in expected and not re.search(counters, k)]
    reshaped = [
        f'{k} ({tuple(found[k].shape)} in the file, {tuple(expected[k].shape)} in the model)'
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    if not (missing or unknown or reshaped):
        return
    meta = checkpoint.get('meta')
    trained_as = meta.get('experiment_name') if isinstance(meta, Mapping) else None
    raise ValueError(
        '\n'.join(
            [
                f'{path} belongs to another architecture than the model of the config:',
                f'  {len(missing)} keys of the model are missing in the file: {_first(missing)}',
                f'  {len(unknown)} keys of the file are not in the model: {_first(unknown)}',
                f'  {len(reshaped)} keys differ in shape: {_first(reshaped)}',
                'Use the config the checkpoint was trained with'
                + (f' (it says: {trained_as}).' if trained_as else '.'),
            ]
        )
    )


def load_from_anywhere(filename: str, map_location: Any = None) -> dict:
    """What MMEngine calls for each path and address."""
    return read_as_ours(filename, map_location)


# All of MMEngine's own: what this reader does not fetch (s3, pavi) is an error.
CheckpointLoader.register_scheme(
    [
        prefix
        for prefix, loader in CheckpointLoader._schemes.items()
        if loader.__module__ == CheckpointLoader.__module__
    ]
    + ['hf://'],
    load_from_anywhere,
    force=True,
)


@WEIGHT_INITIALIZERS.register_module('Pretrained', force=True)
class FittingPretrainedInit(PretrainedInit):
    """MMEngine's ``init_cfg=dict(type='Pretrained', ...)``, for weights that fit.

    Keys and shapes must be the module's. Only the norms of the output maps may be missing, and
    without ``prefix`` the file may hold other parts besides, such as a classifier. Swin and Video
    Swin as published are renamed for this project's.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: When called: see :func:`read_checkpoint` and
            :func:`check_keys`.
    """

    def __call__(self, module: nn.Module) -> None:
        """Check the weights, then load them into ``module``."""
        expected = module.state_dict()
        ours = 'patch_embed.weight' in expected
        kinds = ('official', 'swin', 'video_swin') if ours else ('official',)
        checkpoint = read_as_ours(self.checkpoint, self.map_location, kinds)
        found = state_dict_of(checkpoint, self.checkpoint)
        if self.prefix is not None:
            start = self.prefix.rstrip('.') + '.'
            found = {k.removeprefix(start): v for k, v in found.items() if k.startswith(start)}
        else:
            parts = {k.split('.')[0] for k in expected}
            found = {k: v for k, v in found.items() if k.split('.')[0] in parts}
        check_keys(expected, found, self.checkpoint, fresh=FRESH)
        print_log(f'weights of {type(module).__name__}: {self.checkpoint}', 'current')
        load_state_dict(module, found)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def _read_safetensors(path: Path, map_location: Any) -> dict:
    from safetensors import SafetensorError, safe_open

    device = 'cpu' if map_location is None else str(map_location)
    try:
        with safe_open(path, framework='pt', device=device) as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return {'state_dict': state, 'meta': file.metadata() or {}}
    except SafetensorError as error:
        raise ValueError(_unreadable(path, error)) from error


def _read_pickle(path: Path, map_location: Any) -> Any:
    try:
        _check_sums(path)
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever damaged bytes bring about
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek beyond the end
            raise
        wanted = re.search(r'GLOBAL (\S+)|function (<.*?>)', str(error))
        if wanted is None:
            raise ValueError(_unreadable(path, error)) from error
        raise ValueError(
            f'{path} was not loaded: besides tensors and numbers it wants '
            f'{wanted[1] or wanted[2]}, which could run code on this machine. '
            'Ask its author for plain weights (.safetensors, or a saved state_dict).'
        ) from error


def _check_sums(path: Path) -> None:
    """Compare the checksums of a zipped checkpoint, which PyTorch writes but does not look at.

    Raises:
        BadZipFile: Bytes of it have changed.
    """
    if not is_zipfile(path):
        return
    with ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                while file.read(1 << 20):
                    pass


def _safe_globals() -> list[Callable | tuple[Callable, str]]:
    """What training checkpoints hold besides tensors: MMEngine's logs, ``argparse`` options.

    ``getattr`` is how pickle spells the four functions every ``HistoryBuffer`` refers to; it is
    replaced by a function that gives these and nothing else.
    """
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    dtypes = {
        type(np.dtype(code)) for code in ['?', 'U', *np.typecodes['AllInteger'], 'e', 'f', 'd']
    }
    return [
        *dtypes,
        np.dtype,
        np.ndarray,
        *(
            (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
            for name in ('_reconstruct', 'scalar')
            for core in ('core', '_core')  # numpy 1 and 2
        ),
        HistoryBuffer,
        (_history_buffer_method, 'builtins.getattr'),
        Namespace,
    ]


def _history_buffer_method(owner: Any, name: str) -> Callable:
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise ValueError(f'unsupported GLOBAL getattr({owner!r}, {name!r})')
    return getattr(owner, name)


def _unreadable(path: Path, error: Exception) -> str:
    return (
        f'{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: it is truncated, or '
        f'is no {path.suffix or ".pth"} file ({_first_sentence(error)}). Copy or download it again.'
    )


def _first_sentence(error: Exception) -> str:
    return re.split(r'\. |\n', str(error).strip() or type(error).__name__)[0]


def _first(names: Iterable[str]) -> str:
    names = list(names)
    more = f', ... and {len(names) - _LISTED} more' if len(names) > _LISTED else ''
    return (', '.join(names[:_LISTED]) or 'none') + more
