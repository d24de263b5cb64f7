"""Linear layers on a CPU without gradients: oneDNN with packed weights and the ReLU fused.

PyTorch's own form copies the bias into the output, adds the product, and passes over it again for
the ReLU; its matrix library, MKL, does without AVX-512 on processors that are not Intel's.
"""

import functools
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

# Fewer tokens do not repay the packing of the weight.
_FEWEST = 1024


def fast_linear(linear: nn.Linear, like: Tensor, relu: bool = False) -> Callable[[Tensor], Tensor]:
    """``linear``, and the ReLU after it, as a function for one batch of tokens, whole or in chunks.

    The weight is packed here and for this batch alone, which costs a hundredth of its use: what
    training, loading or an averaging hook changes can never meet a stale copy.

    Args:
        linear: The layer.
        like: All of the tokens it is for, (..., C).
        relu: Apply a ReLU.
    """
    weight, bias = linear.weight, linear.bias
    dtype = like.dtype
    kind = like.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    if not _serves(like, dtype):
        return lambda x: F.relu(linear(x), inplace=True) if relu else linear(x)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), 512)
    bias = bias if bias is None else bias.detach().to(dtype)
    activation = 'relu' if relu else 'none'
    return lambda x: torch.ops.mkldnn._linear_pointwise(
        x.to(dtype), packed, bias, activation, [], ''
    )


def _serves(like: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN can take these tokens, and is not slower."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    if _get_current_dispatch_mode() is not None:  # who counts operations counts known ones
        return False
    if like.device.type != 'cpu' or like.numel() // like.shape[-1] < _FEWEST:
        return False
    if dtype not in (torch.float32, torch.bfloat16) or not torch._C._get_mkldnn_enabled():
        return False
    return _pays(dtype)


@functools.cache
def _pays(dtype: torch.dtype) -> bool:
    """A measurement of some hundredths of a second, once a process.

    Slower by less than a tenth is no reason to refuse: a busy machine must not decide on digits.
    """
    try:
        x, weight = torch.zeros(512, 256, dtype=dtype), torch.zeros(2048, 256, dtype=dtype)
        bias = torch.zeros(2048, dtype=dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))

        def ours() -> None:
            torch.ops.mkldnn._linear_pointwise(x, packed, bias, 'relu', [], '')

        def plain() -> None:
            F.relu(F.linear(x, weight, bias), inplace=True)

        return _seconds(ours) < 1.1 * _seconds(plain)
    except (AttributeError, RuntimeError):  # private operators of PyTorch: not in every build
        return False


def _seconds(run: Callable[[], None]) -> float:
    """The best of a few runs, after one to warm up."""
    best = float('inf')
    for _ in range(5):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
