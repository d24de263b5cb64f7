"""Which models there are: those that come with the package, and those of ``model-index.yml``."""

import fnmatch
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ..files import project_file

DEFAULT_MODEL = 'referformer_efflite0_real'  # serves where no model is named

_FOLDER = Path(__file__).parent
_BACKBONES = 'Backbones'  # the collection of what is only a part of a model


class PublishedModel(NamedTuple):
    """An entry of a metafile."""

    name: str
    config: Path
    weights: str | None  # an address; None where nothing is published
    file: str  # stem of the weights' file; models that share weights share it
    results: tuple[dict[str, Any], ...]  # Task, Dataset, Metrics: figures of the authors
    is_backbone: bool


def package_root() -> Path:
    """Where ``configs/``, ``tools/`` and ``model-index.yml`` are: ``.mim`` of an installed package,
    else the checkout."""
    return project_file('')


def shipped_models() -> list[str]:
    """Names of the models that come with the package, weights and all."""
    return sorted(path.parent.name for path in _FOLDER.glob('*/config.py'))


def published_models() -> dict[str, PublishedModel]:
    """All that ``model-index.yml`` lists, by name; empty where the package has none."""
    return _read_index(package_root())


def list_models(pattern: str = '*') -> list[str]:
    """Names that ``init_model`` and the inferencer take without a checkpoint.

    Args:
        pattern: Such as ``'*vswin*'``.
    """
    published = [m.name for m in published_models().values() if m.weights and not m.is_backbone]
    return fnmatch.filter(sorted({*shipped_models(), *published}), pattern)


def find_config(config: str | Path) -> Path:
    """The config file of a model.

    Args:
        config: Its name, its folder (``config.py`` with ``model.safetensors`` beside it), or a
            file, which is returned as it is.

    Raises:
        FileNotFoundError: The folder holds no ``config.py``.
    """
    name = str(config)
    if name in shipped_models():
        return _FOLDER / name / 'config.py'
    path = Path(config)
    if path.is_dir():
        if not (path / 'config.py').is_file():
            raise FileNotFoundError(
                f'the folder {path} is no published model: it has no config.py; name a config file '
                'or a folder made by `referformer publish`'
            )
        return path / 'config.py'
    if is_published(config):
        return published_models()[name].config
    return path


def is_published(name: str | Path) -> bool:
    """Whether this is a name of ``model-index.yml``, and neither a path nor an address."""
    plain = '/' not in str(name) and not Path(name).suffix and not Path(name).exists()
    return plain and str(name) in published_models()


def unknown_name(name: str, known: Iterable[str]) -> str:
    """What to say about a model that nobody knows."""
    similar = get_close_matches(name, list(known), n=3)
    return (f'similar: {", ".join(similar)}; ' if similar else '') + 'all: referformer list'


@cache
def _read_index(root: Path) -> dict[str, PublishedModel]:
    index = root / 'model-index.yml'
    if not index.is_file():
        return {}
    models: dict[str, PublishedModel] = {}
    files: dict[str, str] = {}
    for part in _read_yaml(index)['Import']:
        for entry in _read_yaml(root / part)['Models']:
            name, weights = entry['Name'], entry.get('Weights')
            models[name] = PublishedModel(
                name,
                root / entry['Config'],
                weights,
                files.setdefault(weights, name) if weights else name,
                tuple(entry.get('Results') or ()),
                entry['In Collection'] == _BACKBONES,
            )
    return models


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return yaml.load(path.read_text(encoding='utf-8'), Loader=loader)
