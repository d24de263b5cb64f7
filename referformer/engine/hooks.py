"""Hooks beyond MMEngine's: safe and matching checkpoints, seeds by epoch, invalid losses."""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import worker_init_fn
from mmengine.dist import get_rank, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from ..files import atomic_write
from ..registry import HOOKS
from .checkpoint import check_keys


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local files, written whole or not at all."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write ``obj`` under a temporary name, then rename it to ``filepath``."""
        atomic_write(filepath, obj)


register_backend('referformer.atomic', AtomicLocalBackend, force=True)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``; a run that is killed while saving can still be resumed.

    Checkpoints are written under a temporary name and renamed. ``max_keep_ckpts`` is at least 2,
    because the oldest checkpoint goes before the new one is there. ``save_best`` knows that more
    J&F is better.
    """

    _default_greater_keys = [*CheckpointHook._default_greater_keys, 'J&F', 'IoU']

    def __init__(self, *args: Any, max_keep_ckpts: int = -1, **kwargs: Any) -> None:
        if max_keep_ckpts == 1:
            raise ValueError(
                'max_keep_ckpts=1 would leave no checkpoint while the next one is '
                'written; use 2 or more, or -1 to keep all'
            )
        kwargs.setdefault('backend_args', {'backend': 'referformer.atomic'})
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, **kwargs)


@HOOKS.register_module()
class MatchingCheckpointHook(Hook):
    """Refuse to start from a checkpoint of another architecture; MMEngine would only warn.

    Args:
        fresh: Regular expressions of parameters that ``load_from`` shall not bring into a training,
            because they start anew there (class heads when a pre-trained model is fine-tuned). They
            may also be missing in the file. Resuming and testing take every parameter.
    """

    def __init__(self, fresh: Sequence[str] = ()) -> None:
        self.fresh = tuple(fresh)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the keys before MMEngine loads them."""
        path = runner._load_from or 'the checkpoint'
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # The loop is built by now if, and only if, the runner trains.
        fine_tuning = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        fresh = self.fresh if fine_tuning else ()
        if runner._resume:
            _check_resumable(checkpoint, path)
        state = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in state if any(re.search(p, name) for p in fresh)]:
            del state[name]
        check_keys(model.state_dict(), checkpoint, path, fresh)


@HOOKS.register_module()
class RemoveFilesHook(Hook):
    """Delete the files of an earlier run once a training has all it needs and starts.

    Args:
        files: Those that are not there are passed over.
    """

    def __init__(self, files: Sequence[str | Path]) -> None:
        self.files = [Path(file) for file in files]

    def before_train(self, runner: Runner) -> None:
        """Delete them, on the main process; data, weights and optimiser are there by now."""
        if is_main_process():
            for file in self.files:
                file.unlink(missing_ok=True)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Draw all randomness of an epoch from (seed, iteration, rank): resuming there is exact.

    Validation, or anything else that draws random numbers between two epochs, has no influence
    then. The workers of the data loader get new seeds with every epoch; MMEngine's give each epoch
    the seeds, hence the augmentations, of the first one. Exact are runs of epochs
    (``EpochBasedTrainLoop``) with ``persistent_workers=False``: workers that live on keep a state
    which no checkpoint has.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed Python, numpy and torch, and let torch seed the workers from there."""
        entropy = np.random.SeedSequence([runner.seed, runner.iter, get_rank()])
        seeds = [int(seed) for seed in entropy.generate_state(3)]
        random.seed(seeds[0])
        np.random.seed(seeds[1])
        torch.manual_seed(seeds[2])
        loader = runner.train_dataloader
        if getattr(loader.worker_init_fn, 'func', None) is worker_init_fn:
            loader.worker_init_fn = None


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop the training when a loss is nan or infinite.

    The message names the first such iteration, its losses and samples. Every iteration is judged,
    on the device; the verdicts are fetched every ``interval`` iterations, and before a checkpoint
    is saved.

    Args:
        interval: Iterations between two looks at the verdicts.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._pending: list[tuple[int, list[str], list[str], Tensor]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Note which losses are finite."""
        losses = {k: v for k, v in (outputs or {}).items() if isinstance(v, Tensor)}
        if not losses:
            return
        finite = torch.stack([v.detach().isfinite().all() for v in losses.values()])
        self._pending.append((runner.iter + 1, list(losses), _sample_names(data_batch), finite))
        if len(self._pending) >= self.interval:
            self._check()

    def after_train_epoch(self, runner: Runner) -> None:
        """Judge what is left of the epoch."""
        self._check()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Weights that are nan are not worth a checkpoint."""
        self._check()

    def _check(self) -> None:
        pending, self._pending = self._pending, []
        if not pending or torch.stack([finite.all() for *_, finite in pending]).all():
            return
        iteration, names, samples, finite = next(p for p in pending if not p[-1].all())
        bad = [name for name, ok in zip(names, finite.tolist()) if not ok]
        raise ValueError(
            f'iteration {iteration}: {", ".join(bad)} not finite, samples (video/expression): '
            f'{", ".join(samples) or "unknown"}. Look at these samples; else lower the learning '
            'rate, clip gradients (optim_wrapper.clip_grad), or train without --amp.'
        )


def _sample_names(data_batch: Any) -> list[str]:
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    return [
        f'{sample.get("video_id", "?")}/{sample.get("exp_id", "?")}'
        for sample in samples or []
        if hasattr(sample, 'get')
    ]


def _check_resumable(checkpoint: Mapping, path: str) -> None:
    missing = [k for k in ('meta', 'message_hub', 'optimizer') if k not in checkpoint]
    if missing:
        raise ValueError(
            f'{path} holds weights only (no {", ".join(missing)}), no training can be resumed from '
            f'it; start a new one from its weights with --cfg-options load_from={path}'
        )
