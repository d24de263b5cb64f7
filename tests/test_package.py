"""The package as a whole: light to import, and installable without a working compiler."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from referformer.commands import VERBS

REPO = Path(__file__).resolve().parents[1]
ENV = {**os.environ, 'PYTHONPATH': f'{REPO}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**ENV, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_import_brings_in_no_heavy_library():
    code = "import sys, referformer; print(*{name.split('.')[0] for name in sys.modules})"
    done = run('-c', code)
    assert done.returncode == 0, done.stderr
    heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'transformers', 'cv2', 'matplotlib', 'scipy'}
    assert not heavy & set(done.stdout.split())


def test_the_names_of_the_package_come_at_their_first_use():
    code = 'import referformer as r; print(r.init_model.__module__, *dir(r))'
    words = run('-c', code).stdout.split()
    assert words[0] == 'referformer.apis'
    assert {'ReferFormerInferencer', 'init_model', 'list_models', '__version__'} <= set(words)
    done = run('-c', 'import referformer; referformer.init_modle')
    assert "AttributeError: module 'referformer' has no attribute 'init_modle'" in done.stderr


@pytest.mark.slow
def test_import_takes_50_ms_and_help_half_a_second():
    def seconds(*arguments: str) -> float:
        start = time.perf_counter()
        assert run(*arguments).returncode == 0
        return time.perf_counter() - start

    commands = [('-c', 'pass'), ('-c', 'import referformer'), ('-m', 'referformer', '--help')]
    rounds = [[seconds(*command) for command in commands] for _ in range(9)]
    python, package, help_text = (min(column) for column in zip(*rounds))
    assert package - python < 0.05, f'import referformer takes {package - python:.3f} s'
    assert help_text < 0.5, f'referformer --help takes {help_text:.3f} s'


def test_help_lists_every_verb_and_every_module_is_one():
    done = run('-m', 'referformer', '--help')
    assert set(re.findall(r'^  (\S+) ', done.stdout, re.M)) == set(VERBS)
    modules = {path.stem.replace('_', '-') for path in (REPO / 'referformer/commands').glob('*.py')}
    assert modules - {'--init--'} == set(VERBS)


@pytest.mark.parametrize('verb', VERBS)
def test_a_verb_goes_by_its_name_and_a_wrong_argument_ends_in_its_usage(verb):
    done = run('-m', 'referformer', verb, '--no-such-option')
    assert done.returncode == 2
    assert done.stderr.startswith(f'usage: referformer {verb} ')


@pytest.mark.parametrize(
    ('verb', 'message'),
    [
        ('trian', "there is no verb 'trian': did you mean train?"),
        ('zzz', f"there is no verb 'zzz': there are {', '.join(VERBS)}."),
    ],
)
def test_an_unknown_verb_ends_in_one_line(verb, message):
    done = run('-m', 'referformer', verb)
    assert (done.returncode, done.stderr) == (2, f'error: {message}\n')


def test_the_garbage_collector_works_again_after_the_imports():
    code = 'import gc, referformer.__main__ as m; m.load("score"); print(gc.isenabled())'
    assert run('-c', code).stdout == 'True\n'


@pytest.fixture
def sources(tmp_path) -> Path:
    """What an installation reads, in a folder of its own."""
    (tmp_path / 'referformer').mkdir()
    shutil.copy(REPO / 'referformer' / '__init__.py', tmp_path / 'referformer')
    shutil.copy(REPO / 'referformer' / 'version.py', tmp_path / 'referformer')
    for name in ('configs', 'csrc', 'requirements', 'tools'):
        shutil.copytree(REPO / name, tmp_path / name)
    shutil.copy(REPO / 'setup.py', tmp_path)
    return tmp_path


def build(folder: Path, **variables: str) -> subprocess.CompletedProcess:
    code = f'import os, runpy, sys; os.chdir({str(folder)!r}); sys.argv[1:] = ["build"]; '
    return run('-c', code + 'sys.argv[0] = "setup.py"; runpy.run_path("setup.py")', **variables)


@pytest.mark.slow
def test_a_broken_compiler_does_not_fail_the_installation(sources):
    broken = {'CC': '/bin/false', 'CXX': '/bin/false'}
    done = build(sources, **broken, REFERFORMER_BUILD_EXT='')
    assert done.returncode == 0, done.stderr
    assert 'the compiler failed' in done.stderr
    assert 'The slower PyTorch form of deformable attention will be used' in done.stderr
    assert list(sources.glob('build/*/referformer/version.py'))
    assert build(sources, **broken, REFERFORMER_BUILD_EXT='1').returncode != 0


@pytest.mark.slow
def test_an_environment_without_torch_does_not_fail_the_installation(sources):
    (sources / 'torch.py').write_text("raise ImportError('no torch here')")
    done = build(sources, PYTHONPATH=str(sources), REFERFORMER_BUILD_EXT='')
    assert done.returncode == 0, done.stderr
    assert 'PyTorch cannot be imported at build time (no torch here)' in done.stderr
    assert 'pip install --no-build-isolation .' in done.stderr
    done = build(sources, PYTHONPATH=str(sources), REFERFORMER_BUILD_EXT='1')
    assert done.returncode != 0
    assert 'Use --no-build-isolation' in done.stderr


def test_operators_can_be_left_out(sources):
    done = build(sources, REFERFORMER_BUILD_EXT='0')
    assert done.returncode == 0, done.stderr
    assert 'no C++ operators' not in done.stderr
    assert not list(sources.glob('build/**/*.so'))


@pytest.mark.slow
def test_what_a_source_archive_installs_works_without_the_checkout(tmp_path):
    """The command, configs, tools and the shipped model, and advice that fits what is there."""
    sources, site = tmp_path / 'sources', tmp_path / 'site'
    ignored = ('.*', '*.so', '*.egg-info', '__pycache__', 'build', 'data', 'dist', 'work_dirs')
    shutil.copytree(REPO, sources, ignore=shutil.ignore_patterns(*ignored))
    setup = f'import os, runpy; os.chdir({str(sources)!r}); '
    setup += 'import sys; sys.argv = ["setup.py", "-q", "sdist"]; runpy.run_path("setup.py")'
    done = run('-c', setup, REFERFORMER_BUILD_EXT='0')
    assert done.returncode == 0, done.stderr
    assert not (sources / 'referformer' / '.mim').exists()
    [archive] = (sources / 'dist').glob('*.tar.gz')
    pip = ('-m', 'pip', '--disable-pip-version-check', 'install', '--no-deps')
    options = ('--no-build-isolation', '--target', str(site), str(archive))
    done = run(*pip, *options, REFERFORMER_BUILD_EXT='0')
    assert done.returncode == 0, done.stderr
    shutil.rmtree(sources)

    def python(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, 'PYTHONPATH': str(site)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    mim, command = site / 'referformer' / '.mim', str(site / 'bin' / 'referformer')
    for folder in ('configs', 'tools'):
        ours = {path.relative_to(REPO / folder) for path in (REPO / folder).rglob('*.py')}
        assert {path.relative_to(mim / folder) for path in (mim / folder).rglob('*.py')} == ours
    example = str(REPO / 'docs' / 'example.mp4')
    model = 'referformer_vswin-micro_synthetic'
    done = python(command, 'infer', example, 'the black star', '--model', model, '--out', 'results')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'results' / 'contact_sheet.png').is_file()
    config = str(mim / 'configs' / f'{model}.py')
    done = python(command, 'verify', config)
    assert done.returncode == 1
    assert f'{mim}/tools/dataset_tools/make_synthetic.py FOLDER makes one' in done.stdout
    code = 'from referformer.commands import convert, publish; print(convert._BASE, publish._PLOT)'
    places = python('-c', code).stdout.split()
    assert len(places) == 2 and all(Path(place).is_relative_to(mim) for place in places)
    assert all(Path(place).is_file() for place in places)
