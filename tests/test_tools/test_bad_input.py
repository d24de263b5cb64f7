"""Mistakes of a user end in one message and leave nothing behind: real tools, a tiny real model."""

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fixtures_rvos import write_ref_youtube_vos
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from model_fixtures import tiny_model_cfg

from referformer.apis import init_model
from referformer.registry import MODELS

torch.set_num_threads(1)
REPO = Path(__file__).resolve().parents[2]
SPLITS = {'train': 'train', 'val': 'valid', 'test': 'valid'}
_numbers = itertools.count()


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(f'bad_{Path(name).stem}', REPO / 'tools' / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Hostile:
    """Unpickles by running a command."""

    def __reduce__(self):
        return os.system, ('touch ran',)


@pytest.fixture(scope='module')
def original(tmp_path_factory) -> Path:
    """Data, tokenizer, config and weights, from which each test gets a copy."""
    folder = tmp_path_factory.mktemp('original')
    write_ref_youtube_vos(folder / 'data', num_frames=3, size=(64, 96))
    model = tiny_model_cfg(folder / 'data' / 'tokenizer')
    model['text_encoder']['tokenizer'] = 'data/tokenizer'
    config = Config.fromfile(REPO / 'configs' / '_base_' / 'default_runtime.py')
    config.merge_from_dict(dict(Config.fromfile(REPO / 'configs/_base_/datasets/synthetic.py')))
    config.merge_from_dict(
        {
            'model': model,
            'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 1, 'val_interval': 1},
            'val_cfg': {},
            'test_cfg': {},
            'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW'}},
        }
    )
    for name in SPLITS:
        loader = config[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        loader.dataset.data_root = 'data'
    config.dump(folder / 'config.py')
    init_default_scope('referformer')
    weights = MODELS.build(model).state_dict()
    torch.save({'state_dict': weights}, folder / 'weights.pth')
    other = {key: value for key, value in weights.items() if not key.startswith('mask_head.')}
    name, value = next(iter(other.items()))
    other[name] = torch.zeros(*value.shape, 2)
    meta = {'experiment_name': 'somebody_else'}
    rest = {'meta': meta, 'message_hub': {}, 'optimizer': {}}
    torch.save({'state_dict': {**other, 'head.new': torch.ones(1)}, **rest}, folder / 'other.pth')
    (folder / 'cut.pth').write_bytes((folder / 'weights.pth').read_bytes()[:5000])
    torch.save({'state_dict': weights, 'meta': Hostile()}, folder / 'hostile.pth')
    return folder


@pytest.fixture
def project(original, tmp_path, monkeypatch) -> Path:
    """The working folder of a user."""
    folder = tmp_path / 'project'
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    return folder


@pytest.fixture
def refused(project, monkeypatch, capsys):
    """Runs a tool that must fail with code 2, one message and no results; returns the message."""

    def run(tool, *arguments, options=()):
        module = load_tool(tool)
        arguments = [str(argument) for argument in arguments]
        if tool in ('train.py', 'test.py'):
            # MMEngine keeps loggers by experiment name: each run needs its own.
            arguments += ['--cfg-options', f'experiment_name=bad-{next(_numbers)}', *options]
        monkeypatch.setattr(sys, 'argv', [tool, *arguments])
        before = results(project)
        with pytest.raises(SystemExit) as end:
            module.main()
        assert end.value.code == 2
        error = capsys.readouterr().err
        assert 'Traceback' not in error
        assert sum('error: ' in line for line in error.splitlines()) == 1
        assert error.splitlines()[0].startswith('error: ')
        assert results(project) == before, 'something was left behind, or deleted'
        return error

    return run


def results(folder: Path) -> set[Path]:
    """Everything but the folders of logs."""
    found = set(folder.rglob('*'))
    return {path for path in found if path.relative_to(folder).parts[0] != 'logs'}


TRAIN = ('train.py', 'config.py', '--work-dir', 'logs')
TEST = ('test.py', 'config.py')
TEST_OUT = ('--work-dir', 'logs', '--out', 'out.json', '--show-dir', 'drawn')
VIDEO = 'data/valid/JPEGImages/valid0'
INFER = ('infer.py', VIDEO, 'the red dog', '--out', 'out')


def edit(path: str, change) -> None:
    content = json.loads(Path(path).read_text())
    change(content['videos'])
    Path(path).write_text(json.dumps(content))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


EXPRESSIONS = 'data/meta_expressions/{}/meta_expressions.json'
BROKEN_DATA = {
    'no data': (lambda: shutil.rmtree('data/train'), 'data/train/JPEGImages not found'),
    'no data at all': (lambda: shutil.rmtree('data'), 'data not found: the dataset; tools/data'),
    'no file': (
        lambda: Path(EXPRESSIONS.format('valid')).unlink(),
        'valid/meta_expressions.json not found',
    ),
    'half a file': (
        lambda: cut(Path(EXPRESSIONS.format('train')), 200),
        'train/meta_expressions.json is not valid JSON',
    ),
    'empty sentence': (
        lambda: edit(
            EXPRESSIONS.format('valid'),
            lambda videos: videos['valid1']['expressions']['1'].update(exp=' '),
        ),
        'expression 1 of video valid1 is empty. Give it a sentence, or remove it',
    ),
    'no frames': (
        lambda: edit(
            EXPRESSIONS.format('train'), lambda videos: videos['train1'].update(frames=[])
        ),
        'the video train1 has no frames. Remove it',
    ),
    'objects as a list': (
        lambda: edit('data/train/meta.json', lambda videos: videos['train0'].update(objects=[1])),
        'data/train/meta.json: videos.train0.objects must map object ids',
    ),
    'object without a number': (
        lambda: edit(
            'data/train/meta.json', lambda videos: videos['train0']['objects'].update(dog={})
        ),
        'data/train/meta.json: videos.train0.objects must map object ids',
    ),
}


@pytest.mark.parametrize('case', BROKEN_DATA)
def test_data_that_cannot_be_read_is_named_before_training(refused, case):
    damage, message = BROKEN_DATA[case]
    damage()
    assert message in refused(*TRAIN)


def test_test_names_data_that_cannot_be_read(refused):
    Path(EXPRESSIONS.format('valid')).write_text('{"videos": ')
    assert 'is not valid JSON' in refused(*TEST, 'weights.pth', *TEST_OUT)


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_truncated_frame_met_by_a_worker_is_named_in_one_line(refused, tool):
    for file in Path('data').glob(f'{SPLITS[tool]}/JPEGImages/{SPLITS[tool]}1/*.jpg'):
        cut(file, 500)
    arguments = TRAIN if tool == 'train' else (*TEST, 'weights.pth', *TEST_OUT)
    error = refused(
        *arguments,
        options=[
            f'{tool}_dataloader.num_workers=1',
            'train_dataloader.batch_size=8',
            'train_dataloader.dataset.max_broken=0',
        ],
    )
    assert len(error.splitlines()) == 1
    assert f'{SPLITS[tool]}1/' in error and '.jpg cannot be read' in error
    assert 'Get or extract this file again' in error


def test_truncated_frame_of_a_folder_is_named(refused):
    cut(Path(VIDEO, '00005.jpg'), 500)
    error = refused(*INFER, '--config', 'config.py', '--checkpoint', 'weights.pth')
    assert f'cannot read the frame {VIDEO}/00005.jpg' in error


@pytest.mark.parametrize(
    'start',
    [
        (*TEST, 'other.pth', *TEST_OUT),
        (*INFER, '--config', 'config.py', '--checkpoint', 'other.pth'),
        (*TRAIN, '--resume', 'other.pth'),
        'load_from',
    ],
)
def test_other_architecture_is_listed_both_ways(refused, start):
    if start == 'load_from':
        error = refused(*TRAIN, options=['load_from=other.pth'])
    else:
        error = refused(*start)
    assert 'error: other.pth belongs to another architecture' in error
    assert 'keys of the model are missing in the file: mask_head.' in error
    assert '1 keys of the file are not in the model: head.new' in error
    assert '1 keys differ in shape: ' in error
    assert 'somebody_else' in error


def test_init_model_refuses_another_architecture(project):
    with pytest.raises(ValueError, match=r'missing in the file: mask_head\.(.|\n)*head\.new'):
        init_model('config.py', 'other.pth')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('nowhere.pth', 'checkpoint nowhere.pth'),
        ('cut.pth', 'cut.pth (5000 bytes) cannot be read as a checkpoint: it is truncated'),
        ('hostile.pth', 'could run code'),
    ],
)
@pytest.mark.parametrize('tool', ['train', 'resume', 'test', 'infer'])
def test_checkpoints_that_cannot_be_read_are_named(refused, tool, name, message):
    if tool == 'train':
        error = refused(*TRAIN, options=[f'load_from={name}'])
    elif tool == 'resume':
        error = refused(*TRAIN, '--resume', name)
    elif tool == 'test':
        error = refused(*TEST, name, *TEST_OUT)
    else:
        error = refused(*INFER, '--config', 'config.py', '--checkpoint', name)
    assert message in error
    assert len(error.splitlines()) == 1
    assert not Path('ran').exists()


