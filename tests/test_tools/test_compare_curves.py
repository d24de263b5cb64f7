"""compare_curves.py on logs written by hand; tests/test_leaf_configs.py trains with it."""

import importlib.util
import json
import sys

import pytest
from toy_project import REPO


@pytest.fixture(scope='module')
def tool():
    path = REPO / 'tools' / 'analysis_tools' / 'compare_curves.py'
    spec = importlib.util.spec_from_file_location('tool_compare_curves', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_log(work_dir, losses, run='1', **more):
    path = work_dir / run / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    rows = [
        {'step': i, 'loss': loss, 'loss_cls': loss / 2, 'lr': 0.1, 'time': i + len(run), **more}
        for i, loss in enumerate(losses, start=1)
    ]
    path.write_text('\n'.join(json.dumps(row) for row in [*rows, {'step': 9, 'J&F': 3.0}]))
    return work_dir


def test_equal_and_different_losses(tool, tmp_path):
    first = write_log(tmp_path / 'a', [4.0, 3.0, 2.0, 1.0])
    second = write_log(tmp_path / 'b', [4.0, 3.0, 2.0, 1.0], run='20')
    assert tool.compare(first, second) == (4, 4.0, 1.0, 0.0)
    third = write_log(tmp_path / 'c', [4.0, 3.0, 1.5, 1.0])
    assert tool.compare(first, third)[3] == pytest.approx(0.25)


def test_newest_run_counts(tool, tmp_path):
    first = write_log(tmp_path / 'a', [1.0])
    second = write_log(write_log(tmp_path / 'b', [7.0], run='1'), [1.0], run='2')
    assert tool.compare(first, second)[3] == 0


def test_logs_that_cannot_be_compared_are_refused(tool, tmp_path):
    first = write_log(tmp_path / 'a', [1.0, 2.0])
    with pytest.raises(FileNotFoundError, match='no log in'):
        tool.compare(first, tmp_path / 'nothing')
    for name, log in {
        'short': {'losses': [1.0]},
        'other': {'losses': [1.0, 2.0], 'loss_a': 1},
    }.items():
        with pytest.raises(ValueError, match='do not log the same'):
            tool.compare(first, write_log(tmp_path / name, **log))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['tuned'], 'unknown recipes: tuned; known: finetune, scratch, joint'),
        (['--iterations', '100'], '--iterations 100: expected a multiple of 60'),
        (['--data', 'nowhere'], r'nowhere/tokenizer not found: `python tools/dataset_tools'),
    ],
)
def test_mistakes_are_named_at_once(tool, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['compare_curves.py', *arguments])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
