"""Hooks beyond MMEngine's: checkpoints that are safe, exact and of the same architecture."""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch.distributed.fsdp import FullyShardedDataParallel

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
    """MMEngine's ``CheckpointHook``; a run that is killed at any time can still be resumed.

    Checkpoints, and the file ``last_checkpoint`` that names the newest, are written under a
    temporary name and renamed; the oldest checkpoint goes when the new one is there. What a killed
    run left half-written is removed when training starts. Between two steps of accumulated
    gradients, these are saved too. ``save_best`` knows that more J&F is better.
    """

    _default_greater_keys = [*CheckpointHook._default_greater_keys, 'J&F', 'IoU']

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault('backend_args', {'backend': 'referformer.atomic'})
        super().__init__(*args, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Find the folder, and clear it of what a killed run left half-written."""
        super().before_train(runner)
        if is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for path in folder.glob('.*'):
                    if re.fullmatch(r'\.(.+\.pth|last_checkpoint)\.\w{8}', path.name):
                        path.unlink()
                        runner.logger.info(f'removed {path}, left by a run that was killed')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add gradients that wait for more: their mean over all processes, which each keeps."""
        pending = {n: p.grad for n, p in runner.model.named_parameters() if p.grad is not None}
        if runner.optim_wrapper._accumulative_counts > 1 and pending:
            for gradient in pending.values():
                all_reduce(gradient, 'mean')
            checkpoint['gradients'] = {n: g.cpu() for n, g in pending.items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take up the gradients where a run is resumed."""
        if runner._resume:
            gradients = checkpoint.get('gradients', {})
            for name, parameter in runner.model.named_parameters():
                if name in gradients:
                    parameter.grad = gradients[name].to(parameter)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """MMEngine's, in another order: save, say so, remove."""
        if self.max_keep_ckpts > 0:
            others = [other for other in self.keep_ckpt_ids if other != step]
            self.keep_ckpt_ids = deque([*others, step])
            # A run that is killed before it removes the oldest does so when it is resumed.
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            atomic_write(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt.encode())
        while 0 < self.max_keep_ckpts < len(self.keep_ckpt_ids):
            oldest = self._path(self.keep_ckpt_ids.popleft())
            if is_main_process() and self.file_backend.isdir(oldest):
                self.file_backend.rmtree(oldest)  # of a strategy that shards
            elif is_main_process() and self.file_backend.isfile(oldest):
                self.file_backend.remove(oldest)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))


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
        model = runner.model
        if is_model_wrapper(model) and not isinstance(model, FullyShardedDataParallel):
            model = model.module
        # The loop is built by now if, and only if, the runner trains.
        fine_tuning = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        fresh = self.fresh if fine_tuning else ()
        if runner._resume:
            check_resumable(checkpoint, path)
        state = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in state if any(re.search(p, name) for p in fresh)]:
            del state[name]
        expected = model.state_dict()  # of a sharded model, the main process has it whole
        if expected:
            check_keys(expected, checkpoint, path, fresh)


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
    """Does nothing: the training loops seed every iteration. Earlier configs name it."""


def check_resumable(checkpoint: Mapping, path: str) -> None:
    """Refuse a checkpoint that holds weights only.

    Raises:
        ValueError: Naming ``path``.
    """
    missing = [k for k in ('meta', 'message_hub', 'optimizer') if k not in checkpoint]
    if missing:
        raise ValueError(
            f'{path} holds weights only (no {", ".join(missing)}), no training can be resumed from '
            f'it; start a new one from its weights with --cfg-options load_from={path}'
        )
