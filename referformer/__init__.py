"""ReferFormer (Language as Queries for Referring Video Object Segmentation) on MMEngine."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .apis import ReferFormerInferencer, init_model
    from .zoo import list_models

__all__ = ['ReferFormerInferencer', '__version__', 'init_model', 'list_models']

_MODULES = {'ReferFormerInferencer': 'apis', 'init_model': 'apis', 'list_models': 'zoo'}


def __getattr__(name: str) -> Any:
    """Import what is asked for: PyTorch takes seconds, which many who import this never need."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