@pytest.mark.parametrize('cause', ['load_from=other.pth', 'model.text_encoder.tokenizer=nowhere'])
def test_overwriting_deletes_nothing_until_training_starts(refused, cause):
    Path('logs').mkdir()
    Path('logs/iter_1.pth').write_text('old')
    refused(*TRAIN, '--overwrite', options=[cause])
    assert Path('logs/iter_1.pth').read_text() == 'old'


def test_outputs_that_cannot_be_written_are_named_first(refused, monkeypatch):
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: pytest.fail('too late'))
    Path('file').write_text('')
    assert 'file is a file' in refused('train.py', 'config.py', '--work-dir', 'file')
    assert 'file is a file' in refused('train.py', 'config.py', '--work-dir', 'file/logs')
    for option in (('--out', 'file/a.json'), ('--show-dir', 'file'), ('--work-dir', 'file/a')):
        assert 'file is a file' in refused(*TEST, 'weights.pth', *option)
    arguments = ('--config', 'config.py', '--checkpoint', 'weights.pth', '--out', 'file/a')
    assert 'file is a file' in refused('infer.py', VIDEO, 'red', *arguments)


def test_data_of_others_is_not_replaced(refused):
    tool = 'dataset_tools/make_synthetic.py'
    assert 'not written by this tool' in refused(tool, 'data', '--overwrite')
    Path('file').write_text('')
    assert 'file is a file' in refused(tool, 'file/data')
    assert 'file is a file' in refused(tool, 'new', '--preview', 'file/a.png')
    assert 'ends in .png or .jpg' in refused(tool, 'new', '--preview', 'a.txt')


