"""The number type of a prediction, and what must stay in full precision under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast off on the device of ``x``; nothing where that has none (``meta``)."""
    kind = x.device.type
    if torch.amp.is_autocast_available(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def check_dtype(name: str, device: torch.device | str | None = None) -> torch.dtype:
    """The number type of this name.

    Args:
        name: ``fp32`` (exact), ``bf16`` (CPU and CUDA) or ``fp16`` (CUDA).
        device: Where it is to be used; None: not known yet.

    Raises:
        ValueError: If there is none, or the device cannot compute in it.
    """
    if name not in DTYPES:
        raise ValueError(f'dtype must be one of {", ".join(DTYPES)}, not {name!r}')
    if name == 'fp16' and device is not None and torch.device(device).type != 'cuda':
        raise ValueError(f'fp16 needs CUDA, the device is {device}: use bf16 there, or fp32')
    return DTYPES[name]


def precision(name: str, device: torch.device) -> AbstractContextManager:
    """Compute in this type, see ``check_dtype``; ``fp32`` leaves an outer autocast as it is."""
    dtype = check_dtype(name, device)
    return nullcontext() if name == 'fp32' else torch.autocast(device.type, dtype)
