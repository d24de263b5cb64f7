"""A resumed training is the uninterrupted one, bit for bit: weights, optimiser, logged losses."""

import shutil
import subprocess
import sys
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from toy_project import REPO, ToyDataset, write_config

from referformer.engine import read_checkpoint
from referformer.engine.training_log import LOGS, read_log, read_rows

torch.set_num_threads(1)

EPOCHS = 'default_hooks.update(checkpoint=dict(interval=3, by_epoch=False, max_keep_ckpts=-1))\n'
ITERATIONS = (
    EPOCHS
    + """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=8, val_interval=4)
log_processor = dict(by_epoch=False)
param_scheduler.update(milestones=[5], by_epoch=False)
"""
)
ENDLESS = ITERATIONS + "train_dataloader['sampler'] = dict(type='InfiniteSampler', shuffle=True)\n"
EMA = EPOCHS + "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n"
ACCUMULATED = EPOCHS + 'optim_wrapper.update(accumulative_counts=4)\n'
SCALED = (
    EPOCHS
    + """
optim_wrapper.update(
    type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(init_scale=8.0, growth_interval=2))
"""
)
PERSISTENT = EPOCHS + 'train_dataloader.update(persistent_workers=True)\n'


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)


def run(folder, name, extra, workers=0, start=None, **overrides):
    """Train the toy model for eight iterations in ``folder/name``; that folder."""
    cfg = Config.fromfile(str(write_config(folder, name, extra)))
    cfg.merge_from_dict({'train_dataloader.num_workers': workers, **overrides})
    cfg.work_dir = str(folder / name)
    if start is not None:
        cfg.update(load_from=str(start), resume=True)
    Runner.from_cfg(cfg).train()
    return folder / name


def resumed(folder, straight, step, extra, workers=0):
    """The training that goes on from one of the checkpoints of another."""
    start = folder / f'start_{step}.pth'
    shutil.copy(straight / f'iter_{step}.pth', start)
    return run(folder, f'from_{step}', extra, workers, start)


def differences(first, second, last='iter_8.pth'):
    """Names of what differs in the last checkpoints and in the logged losses."""
    states = [flat(read_checkpoint(folder / last)) for folder in (first, second)]
    names = {key.split('.')[0] for key in states[0].keys() ^ states[1].keys()}
    names |= {
        key for key in states[0].keys() & states[1].keys() if states[0][key] != states[1][key]
    }
    losses = [dict(read_log(folder)[0]) for folder in (first, second)]
    both = losses[0].keys() & losses[1].keys()
    assert both
    return names | {f'loss of {i}' for i in both if losses[0][i] != losses[1][i]}


def flat(value, name=''):
    """All that a training continues from, by dotted name, tensors as bytes."""
    if name.startswith(('.meta', '.message_hub')):
        return {}
    if isinstance(value, torch.Tensor):
        return {name: value.numpy().tobytes()}
    if isinstance(value, (dict, list, tuple)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, f'{name}.{key}').items()}
    return {name: value}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('extra', [EPOCHS, ITERATIONS], ids=['epochs', 'iterations'])
def test_every_checkpoint_continues_exactly(tmp_path, extra, workers):
    """Iteration 3 lies within the first epoch of four, 6 within the second."""
    straight = run(tmp_path, 'straight', extra, workers)
    for step in (3, 6):
        assert not differences(straight, resumed(tmp_path, straight, step, extra, workers))


@pytest.mark.parametrize(
    'extra',
    [ENDLESS, EMA, ACCUMULATED],
    ids=['endless sampler', 'moving average', 'accumulated gradients'],
)
def test_all_that_has_a_state_continues_exactly(tmp_path, extra):
    straight = run(tmp_path, 'straight', extra)
    assert not differences(straight, resumed(tmp_path, straight, 3, extra))