@pytest.mark.parametrize('name', ['cuda:99', 'tpu'])
def test_devices_that_are_not_there_are_named(refused, name):
    weights = ('--config', 'config.py', '--checkpoint', 'weights.pth')
    for start in (TRAIN, (*TEST, 'weights.pth'), (*INFER, *weights)):
        error = refused(*start, '--device', name)
        assert f'{name} does not exist here; available: cpu' in error


@pytest.mark.parametrize('tool', ['train', 'test', 'infer'])
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'broken.py does not exist'),
        ('model = dict(', 'config broken.py: SyntaxError'),
        ('model = missing', "config broken.py: NameError: name 'missing' is not defined"),
        ("_base_ = 'base.py'", 'base.py'),
    ],
)
def test_configs_that_cannot_be_read_are_named(refused, tool, content, message):
    if content is not None:
        Path('broken.py').write_text(content)
    start = {
        'train': ('train.py', 'broken.py'),
        'test': ('test.py', 'broken.py', 'weights.pth'),
        'infer': (*INFER, '--config', 'broken.py', '--checkpoint', 'weights.pth'),
    }
    assert message in refused(*start[tool])


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('model.type=ReferFormr', "model 'ReferFormr', .* similar names: ReferFormer"),
        ('model.criterion.loss_cls.type=FocaLoss', "model 'FocaLoss', .*: FocalLoss"),
        ('train_dataloader.dataset.type=RefYoutubeVos', 'dataset .*: RefYouTubeVOS'),
        ('train_dataloader.dataset.pipeline.1.type=LoadFrame', 'transform .*: LoadFrames'),
        ('train_dataloader.sampler.type=Zzz', 'data sampler .* known names: DefaultSampler'),
        ('default_hooks.visualization.type=VisualisationHook', 'hook .*: VisualizationHook'),
        ('optim_wrapper.optimizer.type=adamw', "optimizer 'adamw', .*: AdamW"),
        ('val_evaluator.type=VosMetrics', 'metric .*: VOSMetric'),
        ('model.num_querys=3', "fit ReferFormer: .* argument 'num_querys'"),
        ('train_dataloader.dataset.splitt=train', "argument 'splitt'"),
    ],
)
def test_unknown_types_and_arguments_are_named(refused, option, message):
    error = refused(*TRAIN, options=[option])
    assert re.search(message, error), error
    assert len(error.splitlines()) == 1


