"""Train a model: `%(prog)s CONFIG`, with the options OpenMMLab users know."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import FlexibleRunner, Runner

from ..cli import user_errors
from ..engine import RemoveFilesHook, read_checkpoint
from ..engine.fsdp import use_fsdp
from ..engine.hooks import check_resumable
from ..engine.invalid_loss import read_batch, replay
from ..engine.launch import (
    add_run_arguments,
    check_types,
    choose_device,
    load_config,
    read_tokenizer,
    set_up_launcher,
)
from ..zoo.download import fetch


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.replace('`', ''))
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help='for logs and checkpoints; default work_dirs/<config name>'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='continue: without PATH (or with "auto") from the newest checkpoint in the work dir',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='start anew in a work dir that has checkpoints, and delete these',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--amp-dtype',
        choices=('float16', 'bfloat16'),
        help='of --amp; default float16 (with loss scaling) on GPU, bfloat16 on CPU',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by batch size / the config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument(
        '--fsdp',
        action='store_true',
        help="share the model's parameters and optimiser states out over the processes (FSDP)",
    )
    parser.add_argument(
        '--replay',
        metavar='FILE',
        help='do not train, but go through one step with a batch that was kept because a loss was '
        'nan or infinite (invalid/*.pth in the work dir), and print what is wrong',
    )
    add_run_arguments(parser)
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check what can be checked, then train."""
    args = parse_args(argv)
    choose_device(args.device)
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    if cfg.get('train_cfg') is None or cfg.get('train_dataloader') is None:
        raise ValueError(f'{args.config} has no train_cfg and train_dataloader: nothing to train')
    # MMEngine builds a loop that has no type without asking the registry.
    if 'by_epoch' in cfg.train_cfg:
        by_epoch = cfg.train_cfg.pop('by_epoch')
        cfg.train_cfg.type = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    old, passed_over = set_start(cfg, args.resume, args.overwrite)
    if args.replay:
        read_batch(args.replay)  # what is missing must show before the data are read
    if args.amp or args.amp_dtype:
        use_amp(cfg, args.amp_dtype)
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise ValueError(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    set_up_launcher(cfg, args.launcher, args.local_rank)
    check_types(cfg)
    if args.fsdp:
        use_fsdp(cfg)
    runner = (FlexibleRunner if args.fsdp else Runner).from_cfg(cfg)
    for reason in passed_over:
        runner.logger.warning(reason)
    # What is missing must show before the training starts and anything is deleted; the Runner would
    # build the data of the validation only after the weights.
    _ = runner.train_loop, runner.val_loop
    read_tokenizer(runner.model)
    if args.replay:
        print(replay(runner, args.replay))
        return
    runner.register_hook(RemoveFilesHook(old))
    runner.train()


def set_start(cfg: Config, resume: str | None, overwrite: bool) -> tuple[list[Path], list[str]]:
    """Decide where the training starts: anew, from ``cfg.load_from``, or where another one stopped.

    Args:
        cfg: Its ``load_from`` and ``resume`` are set.
        resume: None, 'auto' or a checkpoint.
        overwrite: Whether checkpoints in the work dir may go.

    Returns:
        The files of an earlier run, to be deleted once the new one can start; why newer checkpoints
        than the one to resume from were passed over.

    Raises:
        FileExistsError: The work dir has checkpoints, and nobody said what should happen to them.
        FileNotFoundError: A checkpoint is not there.
    """
    work_dir = Path(cfg.work_dir)
    checkpoints = sorted(work_dir.glob('*.pth'))
    if resume and overwrite:
        raise ValueError('--resume and --overwrite exclude each other: continue, or start anew')
    cfg.resume, passed_over = False, []
    if resume == 'auto':
        newest, passed_over = newest_checkpoint(work_dir)
        cfg.resume = newest is not None
        cfg.load_from = str(newest) if newest else cfg.get('load_from')
    elif resume:
        cfg.resume, cfg.load_from = True, resume
    source = cfg.get('load_from')
    if source:
        source = cfg.load_from = str(fetch(source))
    continued = cfg.resume and Path(source).resolve().parent == work_dir.resolve()
    if checkpoints and not continued and not overwrite:
        raise FileExistsError(
            f'{work_dir} already has checkpoints ({checkpoints[-1].name}). Continue that run with '
            '--resume, choose another --work-dir, or delete them with --overwrite.'
        )
    old = [*checkpoints, work_dir / 'last_checkpoint'] if overwrite else []
    return old, passed_over


def newest_checkpoint(work_dir: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint from which a training in this folder, which may have been moved, continues.

    Returns:
        What ``last_checkpoint`` names if that can be read, else the newest that can, None in a
        folder without any; and why others were passed over.

    Raises:
        FileNotFoundError: There are checkpoints, but none that a training can be resumed from.
    """
    pointer = work_dir / 'last_checkpoint'
    named = work_dir / Path(pointer.read_text().strip()).name if pointer.is_file() else None
    saved = [path for path in work_dir.glob('*.pth') if re.fullmatch(r'\w+_\d+', path.stem)]
    saved.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    passed_over = []
    if named not in saved and any(work_dir.glob('*.pth')):
        passed_over.append(f'{pointer} names no checkpoint that is there')
    for path in sorted(saved, key=lambda path: path != named):
        try:
            check_resumable(read_checkpoint(path), str(path))
        except ValueError as error:
            passed_over.append(str(error))
            continue
        if passed_over:
            passed_over.append(f'resuming from {path} instead')
        return path, passed_over
    if any(work_dir.glob('*.pth')):
        raise FileNotFoundError(
            f'{work_dir} has no checkpoint to resume from; say which with --resume PATH. '
            + '. '.join(passed_over)
        )
    return None, []


def use_amp(cfg: Config, dtype: str | None) -> None:
    """Switch ``cfg.optim_wrapper`` to mixed precision."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'BFloat16OptimWrapper'):
        raise ValueError(
            f'--amp cannot replace the optim_wrapper {kind}; set its precision in the config'
        )
    on_cpu = get_device() == 'cpu'
    dtype = dtype or ('bfloat16' if on_cpu else 'float16')
    if dtype == 'bfloat16':
        cfg.optim_wrapper.type = 'BFloat16OptimWrapper'
    elif on_cpu:
        raise ValueError('--amp-dtype float16 needs a GPU; on CPU use bfloat16')
    else:
        cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
