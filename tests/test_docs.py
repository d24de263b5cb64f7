"""Every Python block and command of the README and the docs runs here, or says what it needs.

The line above a block may be a comment that a reader does not see: ``<!-- needs: data -->`` (or
weights, a GPU, hours, an installation: it does not run here), or ``<!-- given: x = 1 -->`` (Python
that a reader has done already).
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from toy_project import REPO

PAGES = sorted([REPO / 'README.md', REPO / 'configs' / 'README.md', *(REPO / 'docs').rglob('*.md')])
NEEDS = ('a running page', 'data', 'weights', 'a GPU', 'hours', 'an installation')
BLOCK = re.compile(
    r'^(?:<!-- (?P<mark>needs|given): (?P<what>.+?) -->\n)?'
    r'```(?P<kind>bash|python)\n(?P<code>.+?)^```$',
    re.M | re.S,
)


class Block(NamedTuple):
    mark: str | None
    what: str | None
    kind: str
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(**found.groupdict()) for found in BLOCK.finditer(page.read_text())]


def script(page: Path, kind: str) -> str:
    """All blocks of one kind that can run, one after the other."""
    lines = []
    for block in blocks(page):
        if block.kind == kind and block.mark != 'needs':
            lines += [block.what] if block.mark == 'given' else []
            lines.append(block.code)
    return '\n'.join(lines)


def name(page: Path) -> str:
    return str(page.relative_to(REPO))


@pytest.fixture
def folder(tmp_path):
    """A checkout's tools and configs, and a user's video.mp4."""
    for part in ('tools', 'configs'):
        (tmp_path / part).symlink_to(REPO / part)
    (tmp_path / 'docs').symlink_to(REPO / 'docs')
    shutil.copy(REPO / 'docs' / 'example.mp4', tmp_path / 'video.mp4')
    return tmp_path


def environment() -> dict[str, str]:
    here = Path(sys.executable).parent
    return {**os.environ, 'PYTHONPATH': str(REPO), 'PATH': f'{here}:{os.environ["PATH"]}'}


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_blocks_say_what_they_need_in_known_words(page):
    marks = {block.what for block in blocks(page) if block.mark == 'needs'}
    assert marks <= set(NEEDS)
    fences = len(re.findall(r'^```(?:bash|python)$', page.read_text(), re.M))
    assert fences == len(blocks(page))  # none that is overlooked


@pytest.mark.slow
@pytest.mark.parametrize('page', [p for p in PAGES if script(p, 'python')], ids=name)
def test_python_blocks_run(page, folder):
    run([sys.executable, '-c', script(page, 'python')], folder)


@pytest.mark.slow
@pytest.mark.parametrize('page', [p for p in PAGES if script(p, 'bash')], ids=name)
def test_commands_run(page, folder):
    run(['bash', '-euo', 'pipefail', '-c', script(page, 'bash')], folder)


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f'{command[-1]}\n{done.stdout}\n{done.stderr}'
