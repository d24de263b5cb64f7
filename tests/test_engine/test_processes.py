"""Two processes on the CPU: one batch shared out, invalid losses, sharded models, a killed rank."""

import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from fixtures_rvos import write_ref_youtube_vos
from gloo_processes import run_processes
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from model_fixtures import tiny_batch, tiny_model
from small_configs import write_small_config
from test_exact_resume import ENDLESS, EPOCHS, differences, run
from toy_project import REPO, ToyModel, write_config

from referformer.commands import train
from referformer.engine import read_checkpoint
from referformer.engine.training_log import read_log

torch.set_num_threads(1)

SHARDED = {'referformer_swin-l_ytvos', 'referformer_vswin-b_ytvos'}
STEPS = 10


@pytest.fixture(scope='module')
def outcome(tmp_path_factory):
    """The folder where two processes did all of ``TASKS``; what a task raised is told."""
    folder = tmp_path_factory.mktemp('processes')
    data = write_ref_youtube_vos(folder / 'data', num_train=2)
    for name in SHARDED:
        write_small_config(name, folder, data)
    write_config(folder, 'nan', "train_dataloader['dataset']['nan_at'] = 7\n" + EVERY_ITERATION)
    write_config(folder, 'mean', EVERY_ITERATION)
    tiny_model(folder / 'tokenizer')
    run_processes(do_all, 2, folder)
    return folder


EVERY_ITERATION = """
default_hooks.update(checkpoint=dict(interval=1, by_epoch=False))
train_dataloader['sampler']['shuffle'] = False
find_unused_parameters = True
log_processor = dict(window_size=1)
"""


def do_all(rank, world_size, folder):
    faulthandler.dump_traceback_later(400, exit=True)  # where one waits for the other for ever
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(world_size))
    os.chdir(folder)
    Runner._log_env = lambda self, env_cfg: None
    for task in TASKS:
        try:
            told = task(rank, folder)
        except BaseException:
            told = traceback.format_exc()
        (folder / f'{task.__name__}_{rank}.json').write_text(json.dumps(told))
        torch.distributed.barrier()


def told_by(folder, task):
    """What both processes told of a task."""
    return [json.loads((folder / f'{task.__name__}_{rank}.json').read_text()) for rank in range(2)]


def launched(config, *arguments, **options):
    """Train in the two processes."""
    options = [f'{key}={value}' for key, value in options.items()]
    command = [config, '--launcher', 'pytorch', *arguments]
    train.main([*command, '--cfg-options', *options] if options else command)


def share_a_batch(rank, folder):
    """Ten steps with one of two clips each."""
    return steps(folder, rank, MMDistributedDataParallel)


def steps(folder, rank=None, wrap=None, dtype=torch.float64):
    """Losses, and the norm of every gradient, of ten steps."""
    model = tiny_model(folder / 'tokenizer', transformer={'attention': {'type': 'MSDeformAttn'}})
    batch = model.data_preprocessor(tiny_batch(2))
    batch['data_samples'][1].gt_instances.valid[:] = True  # more frames than the other has
    if rank is not None:
        batch = {key: value[rank : rank + 1] for key, value in batch.items()}
    batch['inputs'] = batch['inputs'].to(dtype)
    model = model.to(dtype)
    module = wrap(model, broadcast_buffers=False) if wrap else model
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    wrapper = OptimWrapper(optimizer, clip_grad={'max_norm': 0.1})
    rows = []
    for _ in range(STEPS):
        loss, losses = model.parse_losses(module(**batch, mode='loss'))
        wrapper.backward(loss)
        norms = {n: p.grad.norm().item() for n, p in model.named_parameters() if p.requires_grad}
        wrapper.step()
        wrapper.zero_grad()
        rows.append({**{name: value.item() for name, value in losses.items()}, **norms})
    return rows


def meet_nan(rank, folder):
    """Sample 7 is nan; it comes to the second process, in the second iteration."""
    try:
        launched('nan.py', '--work-dir', 'nan')
    except SystemExit:
        return 'ended'
    return 'not ended'


def log_means(rank, folder):
    """Train, and tell each process' own losses."""
    own = []
    loss_of = ToyModel.forward

    def remember(self, inputs, data_samples=None, mode='tensor'):
        losses = loss_of(self, inputs, data_samples, mode)
        if mode == 'loss':
            own.append(sum(losses.values()).item())
        return losses

    ToyModel.forward = remember
    launched('mean.py', '--work-dir', 'mean')
    ToyModel.forward = loss_of
    return own


def shard(rank, folder):
    """Two models, shared out and not, by the same steps."""
    for name in sorted(SHARDED):
        options = {'optim_wrapper.optimizer.type': 'SGD', 'optim_wrapper.optimizer.lr': 0.1}
        small = {'strategy.model_wrapper.auto_wrap_policy.min_num_params': 500}
        work_dir = f'work_{name}'
        launched(f'{name}.py', '--work-dir', f'{work_dir}_whole', **options)
        options['experiment_name'] = f'{name}_sharded'
        launched(f'{name}.py', '--fsdp', '--work-dir', f'{work_dir}_sharded', **options, **small)
    torch.distributed.barrier()  # or one looks for a checkpoint before the other has written it
    options.update({'experiment_name': 'more', 'train_cfg.max_epochs': 2, **small})
    launched(f'{name}.py', '--fsdp', '--resume', '--work-dir', f'{work_dir}_sharded', **options)
    return 'done'


