"""Own data in three commands: make-dataset, verify, train (and test)."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from own_data import write_own_data, write_palette, write_table
from small_configs import write_small_config
from toy_project import REPO

from referformer.commands import make_dataset, test, train, verify

torch.set_num_threads(1)
ARGUMENTS = ['sentences.csv', 'videos', 'masks', 'data/mine', '--workers', '1']


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The working folder, with own data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    root, truth = write_own_data(tmp_path, num_frames=6)
    write_palette(root / 'masks', truth)
    return root


def test_three_commands_from_own_videos_to_a_trained_model(own, capsys):
    make_dataset.main([*ARGUMENTS[:-1], '2', '--valid', '0.3'])
    output = capsys.readouterr()
    assert 'data/mine/train: 2 videos, 12 frames, 4 objects, 4 sentences' in output.out
    assert 'data/mine/valid: 1 videos, 6 frames, 2 objects, 2 sentences' in output.out
    assert 'referformer train data/mine/mine.py' in output.out
    assert 'checking: 100%' in output.err and 'writing: 100%' in output.err

    verify.main(['data/mine/mine.py', '--workers', '1', '--num', '0'])
    assert 'no problems' in capsys.readouterr().out

    documented = (REPO / 'docs/own_data.md').read_text().split('```python\n')
    validating = next(block for block in documented if block.startswith('val_dataloader'))
    with open('data/mine/mine.py', 'a', encoding='utf-8') as file:
        file.write(validating.split('```')[0])
    config = write_small_config(str(own / 'data/mine/mine'), own)
    train.main([str(config)])
    assert 'Epoch(val) [1]' in capsys.readouterr().out
    weights = own / 'work_dirs/mine/epoch_1.pth'
    own_name = ['--cfg-options', 'experiment_name=own_data_test']
    test.main([str(config), str(weights), '--out', 'scores.json', *own_name])
    scores = json.loads((own / 'scores.json').read_text())['metrics']
    assert 0 < scores['J&F'] <= 100


def test_the_config_has_six_lines_and_goes_where_the_data_goes(own):
    make_dataset.main([*ARGUMENTS, '--weights', 'a.pth'])
    text = (own / 'data/mine/mine.py').read_text()
    assert len([line for line in text.splitlines() if not line.startswith('#')]) == 6
    shutil.move(own / 'data', own / 'moved')
    config = Config.fromfile(own / 'moved/mine/mine.py')
    recipe = Config.fromfile(REPO / 'configs/referformer_vswin-t_ytvos.py')
    for name in ('train_dataloader', 'test_dataloader'):
        dataset = config[name].dataset
        assert dataset.data_root == str(own / 'moved/mine')
        assert dataset.pipeline == recipe[name].dataset.pipeline
    assert config.test_evaluator == {'type': 'VOSMetric'}
    assert config.default_hooks.checkpoint_keys.fresh == [] and config.load_from == 'a.pth'
    assert config.model == recipe.model


def test_one_video_is_trained_on_and_nothing_tested(own):
    write_table(own, [('beach', '1', 'a dog')])
    make_dataset.main(ARGUMENTS)
    config = Config.fromfile(own / 'data/mine/mine.py')
    assert config.test_dataloader is config.test_evaluator is config.test_cfg is None
    verify.main(['data/mine/mine.py', '--workers', '1', '--num', '0'])


def test_recipes_that_validate_do_so_on_own_data(own):
    recipe = 'referformer_vswin-micro_synthetic-quick'
    make_dataset.main([*ARGUMENTS, '--recipe', recipe])
    config = Config.fromfile(own / 'data/mine/mine.py')
    assert config.val_dataloader.dataset.data_root == str(own / 'data/mine')
    assert config.val_dataloader.dataset.split == 'valid'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--recipe', 'referformer_r18_ytvos'], 'there are: referformer_r101_ytvos, '),
        (['--recipe', 'referformer_r50_mevis'], 'trains on MeViS, not RefYouTubeVOS'),
        (['--valid', '1'], 'must be at least 0 and below 1'),
    ],
)
def test_wrong_options_end_in_one_message(own, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        make_dataset.main([*ARGUMENTS, *arguments])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith('error: ') and message in error
    assert not (own / 'data/mine').exists()
