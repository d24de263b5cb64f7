"""Weights by a model's name: fetched, renamed, checked against its config, kept as safetensors."""

import os
from pathlib import Path

import safetensors.torch
import torch
from filelock import FileLock
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from ..engine.checkpoint import check_keys, read_as_ours, state_dict_of
from ..engine.conversion import FRESH, KINDS
from ..registry import MODELS
from .download import cache_dir, check_sum, fetch, find_tokenizer, remove, set_aside
from .names import PublishedModel, find_config, is_published, published_models, unknown_name


def find_checkpoint(config: str | Path, checkpoint: str | Path | None = None) -> Path | None:
    """The weights of a model as a file on this machine.

    Args:
        config: See :func:`find_config`.
        checkpoint: Wins, where it is given: a file, an address, or a published model's name.

    Returns:
        The file given, fetched where it is an address or a name; else ``model.safetensors`` beside
        ``config.py``; else the published weights of a name, fetched on first use. None where there
        is nothing of this.

    Raises:
        FileNotFoundError, ValueError, ConnectionError: See :func:`fetch` and :func:`get_weights`.
    """
    if checkpoint is not None:
        return get_weights(str(checkpoint)) if is_published(checkpoint) else fetch(checkpoint)
    path = find_config(config)
    beside = path.with_name('model.safetensors')
    if path.name == 'config.py' and beside.is_file():
        return beside
    if Path(config).is_dir():
        raise FileNotFoundError(
            f'the folder {config} has a config.py, and no model.safetensors beside it; '
            'name the checkpoint'
        )
    return get_weights(str(config)) if is_published(config) else None


def get_weights(name: str) -> Path:
    """The published weights of a model as a file of ours, fetched and converted on first use.

    Args:
        name: One of :func:`published_models`.

    Raises:
        ValueError: There are none of this name, what was fetched is something else, or the file was
            changed since.
        ConnectionError: They could not be fetched; the message says how to do it by hand.
    """
    models = published_models()
    if name not in models:
        raise ValueError(f'no model has the name {name}; {unknown_name(name, models)}')
    model = models[name]
    if model.weights is None:
        raise ValueError(
            f'no weights of {name} were published; train it, or name another checkpoint '
            '(referformer list shows which models have weights)'
        )
    target = cache_dir() / 'models' / f'{model.file}.safetensors'
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{target}.lock'):
        if not target.is_file():
            source = cache_dir() / 'downloads' / f'{model.file}.pth'
            fetch(model.weights, source, f'referformer get-weights {name}')
            _convert(model, source, target)
            remove(source)
        check_sum(target)
    return target


def settle_tokenizer(config: Config) -> None:
    """Let the config name a tokenizer that is there, or that can be had without delay.

    Raises:
        ConnectionError: See :func:`find_tokenizer`.
    """
    encoder = config.model.get('text_encoder') or {}
    if isinstance(encoder.get('tokenizer'), str):
        encoder['tokenizer'] = find_tokenizer(encoder['tokenizer'])


def expected_state(config: Config, backbone: bool) -> dict[str, Tensor]:
    """Names and shapes of a model's weights, or of its backbone's, without memory for them."""
    init_default_scope('referformer')
    with torch.device('meta'):
        return MODELS.build(config.model.backbone if backbone else config.model).state_dict()


def _convert(model: PublishedModel, source: Path, target: Path) -> None:
    """Write what was fetched with the names of this project, if it is what the config describes."""
    try:
        checkpoint = read_as_ours(source, kinds=[kind for kind in KINDS if kind != 'ours'])
        expected = expected_state(Config.fromfile(model.config), model.is_backbone)
        check_keys(expected, checkpoint, source, FRESH if model.is_backbone else ())
    except ValueError as error:
        raise ValueError(
            f'{model.weights} is not {model.name}: {error}\n'
            f'It was set aside as {set_aside(source)}.'
        ) from error
    part = target.with_suffix('.part')
    metadata = {'format': 'pt', 'source': str(model.weights)}
    safetensors.torch.save_file(state_dict_of(checkpoint, source), part, metadata)
    os.replace(part, target)
