"""What eager code may do, and traced code (torch.compile, torch.export) may not."""

from collections.abc import Callable
from functools import lru_cache, wraps

import torch
from torch import Tensor


def traced() -> bool:
    """Whether what runs now is being written down as a graph."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def cached_tensor(maxsize: int) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Keep the results of a function of plain values; a tensor of a traced graph must not be."""

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        # A cached tensor must serve training, too.
        kept = lru_cache(maxsize)(torch.inference_mode(False)(function))

        @wraps(function)
        def call(*args: object) -> Tensor:
            return function(*args) if torch.compiler.is_compiling() else kept(*args)

        return call

    return decorate
