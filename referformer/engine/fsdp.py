"""Training with parameters, gradients and optimiser states shared out over the processes.

By MMEngine's ``FlexibleRunner`` and PyTorch's FSDP: ``referformer train CONFIG --fsdp``.
"""

import os
import uuid
from pathlib import Path
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_reduce, is_main_process
from mmengine.optim import OptimWrapper
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..models.backbones.swin import SwinBlock
from ..models.deformable_transformer import DecoderLayer, EncoderLayer
from ..registry import OPTIM_WRAPPERS, STRATEGIES


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """MMEngine's ``FSDPStrategy`` with checkpoints of whole tensors, written whole or not at all.

    Any other training or test reads them. The main process needs memory for one copy.
    """

    def save_checkpoint(self, filename: str, **options: Any) -> None:
        """Write under a temporary name, as :func:`referformer.files.atomic_open` does, then rename.

        Args:
            filename: Of the checkpoint.
            options: See MMEngine.
        """
        path = Path(filename)
        temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex[:8]}')
        super().save_checkpoint(str(temporary), **options)
        if is_main_process():
            os.replace(temporary, path)

    def optim_state_dict(self) -> dict:
        """The optimiser's state of all parameters, by name; on the main process."""
        return FullyShardedDataParallel.optim_state_dict(self.model, self.optim_wrapper.optimizer)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Take one's own part. MMEngine gives the arguments in the order of older PyTorch."""
        part = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(part)


@OPTIM_WRAPPERS.register_module()
class ShardedOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper``, clipping by the norm of the whole gradient.

    Each process has a part of it; MMEngine's would take the norm of the part for that of all.
    """

    def _clip_grad(self) -> None:
        gradients = [
            p.grad for group in self.param_groups for p in group['params'] if p.grad is not None
        ]
        squares = torch.stack([gradient.double().square().sum() for gradient in gradients]).sum()
        all_reduce(squares)
        norm = squares.sqrt()
        scale = (self.clip_grad_kwargs['max_norm'] / (norm + 1e-6)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient))
        self.message_hub.update_scalar('train/grad_norm', norm.item())


def gather_layers(
    module: nn.Module, recurse: bool, nonwrapped_numel: int, min_num_params: int
) -> bool:
    """Which modules FSDP gathers one at a time: blocks of Swin, layers of the Transformers.

    All else is gathered for the whole step: some parts are used by more than their ``forward``.

    Args:
        module: As FSDP gives it, ...
        recurse: ... with the question whether to look into it, ...
        nonwrapped_numel: ... and how many parameters are left in it.
        min_num_params: Smaller ones are not worth the communication.
    """
    kind = type(module)
    theirs = kind.__module__.startswith('transformers.') and kind.__name__.endswith(
        ('Layer', 'Block')
    )
    layer = theirs or isinstance(module, (SwinBlock, EncoderLayer, DecoderLayer))
    return recurse or (layer and nonwrapped_numel >= min_num_params)


def use_fsdp(cfg: Config) -> None:
    """Let ``cfg`` train with FSDP; what it says under ``strategy`` goes before.

    Raises:
        ValueError: There is one process only, or the optimiser's wrapper is of another kind.
    """
    if cfg.get('launcher', 'none') == 'none':
        raise ValueError('--fsdp shares a model out over processes: start it with a --launcher')
    wrapper = cfg.optim_wrapper
    clip = wrapper.get('clip_grad') or {}
    if wrapper.get('type', 'OptimWrapper') != 'OptimWrapper' or clip.get('norm_type', 2) != 2:
        raise ValueError(
            '--fsdp needs an optim_wrapper of type OptimWrapper, clipping by norm_type 2; for '
            'mixed precision: strategy.model_wrapper.mixed_precision.param_dtype=bfloat16'
        )
    wrapper.type = 'referformer.ShardedOptimWrapper'
    on_cpu = get_device() == 'cpu'
    whole = {'rank0_only': True, 'offload_to_cpu': not on_cpu}
    strategy = {
        'type': 'referformer.ShardedStrategy',
        'model_wrapper': {
            'type': 'MMFullyShardedDataParallel',
            'auto_wrap_policy': {'type': f'{__name__}.gather_layers', 'min_num_params': 1_000_000},
            **({'device_id': 'cpu'} if on_cpu else {}),
        },
        'state_dict_cfg': {
            'state_dict_type': 'FULL_STATE_DICT',
            'state_dict_config': {'type': 'FullStateDictConfig', **whole},
            'optim_state_dict_config': {'type': 'FullOptimStateDictConfig', **whole},
        },
    }
    cfg.strategy = Config._merge_a_into_b(cfg.get('strategy') or {}, strategy)
