"""Command lines made at random: an exit code and a message, never a traceback."""

import contextlib
import io
import os
import random
import sys

import pytest
from fixtures_rvos import write_ref_youtube_vos
from fuzzing import Child, Tally

from referformer.__main__ import main
from referformer.commands import VERBS

# These wait for a browser or for the network, or take their time.
_LEFT_OUT = ('serve', 'get-weights', 'benchmark')
OPTIONS = (
    '--out', '--model', '--config', '--checkpoint', '--device', '--window', '--shorter', '--fps',
    '--score-thr', '--presence-thr', '--max-frames', '--launcher', '--matte', '--cutout',
    '--export', '--overwrite', '--protocol', '--pred', '--gt', '--split', '--nproc', '--json',
    '--cfg-options', '--work-dir', '--resume', '--show-dir', '--to', '--verbose', '--videos',
    '--sentences', '--masks', '--recipe', '--valid', '--workers', '--weights', '--number', '-x',
)  # fmt: skip
VALUES = (
    '', ' ', '0', '-1', '1e400', 'nan', 'inf', '999999999999999999999', '..', '/', '/dev/null',
    '/proc/self/mem', 'out', 'no/such/file', 'a\udc80b', 'é', '\u2028', 'a=b', 'model=1',
    'model.type=Nothing', 'train_cfg=x', 'x' * 5000, 'cpu', 'cuda:99', 'meta', 'none', 'pytorch',
    'the dog', 'video.mp4', 'table.csv', 'config.py', 'bad.py', 'one.py', 'hostile.pth',
    'empty.json', 'list.json', 'data', 'data/valid/JPEGImages/valid0', '*', '[', '-', 'davis',
    'ref-davis', 'mevis', 'a2d', 'hf://a/b/c', 'file:///etc/passwd', 'http://127.0.0.1:9/x.pth',
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the values above name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('REFERFORMER_CACHE', str(tmp_path / 'cache'))
    write_ref_youtube_vos(tmp_path / 'data', num_frames=2)
    files = {
        'video.mp4': 'no video',
        'table.csv': 'video,object,sentence\nvalid0,1,the dog\n',
        'config.py': 'model = dict(type="Nothing")\n',
        'bad.py': 'model = dict(\n',
        'one.py': 'model = 1\n',
        'hostile.pth': 'cos\nsystem\n(Vtouch ran\ntR.',
        'empty.json': '',
        'list.json': '[[1]]',
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit code and messages."""
    sys.argv = ['referformer', *arguments]
    sys.stdin = io.StringIO()
    error = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        try:
            main(arguments)
        except SystemExit as end:
            return end.code or 0, error.getvalue()
    return 0, error.getvalue()


def command(rng: random.Random) -> list[str]:
    verbs = [verb for verb in VERBS if verb not in _LEFT_OUT]
    arguments = [rng.choice(verbs)] if rng.random() < 0.95 else []
    for _ in range(rng.randrange(8)):
        arguments.append(rng.choice((rng.choice(OPTIONS), rng.choice(VALUES), rng.choice(VALUES))))
    return arguments


def test_command_lines(fuzz, folder):
    rng, tally = random.Random(fuzz.seed), Tally()
    before = sorted(os.listdir(folder.parent))
    with Child(run) as child:
        child(['list'])  # imports
        for number in range(fuzz.count(200)):
            arguments = command(rng)
            outcome = child(arguments)
            what = f'command {number} {arguments}'
            tally.add(outcome, what)
            if outcome.kind == 'accepted':
                code, error = outcome.detail
                assert code in (0, 1, 2), f'{what}: {code} {error}'
                assert 'Traceback' not in error, f'{what}: {error}'
                assert code == 0 or 'error: ' in error, f'{what}: {code} {error}'
    tally.check()
    assert not (folder / 'ran').exists()
    assert sorted(os.listdir(folder.parent)) == before