def test_the_scale_of_losses_in_float16_continues_exactly(tmp_path, monkeypatch):
    """MMEngine's wrapper and PyTorch's scaler, with the latter told that a CPU is a GPU."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(torch.amp.GradScaler, 'cpu'))
    straight = run(tmp_path, 'straight', SCALED)
    assert not differences(straight, resumed(tmp_path, straight, 3, SCALED))
    scales = [
        read_checkpoint(straight / f'iter_{i}.pth')['optimizer']['loss_scaler']['scale']
        for i in (3, 6)
    ]
    assert scales[0] < scales[1]


def test_the_last_iteration_of_an_epoch_leaves_the_end_of_the_epoch_to_do(tmp_path):
    """There the rate changes, after a checkpoint by iterations was saved."""
    extra = EPOCHS.replace('interval=3', 'interval=4')
    straight = run(tmp_path, 'straight', extra)
    assert not differences(straight, resumed(tmp_path, straight, 4, extra))


def test_workers_make_no_difference(tmp_path):
    alone = run(tmp_path, 'alone', EPOCHS)
    assert not differences(alone, run(tmp_path, 'two', EPOCHS, workers=2))
    assert not differences(alone, run(tmp_path, 'persistent', PERSISTENT, workers=2))


def test_another_seed_makes_a_difference(tmp_path):
    """Or the tests above would show nothing."""
    first = run(tmp_path, 'first', EPOCHS)
    other = run(tmp_path, 'other', EPOCHS, **{'randomness.seed': 7})
    assert {'.state_dict.head.weight', 'loss of 1'} <= differences(first, other)


@pytest.mark.parametrize('extra', [EPOCHS, ENDLESS], ids=['epochs', 'iterations'])
def test_what_was_seen_is_not_loaded_again(tmp_path, monkeypatch, extra):
    straight = run(tmp_path, 'straight', extra)
    loaded = []
    load = ToyDataset.__getitem__
    monkeypatch.setattr(
        ToyDataset, '__getitem__', lambda self, index: loaded.append(index) or load(self, index)
    )
    without_validation = {'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None}
    start = shutil.copy(straight / 'iter_6.pth', tmp_path / 'start.pth')
    run(tmp_path, 'resumed', extra, 0, start, **without_validation)
    assert len(loaded) == 2 * 2  # the last two batches


def test_an_epoch_of_another_length_starts_from_its_beginning(tmp_path):
    straight = run(tmp_path, 'straight', EPOCHS)
    start = shutil.copy(straight / 'iter_3.pth', tmp_path / 'start.pth')
    other = run(tmp_path, 'other', EPOCHS, 0, start, **{'train_dataloader.batch_size': 4})
    assert 'an epoch had 4 iterations and has 2 now' in next(other.glob('*/*.log')).read_text()
    assert [iteration for iteration, _ in read_log(other)[0]] == [4, 5, 6, 7]  # 3 + 2 * 2


def test_a_run_that_is_killed_again_and_again_ends_as_if_it_was_not(tmp_path, request):
    """Kills at random, every second one while a checkpoint is saved; ``--kills 20`` for more."""
    kills = request.config.getoption('--kills')
    seed = request.config.getoption('--kills-seed')
    command = [sys.executable, REPO / 'tests' / 'killed_trainings.py', tmp_path, kills, seed]
    ended = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    last = int(ended.stdout.split()[-1])
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    assert not differences(straight, killed, f'iter_{last}.pth')
    losses = dict(read_log(straight)[0])
    # Also those of iterations that were gone through more than once.
    logged = [r for log in killed.glob(LOGS) for r in read_rows(log) if 'loss' in r]
    assert {row['iter'] for row in logged} == set(range(1, last + 1))
    assert all(row['loss'] == losses[row['iter']] for row in logged)
    left = {path.name for path in killed.iterdir() if path.is_file()}
    assert left == {f'iter_{last}.pth', f'iter_{last - 2}.pth', 'last_checkpoint', 'run.py'}
