"""Mistakes of a user end in one message; bugs keep their traceback."""

import subprocess
import sys

import pytest

from referformer.cli import user_errors


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch):
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (ValueError('sentence 1 is empty'), 'sentence 1 is empty'),
        (FileNotFoundError('no.mp4 not found'), 'no.mp4 not found'),
        (OSError(28, 'No space left on device', 'out.png'), 'out.png: No space left on device'),
        (ModuleNotFoundError('pip install mmdet'), 'pip install mmdet'),
    ],
)
def test_user_errors_end_in_one_line(error, message, capsys):
    @user_errors()
    def main():
        raise error

    for _ in range(2):  # the decorator serves more than once
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert capsys.readouterr().err == f'error: {message}\n'


def test_interruption_has_its_own_code(capsys):
    with pytest.raises(SystemExit) as end, user_errors():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == 'error: interrupted\n'


def test_bugs_are_not_hidden():
    with pytest.raises(ZeroDivisionError), user_errors():
        1 / 0  # noqa: B018


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv('REFERFORMER_DEBUG', '1')
    with pytest.raises(ValueError, match='empty'), user_errors():
        raise ValueError('empty')


def test_a_reader_that_has_seen_enough_is_no_error():
    code = (
        'from referformer.cli import user_errors\n'
        'with user_errors():\n'
        '    for i in range(100_000): print(i)'
    )
    command = f'{sys.executable} -c "{code}" | head -n 1'
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('0\n', '')
