"""Mistakes of a user end in one message; bugs never show theirs, but keep their traceback."""

import json
import math
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from referformer.cli import user_errors
from referformer.files import atomic_open
from referformer.inference.export import optional
from referformer.structures.run_lengths import decode_mask
from referformer.video_io import VideoReader


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch):
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)


def end_of(function, capsys):
    """Exit code and message of a program that calls this."""

    @user_errors()
    def main():
        function()

    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.endswith('\n')
    return end.value.code, error[len('error: ') : -1]


def full_disk():
    with atomic_open('out/a.json'):
        raise OSError(28, 'No space left on device')


MISTAKES = {
    'value': (lambda: decode_mask(1, (2, 2)), 'neither run lengths nor polygons'),
    'no video': (lambda: VideoReader('no.mp4'), 'no.mp4 not found. Supported are'),
    'no file': (lambda: Path('no.json').read_text(), 'no.json: No such file or directory'),
    'package': (lambda: optional('no_such_package', 'this'), 'no_such_package'),
    'full disk': (full_disk, 'out/a.json: No space left on device. Free space there, or write'),
    'memory': (lambda: torch.empty(2**58), 'out of memory. Make the work smaller'),
    'array': (lambda: np.empty(2**58), 'out of memory. Make the work smaller'),
    'halves of characters': (lambda: VideoReader('\ud800.mp4'), '\\ud800.mp4 not found'),
}


@pytest.mark.parametrize('case', MISTAKES)
def test_mistakes_end_in_one_line(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, message = MISTAKES[case]
    for _ in range(2):  # the decorator serves more than once
        code, text = end_of(function, capsys)
        assert code == 2
        assert message in text
        assert len(text.splitlines()) == 1


BUGS = {
    'number': lambda: int('no number'),
    'nan': lambda: round(math.nan),
    'values': lambda: dict([(1, 2, 3)]),
    'zero': lambda: 1 / 0,
    'key': lambda: {}['key'],
    'another library': lambda: json.loads('{'),
    'numpy': lambda: np.zeros(3).reshape(2, 2),
    'no name of a file': lambda: Path('a\0b').stat(),
}


@pytest.mark.parametrize('case', BUGS)
def test_what_is_no_error_of_ours_is_a_bug_with_its_traceback_in_a_file(
    case, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    code, text = end_of(BUGS[case], capsys)
    (report,) = tmp_path.iterdir()
    assert code == 70
    kind = text.split('(')[1].split(')')[0]
    assert text == (
        f'this is a bug of referformer ({kind}), or of a module that the config brings along. '
        f'Please report it with {report}'
    )
    assert 'Traceback' in report.read_text() and f'\n{kind}' in report.read_text().replace(
        'json.decoder.', ''
    )


class Items(Dataset):
    """Of which each is an error."""

    def __init__(self, function):
        self.function = function

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.function()


def mistake():
    decode_mask({'size': [2, 3]}, (2, 2))


def bug():
    return int('no number')


def in_a_pool(function):
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(function).result()


@pytest.mark.parametrize(
    'run', [lambda function: list(DataLoader(Items(function), num_workers=1)), in_a_pool]
)
def test_errors_of_workers_are_told_apart_as_well(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    message = 'run lengths of the size [2, 3], not [2, 2]'
    assert end_of(lambda: run(mistake), capsys) == (2, message)
    code, text = end_of(lambda: run(bug), capsys)
    assert code == 70 and 'no number' not in text
    (report,) = (file for file in tmp_path.iterdir() if file.suffix == '.txt')
    assert 'no number' in report.read_text()


def test_interruption_has_its_own_code(capsys):
    with pytest.raises(SystemExit) as end, user_errors():
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == 'error: interrupted\n'


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
