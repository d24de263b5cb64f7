"""train.py, test.py and plot_curve.py, with a model that trains in milliseconds."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from toy_project import REPO, write_config

from referformer.commands import test, train
from referformer.engine import VisualizationHook, read_checkpoint

torch.set_num_threads(1)


def load_tool(path):
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plot_curve = load_tool(REPO / 'tools' / 'analysis_tools' / 'plot_curve.py')


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch, tmp_path):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.chdir(tmp_path)


def refused(capsys, tool, *arguments):
    """Run a tool that must end with exit code 2, and return its message."""
    with pytest.raises(SystemExit) as stop:
        tool.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert 'Traceback' not in error
    return error


@pytest.fixture
def trained(tmp_path):
    """A config, and the work dir of its training: two epochs of four iterations."""
    config = write_config(tmp_path)
    train.main([str(config)])
    return config, tmp_path / 'work_dirs' / 'toy'


def test_train_then_test_writes_what_it_measured(trained, tmp_path, capsys):
    config, work_dir = trained
    assert {path.name for path in work_dir.glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}
    out = tmp_path / 'results.json'
    test.main([str(config), str(work_dir / 'epoch_2.pth'), '--out', str(out)])
    result = json.loads(out.read_text())
    assert set(result['metrics']) == {'toy/mean', 'toy/undefined'}
    assert result['metrics']['toy/undefined'] is None
    printed = capsys.readouterr().out
    row = printed.split('\nmetrics\n')[1].splitlines()[0].split()
    assert row == ['toy/mean', f'{result["metrics"]["toy/mean"]:.4f}']


def test_testing_leaves_the_training_as_it_is(trained):
    config, work_dir = trained
    before = {path: path.read_bytes() for path in work_dir.glob('*.py')}
    losses = plot_curve.read_log(work_dir)
    assert before
    own_name = ['--cfg-options', 'experiment_name=tested']  # MMEngine would reuse the logger
    test.main([str(config), str(work_dir / 'epoch_2.pth'), *own_name])
    assert {path: path.read_bytes() for path in work_dir.glob('*.py')} == before
    assert plot_curve.read_log(work_dir) == losses
    assert list((work_dir / 'test').glob('*/*.log'))


def test_testing_into_the_folder_of_a_training_is_refused(trained, capsys):
    config, work_dir = trained
    error = refused(capsys, test, config, work_dir / 'epoch_2.pth', '--work-dir', work_dir)
    assert 'is the folder of a training' in error


def test_test_loads_the_weights_it_is_given(trained, tmp_path):
    config, work_dir = trained
    checkpoint = read_checkpoint(work_dir / 'epoch_2.pth')
    checkpoint['state_dict']['head.weight'] *= 0
    checkpoint['state_dict']['head.bias'] = torch.tensor([3.25])
    torch.save(checkpoint, tmp_path / 'constant.pth')
    test.main([str(config), 'constant.pth', '--out', 'constant.json'])
    assert json.loads((tmp_path / 'constant.json').read_text())['metrics']['toy/mean'] == 3.25


def test_trained_work_dir_is_not_trained_over(trained, capsys):
    config, work_dir = trained
    before = (work_dir / 'epoch_2.pth').read_bytes()
    error = refused(capsys, train, config)
    assert 'already has checkpoints' in error
    assert '--resume' in error and '--overwrite' in error and '--work-dir' in error
    assert (work_dir / 'epoch_2.pth').read_bytes() == before


def test_resume_goes_on_where_training_stopped(trained):
    config, work_dir = trained
    longer = ['--cfg-options', 'train_cfg.max_epochs=3', 'experiment_name=longer']
    train.main([str(config), '--resume', *longer])
    assert read_checkpoint(work_dir / 'epoch_3.pth')['meta']['iter'] == 12
    losses, _ = plot_curve.read_log(work_dir)
    assert [iteration for iteration, _ in losses] == list(range(1, 13))


def test_training_by_iterations_is_resumed_and_drawn(tmp_path):
    extra = """
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=3)
log_processor = dict(by_epoch=False)
default_hooks.update(checkpoint=dict(by_epoch=False, interval=3))
"""
    config = write_config(tmp_path, 'iterations', extra)
    train.main([str(config), '--cfg-options', 'train_cfg.max_iters=3'])
    train.main([str(config), '--resume', '--cfg-options', 'experiment_name=iterations-resumed'])
    work_dir = tmp_path / 'work_dirs' / 'iterations'
    assert read_checkpoint(work_dir / 'iter_6.pth')['meta']['iter'] == 6
    losses, _ = plot_curve.read_log(work_dir)
    assert [iteration for iteration, _ in losses] == list(range(1, 7))


def test_resume_finds_the_checkpoint_of_a_moved_work_dir(trained, tmp_path):
    _, work_dir = trained
    moved = work_dir.rename(tmp_path / 'moved')
    assert train.newest_checkpoint(moved) == (moved / 'epoch_2.pth', [])


@pytest.mark.parametrize('pointer', ['', 'epoch_7.pth', 'epoch_2.pth'])
def test_without_a_good_pointer_the_newest_readable_checkpoint_is_taken(trained, pointer):
    """As after a kill between a checkpoint and its pointer, or on a damaged disk."""
    config, work_dir = trained
    (work_dir / 'last_checkpoint').write_text(pointer)
    cut = work_dir / 'epoch_2.pth'
    cut.write_bytes(cut.read_bytes()[:5000])
    weights = read_checkpoint(work_dir / 'epoch_1.pth')['state_dict']
    torch.save({'state_dict': weights}, work_dir / 'epoch_3.pth')  # newer, but of no training
    train.main([str(config), '--resume', '--cfg-options', 'experiment_name=fallback' + pointer])
    log = max(work_dir.glob('*/*.log')).read_text()
    assert f'resuming from {work_dir.relative_to(Path.cwd()) / "epoch_1.pth"} instead' in log
    assert 'epoch_2.pth (5000 bytes) cannot be read' in log
    assert ('epoch_3.pth holds weights only' in log) == (pointer != 'epoch_2.pth') or pointer
    assert read_checkpoint(cut)['meta']['iter'] == 8


def test_checkpoints_of_which_none_can_be_resumed_are_named(trained, capsys):
    config, work_dir = trained
    for path in work_dir.glob('*.pth'):
        path.write_bytes(b'')
    error = refused(capsys, train, config, '--resume')
    assert 'has no checkpoint to resume from' in error
    assert 'epoch_1.pth (0 bytes) cannot be read' in error


def test_resume_of_nothing_starts_anew(tmp_path):
    train.main([str(write_config(tmp_path)), '--resume', 'auto', '--work-dir', 'new'])
    assert (tmp_path / 'new' / 'epoch_2.pth').is_file()


def test_overwrite_removes_the_earlier_run(trained):
    config, work_dir = trained
    shorter = ['--cfg-options', 'train_cfg.max_epochs=1', 'experiment_name=shorter']
    train.main([str(config), '--overwrite', *shorter])
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']


def test_overwrite_deletes_nothing_when_training_cannot_start(trained, capsys):
    config, work_dir = trained
    missing = 'train_dataloader.dataset.file=nowhere.json'
    error = refused(
        capsys, train, config, '--overwrite', '--cfg-options', missing, 'experiment_name=a'
    )
    assert 'nowhere.json not found' in error
    assert (work_dir / 'epoch_2.pth').is_file()


def test_missing_validation_data_is_found_before_training(tmp_path, capsys):
    config = write_config(tmp_path)
    error = refused(
        capsys, train, config, '--cfg-options', 'val_dataloader.dataset.file=nowhere.json'
    )
    assert 'nowhere.json not found' in error
    assert not list(tmp_path.glob('work_dirs/toy/*.pth'))


def test_configs_that_cannot_be_used_are_named(tmp_path, capsys):
    assert 'config nowhere.py does not exist' in refused(capsys, train, 'nowhere.py')
    assert 'config nowhere.py does not exist' in refused(capsys, test, 'nowhere.py', 'a.pth')
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    assert 'config broken.py: ' in refused(capsys, train, 'broken.py')
    (tmp_path / 'empty.py').write_text('model = dict()\n')
    assert 'nothing to train' in refused(capsys, train, 'empty.py')
    assert 'nothing to test' in refused(capsys, test, 'empty.py', 'a.pth')


def test_checkpoints_that_cannot_be_used_are_named(trained, tmp_path, capsys):
    config, work_dir = trained
    checkpoint = work_dir / 'epoch_2.pth'
    assert 'nowhere.pth does not exist' in refused(capsys, test, config, 'nowhere.pth')
    assert 'nowhere.pth' in refused(capsys, train, config, '--resume', 'nowhere.pth')
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    assert 'cut.pth (1000 bytes) cannot be read' in refused(capsys, test, config, cut)
    wider = ['--cfg-options', 'model.width=5', 'model.head=other', 'experiment_name=wider']
    error = refused(capsys, test, config, checkpoint, '--out', 'never.json', *wider)
    assert '2 keys of the model are missing in the file: other.weight, other.bias' in error
    assert '2 keys of the file are not in the model: head.weight, head.bias' in error
    assert 'body.0.weight ((4, 3) in the file, (5, 3) in the model)' in error
    assert not (tmp_path / 'never.json').exists()


def test_existing_results_are_kept(trained, tmp_path, capsys):
    config, work_dir = trained
    checkpoint = work_dir / 'epoch_2.pth'
    (tmp_path / 'old.json').write_text('old')
    (tmp_path / 'drawn').mkdir()
    (tmp_path / 'drawn' / 'old.png').write_text('old')
    error = refused(capsys, test, config, checkpoint, '--out', 'old.json', '--show-dir', 'drawn')
    assert 'old.json and drawn already there' in error and '--overwrite' in error
    assert (tmp_path / 'old.json').read_text() == 'old'
    test.main([str(config), str(checkpoint), '--out', 'old.json', '--overwrite'])
    assert 'metrics' in json.loads((tmp_path / 'old.json').read_text())
    assert 'ends in .json' in refused(capsys, test, config, checkpoint, '--out', 'results.txt')


def draw_and_fail_at(last):
    """Stands in for ``VisualizationHook.after_test_iter``."""

    def draw(hook, runner, batch_idx, *args, **kwargs):
        folder = Path(hook.out_dir, 'test')
        folder.mkdir(exist_ok=True)
        (folder / f'{batch_idx}.png').write_text('drawn')
        if batch_idx == last:
            raise ValueError('bad frame')

    return draw


def test_show_dir_gets_all_drawn_predictions_or_none(trained, tmp_path, monkeypatch, capsys):
    config, work_dir = trained
    arguments = [str(config), str(work_dir / 'epoch_2.pth'), '--show-dir', 'pictures']
    before = set(tmp_path.iterdir())
    monkeypatch.setattr(VisualizationHook, 'after_test_iter', draw_and_fail_at(2))
    assert 'bad frame' in refused(capsys, test, *arguments)
    assert set(tmp_path.iterdir()) == before
    monkeypatch.setattr(VisualizationHook, 'after_test_iter', draw_and_fail_at(None))
    again = ['--cfg-options', 'experiment_name=drawn-again']
    test.main([*arguments, *again])
    drawn = tmp_path / 'pictures' / 'test'
    assert {path.name for path in drawn.iterdir()} == {'0.png', '1.png', '2.png', '3.png'}
    (drawn / 'old.png').write_text('old')
    (drawn.parent / 'notes.txt').write_text('mine')
    test.main([*arguments, '--overwrite', '--cfg-options', 'experiment_name=drawn-over'])
    assert {path.name for path in drawn.iterdir()} == {'0.png', '1.png', '2.png', '3.png'}
    assert (drawn.parent / 'notes.txt').read_text() == 'mine'


def test_testing_needs_no_training_data(trained, monkeypatch):
    """Hooks ask the Runner for its iteration, for which MMEngine would build the training."""
    config, work_dir = trained
    iterations = []
    monkeypatch.setattr(
        VisualizationHook,
        'after_test_iter',
        lambda self, runner, *_, **__: iterations.append(runner.iter),
    )
    missing = 'train_dataloader.dataset.type=DatasetThatIsNotHere'
    options = ['experiment_name=without-training-data', missing]
    test.main([str(config), str(work_dir / 'epoch_2.pth'), '--cfg-options', *options])
    assert set(iterations) == {0}


def test_device_that_is_not_there_is_named(tmp_path, capsys):
    config = write_config(tmp_path)
    assert 'cuda:99' in refused(capsys, train, config, '--device', 'cuda:99')
    assert 'cuda:99' in refused(capsys, test, config, 'a.pth', '--device', 'cuda:99')


@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_launchers_that_cannot_work_are_refused(tmp_path, capsys, monkeypatch):
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    config = write_config(tmp_path)
    assert 'dist_train.sh' in refused(capsys, train, config, '--launcher', 'pytorch')
    assert 'needs GPUs' in refused(capsys, train, config, '--launcher', 'slurm')


def test_amp_computes_in_bfloat16_on_cpu(tmp_path, capsys):
    config = write_config(tmp_path, 'amp')
    if not torch.cuda.is_available():
        assert 'needs a GPU' in refused(capsys, train, config, '--amp', '--amp-dtype', 'float16')
    train.main([str(config), '--amp', '--amp-dtype', 'bfloat16', '--work-dir', 'amp'])
    plain = write_config(tmp_path, 'plain')
    train.main([str(plain), '--work-dir', 'plain'])
    amp, full = (
        read_checkpoint(tmp_path / name / 'epoch_2.pth')['state_dict']['head.weight']
        for name in ('amp', 'plain')
    )
    assert amp.dtype == torch.float32
    assert not torch.equal(amp, full)
    assert torch.allclose(amp, full, atol=2e-2)  # eight steps of AdamW at 0.01 and less


def test_learning_rate_is_scaled_with_the_batch(tmp_path, capsys):
    config = write_config(tmp_path)
    assert 'base_batch_size' in refused(capsys, train, config, '--auto-scale-lr')
    scaled = write_config(
        tmp_path, 'scaled', 'auto_scale_lr = dict(base_batch_size=8, enable=False)\n'
    )
    train.main([str(scaled), '--auto-scale-lr', '--work-dir', 'scaled'])
    optimizer = read_checkpoint(tmp_path / 'scaled' / 'epoch_1.pth')['optimizer']
    assert optimizer['param_groups'][0]['initial_lr'] == pytest.approx(0.01 * 2 / 8)


def test_curves_are_drawn_over_iterations(trained, tmp_path, capsys):
    _, work_dir = trained
    log = next(work_dir.glob('*/vis_data/scalars.json'))
    text = log.read_text().replace('toy/mean', 'vos/J&F').replace('toy/undefined', 'J&F_swapped')
    text = re.sub(
        r'"vos/J&F": [-.\d]+, "J&F_swapped": NaN', '"vos/J&F": 20.0, "J&F_swapped": 5', text
    )
    log.write_text(text + '{"half a li')
    losses, curves = plot_curve.read_log(work_dir)
    assert [iteration for iteration, _ in losses] == list(range(1, 9))
    assert curves == {'J&F': [(4, 20.0), (8, 20.0)], 'J&F_swapped': [(4, 5), (8, 5)]}
    plot_curve.main([str(work_dir), 'curve.png'])
    assert (tmp_path / 'curve.png').read_bytes().startswith(b'\x89PNG')
    assert 'already there' in refused(capsys, plot_curve, work_dir, 'curve.png')
    assert 'no log in' in refused(capsys, plot_curve, tmp_path / 'nowhere', 'other.png')


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='about machines without a GPU')
def test_two_processes_without_gpu_train_and_test(tmp_path):
    config = write_config(tmp_path)
    path = os.pathsep.join([str(REPO), str(REPO / 'tests'), os.environ.get('PYTHONPATH', '')])
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1')

    def launch(tool, *arguments):
        launcher = [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',
            '--nproc_per_node=2',
        ]
        command = [*launcher, REPO / 'tools' / tool, config, *arguments, '--launcher', 'pytorch']
        return subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    launch('train.py', '--work-dir', 'both')
    assert (
        read_checkpoint(tmp_path / 'both' / 'epoch_2.pth')['meta']['iter'] == 4
    )  # 8 samples, 2 x 2
    printed = launch('test.py', 'both/epoch_2.pth', '--out', 'both.json')
    assert printed.count('\nmetrics\n') == 1
    assert 'toy/mean' in json.loads((tmp_path / 'both.json').read_text())['metrics']