def train_and_resume(rank, folder):
    """Straight trainings, two of each kind, and resumed ones."""
    options = {
        'launcher': 'pytorch',
        'model_wrapper_cfg.type': 'MMDistributedDataParallel',
        'model_wrapper_cfg.device_ids': None,
        'model_wrapper_cfg.find_unused_parameters': True,
    }
    # Of eight samples, two processes with batches of two make epochs of two iterations.
    epochs = EPOCHS + 'train_cfg.update(max_epochs=4)\n'
    for name, extra, workers in (('epochs', epochs, 2), ('iterations', ENDLESS, 0)):
        for again in ('straight', 'again'):
            run(folder, f'{name}_{again}', extra, workers, **options)
        start = folder / f'{name}_start.pth'
        if rank == 0:
            shutil.copy(folder / f'{name}_straight' / 'iter_3.pth', start)
        torch.distributed.barrier()
        run(folder, f'{name}_resumed', extra, workers, start, **options)
    return 'done'


TASKS = [share_a_batch, meet_nan, log_means, shard, train_and_resume]


def test_two_processes_with_a_clip_each_are_one_with_both(outcome):
    """In float64: what float32 shows is rounding that AdamW makes large (gradients near 0)."""
    alone = steps(outcome)
    shares = told_by(outcome, share_a_batch)
    assert isinstance(shares[0], list), shares[0]
    for i, (row, *both) in enumerate(zip(alone, *shares)):
        for name, value in row.items():
            is_loss = 'loss' in name
            found = sum(r[name] for r in both) / 2 if is_loss else both[0][name]
            assert found == pytest.approx(value, rel=1e-5, abs=1e-9), (i, name)


@pytest.mark.parametrize('name', ['epochs', 'iterations'])
def test_two_processes_are_repeated_and_continued_exactly(outcome, name):
    assert told_by(outcome, train_and_resume) == ['done', 'done']
    straight = outcome / f'{name}_straight'
    assert not differences(straight, outcome / f'{name}_again')
    assert not differences(straight, outcome / f'{name}_resumed')


def test_a_loss_that_is_nan_in_one_process_ends_both_before_they_save(outcome, capfd):
    assert told_by(outcome, meet_nan) == ['ended', 'ended']
    assert [path.name for path in (outcome / 'nan').glob('*.pth')] == ['iter_1.pth']
    kept = [path.name for path in (outcome / 'nan' / 'invalid').iterdir()]
    assert kept == ['iter_2_rank_1.pth']


def test_the_logged_loss_is_the_mean_of_the_processes(outcome):
    own = told_by(outcome, log_means)
    assert isinstance(own[0], list), own[0]
    means = [(first + second) / 2 for first, second in zip(*own)]
    logged = [loss for _, loss in read_log(outcome / 'mean')[0]]
    assert logged == pytest.approx(means, rel=1e-5)
    assert own[0] != pytest.approx(own[1], rel=1e-2)


@pytest.mark.parametrize('name', sorted(SHARDED))
def test_a_sharded_model_learns_what_a_whole_one_does(outcome, name):
    assert told_by(outcome, shard) == ['done', 'done']
    states = [
        read_checkpoint(outcome / f'work_{name}_{kind}' / 'epoch_1.pth')['state_dict']
        for kind in ('whole', 'sharded')
    ]
    assert states[0].keys() == states[1].keys()
    start = read_checkpoint(next(outcome.glob(f'checkpoints/*{name.split("_")[1]}*')))['state_dict']
    moved = [k for k in states[0] if k in start and not torch.equal(states[0][k], start[k])]
    assert len(moved) > 100
    for key in states[0]:
        torch.testing.assert_close(states[1][key], states[0][key], rtol=1e-4, atol=1e-6, msg=key)


def test_a_sharded_training_is_resumed(outcome):
    assert told_by(outcome, shard) == ['done', 'done']
    name = sorted(SHARDED)[-1]
    checkpoint = read_checkpoint(outcome / f'work_{name}_sharded' / 'epoch_2.pth')
    assert checkpoint['meta']['epoch'] == 2


def test_sharding_needs_processes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        train.main([str(write_config(tmp_path)), '--fsdp'])
    assert 'start it with a --launcher' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_a_killed_process_ends_the_others_within_five_seconds(tmp_path):
    extra = "train_dataloader['dataset']['seconds'] = 0.05\ntrain_cfg.update(max_epochs=10000)\n"
    config = write_config(tmp_path, 'long', EVERY_ITERATION + extra)
    path = os.pathsep.join([str(REPO), str(REPO / 'tests'), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    job = subprocess.Popen(
        [*command, REPO / 'tools' / 'train.py', config, '--launcher', 'pytorch'],
        env=dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1'),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / 'work_dirs' / 'long' / 'iter_3.pth').exists():
        assert job.poll() is None
        time.sleep(0.1)
    listed = Path(f'/proc/{job.pid}/task/{job.pid}/children').read_text()
    children = [int(pid) for pid in listed.split()]
    os.kill(children[-1], signal.SIGKILL)
    start = time.monotonic()
    assert job.wait(timeout=60) != 0
    assert time.monotonic() - start < 5
    for pid in children:
        assert not os.path.exists(f'/proc/{pid}')
