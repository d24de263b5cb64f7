"""Architectures and weights of ``transformers`` by name, with its errors in words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

# What published weights may lack, as they were trained without it: it starts at random.
_HEADS = ('pooler.', 'head.', 'hidden_states_norms.')


def make_config(name: str | None, model: dict[str, Any] | None, default_type: str, key: str) -> Any:
    """The config of a network of ``transformers``.

    Args:
        name: Name on the Hub, or folder, to read it from.
        model: In place of it, the arguments of the config class, ``model_type`` names the class.
        default_type: ``model_type`` where ``model`` does not say.
        key: Place in the model's config, for messages, such as 'text_encoder'.

    Raises:
        ValueError: Both or none are given, or ``model_type`` is unknown.
        OSError: ``name`` is neither a folder nor in the local cache, and cannot be fetched.
    """
    from transformers import AutoConfig

    if (name is None) == (model is None):
        raise ValueError(
            f'model.{key} needs name (on the Hub, or a folder) or model (architecture), not '
            + ('both' if name else 'none of them')
        )
    if name is not None:
        advice = f'Give the folder of a downloaded copy (model.{key}.name=FOLDER).'
        with words_of(f'the config of the {key}', name, advice):
            return AutoConfig.from_pretrained(name)
    options = dict(model)
    return AutoConfig.for_model(options.pop('model_type', default_type), **options)


def architecture(config: Any) -> dict[str, Any]:
    """What ``make_config`` takes as ``model`` to make this config without its name."""
    place = ('_name_or_path', 'architectures', 'dtype', 'transformers_version')
    options = {k: v for k, v in config.to_diff_dict().items() if k not in place}
    return options | {'model_type': config.model_type}


def read_weights(module: nn.Module, read: Callable, name: str, key: str) -> None:
    """Fill ``module`` with published weights, whatever precision they were published in.

    Args:
        module: Made from the config of ``name``.
        read: ``from_pretrained`` of a class of ``transformers`` that gives such a module.
        name: Name on the Hub, or folder.
        key: Place in the model's config, for messages.

    Raises:
        OSError: They cannot be read or fetched.
        ValueError: They are another architecture's.
    """
    advice = (
        f'Give the folder of a downloaded copy (model.{key}.pretrained=FOLDER), or start from a '
        f'checkpoint that holds it (load_from=..., model.{key}.pretrained=None).'
    )
    with words_of(f'the {key}', name, advice):
        source, report = read(
            name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    state, missing = source.state_dict(), sorted(report['missing_keys'])
    unfit = [
        k for k, v in module.state_dict().items() if k not in state or state[k].shape != v.shape
    ]
    unfit += [k for k, *_ in report['mismatched_keys']]
    unfit += [k for k in missing if not any(head in k for head in _HEADS)]
    if unfit:
        raise ValueError(
            f'{name!r} does not hold the weights of this {key} ({type(module).__name__}): '
            f'{len(unfit)} tensors are missing or of another shape, such as {unfit[0]}.'
        )
    module.load_state_dict(state)
    if missing:
        print_log(f'{key}: {name!r} lacks {", ".join(missing)}: random', 'current', 30)
    print_log(f'{key}: weights of {name!r}', 'current')


@contextmanager
def words_of(what: str, name: str, advice: str) -> Iterator[None]:
    """Turn what ``transformers`` raises when it cannot load ``name`` into one ``OSError``.

    Args:
        what: Begin of the message, such as 'the tokenizer'.
        name: Name on the Hub, or folder.
        advice: What to do, the end of the message.
    """
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        looks_like_path = name.startswith(('/', '.', '~')) or name.count('/') > 1
        missing = looks_like_path and not Path(name).exists()
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        reason = 'there is no such folder.' if missing else lines[0].strip()
        raise OSError(f'{what} {name!r} could not be loaded: {reason} {advice}') from error
