"""A few frames at a time: the same numbers from less memory where no gradient is needed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .tracing import traced

# What a layer makes of so many frames of 360x640 is small enough for the allocator to keep it for
# the next ones; larger pieces are given back to the system and mapped again, page by page.
FRAMES = 2

# So many tokens of 256 channels, widened to 2 048, stay in the cache of a core.
_TOKENS = 512


def by_frames(
    function: Callable[..., Tensor | Sequence[Tensor]], *args: Any, out: Tensor | None = None
) -> Any:
    """``function(*args)``, a few frames at a time when gradients are off and nothing is traced.

    Args:
        function: Treats every frame alike and alone; gives a tensor (n, ...) or several.
        args: The first is (n, ...), one entry a frame. Other tensors of n entries are divided along
            with it; all else is passed as it is.
        out: Where to put a single result of this shape; may be the first argument itself.
    """
    num = len(args[0])
    if torch.is_grad_enabled() or num <= FRAMES or traced():
        return function(*args)
    for start in range(0, num, FRAMES):
        piece = slice(start, start + FRAMES)
        found = function(
            *(x[piece] if isinstance(x, Tensor) and len(x) == num else x for x in args)
        )
        pieces = [found] if isinstance(found, Tensor) else found
        if start == 0:
            fits = out is not None and out.dtype == found.dtype
            results = [out] if fits else [_for_frames(num, x) for x in pieces]
        for result, x in zip(results, pieces):
            result[piece] = x
    return results[0] if isinstance(found, Tensor) else results


def by_tokens(function: Callable[..., Tensor], *args: Tensor, out: Tensor | None = None) -> Tensor:
    """``function(*args)``, a few tokens at a time when gradients are off: all in the cache.

    Args:
        function: Treats every token alike and alone; keeps the shape of the first argument.
        args: (n or 1, N, C), divided along N.
        out: Where to put the result if its type is this one's; may be an argument itself.
    """
    n, num = args[0].shape[:2]
    size = max(1, (_TOKENS if args[0].device.type == 'cpu' else 64 * _TOKENS) // n)
    if torch.is_grad_enabled() or num <= size or traced():
        return function(*args)
    for start in range(0, num, size):
        found = function(*(x[:, start : start + size] for x in args))
        if start == 0 and (out is None or out.dtype != found.dtype):
            out = found.new_empty(args[0].shape)
        out[:, start : start + size] = found
    return out


def _for_frames(num: int, x: Tensor) -> Tensor:
    """Room for ``num`` frames like those of ``x``, in its memory format."""
    return torch.empty_like(x[:1].expand(num, *x.shape[1:]), memory_format=_format(x))


def _format(x: Tensor) -> torch.memory_format:
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