def test_unknown_type_in_infer_is_named(refused):
    Path('wrong.py').write_text("_base_ = 'config.py'\nmodel = dict(type='ReferFormr')\n")
    error = refused(*INFER, '--config', 'wrong.py', '--checkpoint', 'weights.pth')
    assert 'similar names: ReferFormer' in error


def test_options_without_a_value_are_named(project, capsys):
    for tool, arguments in (('train.py', []), ('test.py', ['weights.pth'])):
        with pytest.raises(SystemExit) as end:
            load_tool(tool).main(['config.py', *arguments, '--cfg-options', 'train_cfg'])
        assert end.value.code == 2
        assert '--cfg-options train_cfg: expected KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize('tool', ['train', 'test', 'infer'])
def test_missing_tokenizer_is_named_before_the_work(refused, monkeypatch, tool):
    shutil.rmtree('data/tokenizer')
    monkeypatch.setattr(Runner, 'train', lambda self: pytest.fail('too late'))
    monkeypatch.setattr(Runner, 'test', lambda self: pytest.fail('too late'))
    monkeypatch.setattr('referformer.apis.ClipInferencer', lambda *_, **__: pytest.fail('too late'))
    start = {
        'train': TRAIN,
        'test': (*TEST, 'weights.pth', *TEST_OUT),
        'infer': (*INFER, '--config', 'config.py', '--checkpoint', 'weights.pth'),
    }
    assert "tokenizer 'data/tokenizer'" in refused(*start[tool])


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_exit_code_and_last_line_of_the_scripts(project, tool):
    for file in Path('data').glob('*/JPEGImages/*/*.jpg'):
        cut(file, 500)
    arguments = ['config.py', *(['weights.pth'] if tool == 'test.py' else [])]
    workers = [f'{name}_dataloader.num_workers=2' for name in SPLITS]
    done = subprocess.run(
        [sys.executable, REPO / 'tools' / tool, *arguments, '--cfg-options', *workers],
        env={**os.environ, 'PYTHONPATH': str(REPO), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: data/')
    assert 'Traceback' not in done.stderr


def test_dist_scripts_say_how_they_are_used():
    for name in ('dist_train', 'dist_test', 'slurm_train', 'slurm_test'):
        done = subprocess.run(
            ['bash', REPO / 'tools' / f'{name}.sh'], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f'Usage: bash tools/{name}.sh')


def test_the_project_itself_is_in_order(project):
    """Else the tests above could pass for another reason than theirs."""
    run = f'experiment_name=good-{next(_numbers)}'
    load_tool('train.py').main(['config.py', '--work-dir', 'logs', '--cfg-options', run])
    assert [path.name for path in Path('logs').glob('*.pth')] == ['epoch_1.pth']
    init_model('config.py', 'weights.pth')
