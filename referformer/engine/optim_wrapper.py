"""Mixed precision that also runs without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Autocast to bfloat16, on CPU or GPU; its range is float32's, so losses need no scaling.

    MMEngine's ``AmpOptimWrapper`` (float16 with loss scaling) runs on GPUs only.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass, and with it the losses, under autocast."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
