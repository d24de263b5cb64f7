"""Trains the toy model, killed again and again; a script of its own, because it forks.

Usage: killed_trainings.py FOLDER KILLS SEED. FOLDER/straight has the training nobody killed,
FOLDER/killed the one that was, at random places, every second time while a checkpoint was saved.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_project import write_config

from referformer.commands import train
from referformer.registry import HOOKS

EXTRA = """
train_dataloader.update(num_workers=2)
train_cfg = dict(type='IterBasedTrainLoop', max_iters={max_iters}, val_interval=5)
log_processor = dict(by_epoch=False)
default_hooks.update(checkpoint=dict(interval=2, by_epoch=False, max_keep_ckpts=2))
param_scheduler.update(milestones=[9], by_epoch=False)
custom_hooks = [dict(type='TellHook'), dict(type='EMAHook', momentum=0.1)]
"""
DELAY = 0.05  # seconds, three times for the checkpoint and three times for its pointer
told = os.devnull


def tell(what: bytes) -> None:
    """Let the parent know; a letter a call."""
    descriptor = os.open(told, os.O_WRONLY)
    os.write(descriptor, what)
    os.close(descriptor)


@HOOKS.register_module()
class TellHook(Hook):
    """Tells of every iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        tell(b'i')


def slow(function, *, announce=False, after=False):
    """Call with a delay, in which the process can be killed."""

    def call(*args):
        if announce:
            tell(b's')
        time.sleep(DELAY)
        result = function(*args)
        time.sleep(DELAY if after else 0)
        return result

    return call


def start(config: Path, work_dir: Path, name: str, saving: bool) -> tuple[int, int]:
    """Fork a process that trains; its id, and what to read from to follow it."""
    global told
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    told = f'/proc/self/fd/{writer}'
    log = os.open(work_dir.parent / f'{name}.log', os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    Runner._log_env = lambda self, env_cfg: None
    if saving:
        os.fsync = slow(os.fsync, announce=True)
        os.replace = slow(os.replace, after=True)
    try:
        options = ['--resume', '--work-dir', str(work_dir), '--cfg-options']
        train.main([str(config), *options, f'experiment_name={name}'])
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)


def kill_at_random(pid: int, reader: int, saving: bool) -> bool:
    """Kill the process some iterations on, or some time after it begins to save; whether it was."""
    left = random.randint(1, 6)
    while (letter := os.read(reader, 1)) not in (b'', b's'):
        left -= letter == b'i'
        if left < 1 and not saving:
            break
    time.sleep(random.uniform(0, 6 * DELAY if saving else 0.02))
    os.kill(pid, signal.SIGKILL)
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def main(folder: Path, kills: int, seed: int) -> None:
    """Train twice."""
    torch.set_num_threads(1)
    random.seed(seed)
    max_iters = 6 * kills + 6
    config = write_config(folder, 'run', EXTRA.format(max_iters=max_iters))
    pid, reader = start(config, folder / 'straight', 'straight', False)
    while os.read(reader, 4096):
        pass
    assert os.waitpid(pid, 0)[1] == 0
    for i in range(kills):
        pid, reader = start(config, folder / 'killed', f'kill_{i}', i % 2 == 0)
        assert kill_at_random(pid, reader, i % 2 == 0), f'ended before kill {i}'
    pid, reader = start(config, folder / 'killed', 'rest', False)
    while os.read(reader, 4096):
        pass
    assert os.waitpid(pid, 0)[1] == 0
    print(max_iters)


if __name__ == '__main__':
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
