"""Safe and matching checkpoints, invalid losses: each in a short training."""

import os
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from toy_project import write_config

from referformer.commands import train
from referformer.engine import read_checkpoint

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)


def run(folder, name, extra='', without=None, **overrides):
    """Train the toy model in ``folder/name`` and return that folder."""
    cfg = Config.fromfile(str(write_config(folder, name, extra)))
    cfg.default_hooks.pop(without, None)
    cfg.merge_from_dict(overrides)
    cfg.work_dir = str(folder / name)
    Runner.from_cfg(cfg).train()
    return folder / name


def same_weights(first, second):
    first, second = (read_checkpoint(path)['state_dict'] for path in (first, second))
    return all(torch.equal(first[key], second[key]) for key in first)


def test_workers_draw_new_noise_in_every_epoch(tmp_path):
    log = tmp_path / 'noise.txt'
    run(
        tmp_path,
        'workers',
        'train_dataloader.update(num_workers=1)\n',
        **{'train_dataloader.dataset.log': str(log)},
    )
    noise = [line.split()[1] for line in log.read_text().splitlines()]
    assert len(noise) == 16
    assert len(set(noise)) == 16


def test_checkpoint_of_a_training_has_everything_and_is_read_safely(tmp_path):
    checkpoint = read_checkpoint(run(tmp_path, 'plain') / 'epoch_2.pth')
    assert {'meta', 'state_dict', 'optimizer', 'param_schedulers', 'message_hub'} <= set(checkpoint)
    assert checkpoint['meta']['epoch'] == 2
    assert len(checkpoint['message_hub']['log_scalars']['train/loss'].data[0]) == 8


def test_killed_while_saving_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    rename = os.replace

    def killed(source, target):
        if str(target).endswith('epoch_2.pth'):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 'killed')
    files = [name for name in os.listdir(tmp_path / 'killed') if 'epoch' in name]
    assert files == ['epoch_1.pth']
    assert (
        read_checkpoint((tmp_path / 'killed' / 'last_checkpoint').read_text())['meta']['epoch'] == 1
    )


def test_one_checkpoint_is_kept_and_removed_only_for_a_newer_one(tmp_path, monkeypatch):
    keep = {'default_hooks.checkpoint.max_keep_ckpts': 1}
    folder = run(tmp_path, 'one', **keep)
    assert [path.name for path in folder.glob('*.pth')] == ['epoch_2.pth']
    there = []
    rename = os.replace

    def look(source, target):
        there.append(sorted(name for name in os.listdir(tmp_path / 'two') if name[:5] == 'epoch'))
        rename(source, target)

    monkeypatch.setattr(os, 'replace', look)
    run(tmp_path, 'two', **keep)
    assert there == [[], ['epoch_1.pth'], ['epoch_1.pth'], ['epoch_1.pth', 'epoch_2.pth']]


def test_half_written_files_of_a_killed_run_are_removed_and_others_stay(tmp_path):
    (tmp_path / 'again').mkdir()
    for name in ('.epoch_1.pth.abcd1234', '.last_checkpoint.x_y_z_12', '.notes.pth', 'a.pth.old'):
        (tmp_path / 'again' / name).write_text('')
    folder = run(tmp_path, 'again')
    left = {path.name for path in folder.iterdir() if path.is_file()}
    assert left == {
        *('.notes.pth', 'a.pth.old', 'again.py', 'last_checkpoint'),
        *('epoch_1.pth', 'epoch_2.pth'),
    }


def test_training_does_not_start_from_another_architecture(tmp_path):
    start = str(run(tmp_path, 'source') / 'epoch_2.pth')
    with pytest.raises(ValueError, match='another architecture') as caught:
        run(tmp_path, 'other', 'model.update(head="old_head")\n', load_from=start)
    assert '2 keys of the model are missing in the file: old_head.weight' in str(caught.value)
    assert '2 keys of the file are not in the model: head.weight' in str(caught.value)
    assert not list((tmp_path / 'other').glob('*.pth'))


def test_fresh_parameters_start_anew_and_the_others_are_loaded(tmp_path):
    start = str(run(tmp_path, 'source') / 'epoch_2.pth')
    # Nothing is learned at rate 0, so that the weights afterwards are those of the start.
    extra = """
default_hooks.update(checkpoint_keys=dict(type='MatchingCheckpointHook', fresh=[r'^head\\.']))
optim_wrapper.update(optimizer=dict(type='SGD', lr=0.0))
"""
    after = read_checkpoint(run(tmp_path, 'tuned', extra, load_from=start) / 'epoch_1.pth')[
        'state_dict'
    ]
    before = read_checkpoint(start)['state_dict']
    assert torch.equal(after['body.0.weight'], before['body.0.weight'])
    assert not torch.equal(after['head.weight'], before['head.weight'])


def test_resuming_from_weights_only_is_refused(tmp_path):
    checkpoint = read_checkpoint(run(tmp_path, 'source') / 'epoch_1.pth')
    torch.save({'state_dict': checkpoint['state_dict']}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'holds weights only .*--cfg-options load_from='):
        run(tmp_path, 'resumed', load_from=str(tmp_path / 'weights.pth'), resume=True)


def test_nan_loss_ends_training_naming_iteration_losses_and_samples(tmp_path):
    in_order = {'train_dataloader.sampler.shuffle': False}
    with pytest.raises(ValueError, match=r'iteration 3: loss, loss_a not finite') as caught:
        run(tmp_path, 'nan', 'model.update(nan_from=3)\n', **in_order)
    assert 'toy/4, toy/5' in str(caught.value)  # batches of two: iteration 3 has samples 4 and 5
    assert not list((tmp_path / 'nan').glob('*.pth'))


def test_weights_that_turn_nan_while_losses_are_finite_are_not_saved(tmp_path):
    bad_step = 'default_hooks.update(checkpoint=dict(interval=1, by_epoch=False))\n'
    with pytest.raises(ValueError, match=r'iteration 3: losses finite, weights after the step not'):
        run(tmp_path, 'nan', bad_step + 'model.update(nan_gradient_at=3)\n')
    assert sorted(path.name for path in (tmp_path / 'nan').glob('*.pth')) == [
        *('iter_1.pth', 'iter_2.pth'),
    ]


def test_the_batch_of_an_invalid_loss_is_kept_with_a_command_that_replays_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    saved = 'default_hooks.update(checkpoint=dict(interval=1, by_epoch=False))\n'
    with pytest.raises(ValueError, match=r'To replay: referformer (.*)\.pth\. Look') as caught:
        run(tmp_path, 'nan', saved + "train_dataloader['dataset']['nan_at'] = 5\n")
    samples = re.search(r'samples \(video/expression\): (.*)\. To', str(caught.value))[1]
    assert {'toy/5', 'toy/6', 'toy/7'} & set(samples.split(', '))
    command = re.search(r'To replay: referformer train (.*\.pth)\. Look', str(caught.value))[1]
    capsys.readouterr()
    train.main([*command.split(), '--cfg-options', 'experiment_name=replayed'])
    printed = capsys.readouterr().out
    assert re.search(r'\n  loss_a: nan\n', printed)
    assert "Function '" in printed and 'returned nan values' in printed
    assert re.search(r'\n  [1-9] of 6 gradients not finite: body\.0\.weight', printed)
    with pytest.raises(SystemExit):
        train.main([*command.split()[:-1], str(tmp_path / 'nan.py')])
    assert 'nan.py is no batch that a training kept' in capsys.readouterr().err
