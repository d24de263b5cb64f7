"""The set-up scripts: their decisions, messages and exit codes, without network or installation."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import cv2
import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]
TOOLS = REPO / 'tools'
SCRIPTS = sorted([*TOOLS.glob('*.sh'), *TOOLS.glob('setup/*.sh'), REPO / '.ci' / 'run'])


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, 'PYTHONPATH': str(REPO), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def shell(code: str, **env: str) -> subprocess.CompletedProcess:
    """Run bash code with all set-up functions at hand."""
    sources = [f'source {TOOLS}/setup/{name}.sh' for name in ('common', 'environment', 'mmcv')]
    return run('bash', '-uc', '\n'.join([*sources, code]), **env)


def executable(path: Path, code: str) -> Path:
    path.write_text(f'#!/usr/bin/env bash\n{code}\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: str(path.relative_to(REPO)))
def test_scripts_are_valid_bash(script):
    result = run('bash', '-n', script)
    assert result.returncode == 0, result.stderr


class TestSteps:
    def test_failing_step_names_itself_its_remedy_and_its_last_lines(self, tmp_path):
        result = shell(
            f"""STEPS=3; start_log {tmp_path}/log
            broken() {{ echo 'the compiler said no'; return 7; }}
            run_step 'First' 'no remedy needed' true
            run_step 'Second' 'install a compiler' broken
            run_step 'Third' '' touch {tmp_path}/reached"""
        )
        assert result.returncode == 1
        assert '[1/3] First' in result.stdout
        assert 'FAILED: step 2 of 3, "Second"' in result.stderr
        assert '(exit code 7)' in result.stderr
        assert '    the compiler said no' in result.stderr
        assert 'What to do: install a compiler' in result.stderr
        assert result.stderr.strip().splitlines()[-1].endswith('FAILED at step 2 of 3, "Second"')
        assert not (tmp_path / 'reached').exists()

    def test_failing_live_step_fails_although_tee_succeeds(self, tmp_path):
        result = shell(
            f"""STEPS=1; start_log {tmp_path}/log
            run_step_live 'Tests' 'mend them' bash -c 'echo 1 failed; exit 1'
            echo reached"""
        )
        assert result.returncode == 1
        assert '1 failed' in result.stdout
        assert '1 failed' in (tmp_path / 'log').read_text()
        assert 'reached' not in result.stdout

    def test_output_of_quiet_step_goes_to_the_log_only(self, tmp_path):
        result = shell(
            f"""STEPS=1; start_log {tmp_path}/log
            work() {{ echo details; NOTE='version 1.2'; }}
            run_step 'Work' '' work"""
        )
        assert result.returncode == 0
        assert 'details' not in result.stdout
        assert '      version 1.2 (' in result.stdout
        assert 'details' in (tmp_path / 'log').read_text()

    def test_problem_and_remedy_of_the_step_come_before_the_general_ones(self):
        result = shell(
            """STEPS=1
            full() { PROBLEM='the disk is full'; REMEDY='free some space'; return 1; }
            run_step 'Copy' 'look at the log' full"""
        )
        assert 'Problem: the disk is full' in result.stderr
        assert 'What to do: free some space' in result.stderr
        assert 'look at the log' not in result.stderr

    def test_earlier_log_is_kept(self, tmp_path):
        shell(f'start_log {tmp_path}/log; echo first >>$LOG')
        shell(f'start_log {tmp_path}/log')
        assert 'first' not in (tmp_path / 'log').read_text()
        assert 'first' in (tmp_path / 'log.previous').read_text()


class TestStamps:
    def count(self, tmp_path: Path, key: str, command: str = 'true') -> int:
        """Ask for the step once more; how often it has run by now."""
        shell(
            f"""work() {{ echo x >>{tmp_path}/runs; {command}; }}
            once {tmp_path}/stamps/work {shlex.quote(key)} work"""
        )
        return (tmp_path / 'runs').read_text().count('x')

    def test_step_runs_again_only_when_its_key_changes(self, tmp_path):
        assert [self.count(tmp_path, key) for key in ('a', 'a', 'b 1', 'b 1')] == [1, 1, 2, 2]

    def test_failed_step_leaves_no_stamp(self, tmp_path):
        assert self.count(tmp_path, 'a') == 1
        assert self.count(tmp_path, 'b', 'false') == 2
        assert self.count(tmp_path, 'a') == 3

    def test_key_follows_contents_and_names(self, tmp_path):
        def key() -> str:
            return shell(f'key_of {tmp_path} {tmp_path}/absent').stdout

        (tmp_path / 'a.py').write_text('1')
        keys = [key()]
        (tmp_path / 'built.so').write_text('compiled: no input')
        assert key() == keys[0]
        (tmp_path / 'a.py').write_text('2')
        keys.append(key())
        (tmp_path / 'a.py').rename(tmp_path / 'b.py')
        keys.append(key())
        assert len(set(keys)) == 3


class TestEnvironment:
    def test_unfit_python_is_refused_with_what_was_found(self, tmp_path):
        old = executable(tmp_path / 'python', '[[ $2 == *platform* ]] && echo 3.9.18 || exit 1')
        result = shell('find_python; echo reached', PYTHON=str(old))
        assert result.returncode == 1
        assert f'{old} (3.9.18)' in result.stderr
        assert 'What to do: install one' in result.stderr
        assert 'reached' not in result.stdout

    def test_missing_compiler_is_named(self):
        result = shell(f'PYTHON_BASE={sys.executable}; compiler_problem', CXX='absent-c++')
        assert result.stdout == 'no C++ compiler (absent-c++)\n'

    def test_too_little_disk_is_refused(self):
        result = shell(
            'free_gb() { echo 2; }; TORCH_KIND=cpu; use_venv /tmp/no-such-env; check_disk'
        )
        assert result.returncode == 1
        assert '2 GB free in /tmp, the set-up needs 6 GB' in result.stderr

    def test_folder_that_is_no_environment_is_left_alone(self, tmp_path):
        (tmp_path / 'thesis.tex').write_text('irreplaceable')
        result = shell(f"STEPS=1; use_venv {tmp_path}; run_step 'Environment' '' make_venv")
        assert result.returncode == 1
        assert 'exists and is not a virtual environment' in result.stderr
        assert (tmp_path / 'thesis.tex').read_text() == 'irreplaceable'

    @pytest.mark.parametrize(
        ('offered', 'kind', 'system', 'expected'),
        [
            ('2.13.0+cpu, 2.13.0', 'cpu', 'Linux', 'torch=={}+cpu'),
            ('2.14.0, 2.13.0', 'cpu', 'Linux', 'torch=={}+cpu --extra-index-url https://'),
            ('', 'cpu', 'Linux', 'torch=={}+cpu --extra-index-url https://'),
            ('2.13.0+cpu, 2.13.0', 'cuda', 'Linux', 'torch=={}'),
            ('2.13.0', 'cpu', 'Darwin', 'torch=={}'),
        ],
    )
    def test_build_of_torch_fits_the_machine(self, tmp_path, offered, kind, system, expected):
        python = executable(tmp_path / 'python', f'echo "Available versions: {offered}"')
        result = shell(f'PY={python}; TORCH_VERSION=2.13.0; torch_arguments {kind} {system}')
        expected = expected.format('2.13.0')
        if expected.endswith('//'):
            assert result.stdout.startswith(expected)
        else:
            assert result.stdout == expected + '\n'

    @pytest.mark.parametrize(('gpus', 'kind'), [('GPU 0: NVIDIA H200', 'cuda'), ('', 'cpu')])
    def test_gpu_decides_the_kind(self, tmp_path, gpus, kind):
        executable(tmp_path / 'nvidia-smi', f'echo "{gpus}"')
        path = f'{tmp_path}:{os.environ["PATH"]}'
        result = shell('choose_torch_kind; echo $TORCH_KIND', PATH=path, REFERFORMER_TORCH='')
        assert result.stdout == f'{kind}\n'


class TestMMCV:
    @pytest.mark.parametrize(
        ('torch', 'cuda', 'key'),
        [
            ('2.13.0+cpu', '', 'onedl-mmcv2.3.6-torch2.13.0-cp311-cpu'),
            ('2.13.0+cu130', '13.0', 'onedl-mmcv2.3.6-torch2.13.0-cp311-cu130'),
            ('2.4.1', '12.1', 'onedl-mmcv2.3.6-torch2.4.1-cp311-cu121'),
        ],
    )
    def test_wheel_key(self, torch, cuda, key):
        result = shell(f'mmcv_key 2.3.6 {torch} cp311 "$(cuda_tag "{cuda}")"')
        assert result.stdout == f'{key}\n'

    def test_cache_follows_the_environment(self):
        assert shell('cache_dir', REFERFORMER_CACHE='/a').stdout == '/a\n'
        env = {'REFERFORMER_CACHE': '', 'XDG_CACHE_HOME': '/b'}
        assert shell('cache_dir', **env).stdout == '/b/referformer\n'

    def wheel(self, folder: Path, version: str, *names: str) -> Path:
        path = folder / f'onedl_mmcv-{version}-cp311-cp311-linux_{os.uname().machine}.whl'
        with zipfile.ZipFile(path, 'w') as wheel:
            for name in ('mmcv/__init__.py', *names):
                wheel.writestr(name, '')
        return path

    def test_wheel_without_ops_is_not_taken(self, tmp_path):
        self.wheel(tmp_path, '1', 'mmcv/_extra.py', 'mmcv/ops/_ext.txt')
        broken = self.wheel(tmp_path, '2', 'mmcv/_ext.so')
        broken.write_bytes(broken.read_bytes()[:-40])
        assert shell(f'find_wheel {tmp_path}').returncode == 1
        good = self.wheel(tmp_path, '3', 'mmcv/_ext.cpython-311-x86_64-linux-gnu.so')
        assert shell(f'find_wheel {tmp_path}').stdout == f'{good}\n'

    def test_progress_counts_compiled_files(self, tmp_path):
        log = tmp_path / 'build.log'
        log.write_text('  [1/78] c++ a.cpp\n  [26/78] c++ b.cpp\n  warning: [-Wall]\n')
        result = shell(f'BUILD_LOG={log}; SECONDS=100; BUILD_STARTED=0; build_progress')
        assert re.fullmatch(r'mmcv: 26 of 78 files compiled, about 3 min 2\d s left', result.stdout)

    def test_built_wheel_is_kept_and_used_the_next_time(self, tmp_path):
        """pip is a stand-in: `wheel` copies a wheel, `install` leaves a mark for mmcv_usable."""
        built = self.wheel(tmp_path, '2.3.6', 'mmcv/_ext.so')
        python = executable(
            tmp_path / 'python',
            f"""echo "$*" >>{tmp_path}/calls
            case "$*" in
              *'pip wheel'*) while [ "$1" != --wheel-dir ]; do shift; done; cp {built} "$2" ;;
              *'pip install'*) touch {tmp_path}/installed ;;
              *) exit 1 ;;
            esac""",
        )
        code = f"""STEPS=1; PYTHON_BASE={sys.executable}; PY={python}
            BUILD_LOG={tmp_path}/build.log
            mmcv_target() {{ echo 2.13.0+cpu cp311 cpu; }}
            mmcv_usable() {{ [ -e {tmp_path}/installed ]; }}
            compiler_problem() {{ :; }}
            pinned_version() {{ echo 2.3.6; }}
            run_step 'mmcv' '' install_mmcv"""
        first = shell(code, REFERFORMER_CACHE=f'{tmp_path}/cache')
        assert 'built here' in first.stdout, first.stderr
        folder = tmp_path / 'cache' / 'wheels' / 'onedl-mmcv2.3.6-torch2.13.0-cp311-cpu'
        assert [path.name for path in folder.iterdir()] == [built.name]
        assert '--no-cache-dir' in (tmp_path / 'calls').read_text()

        (tmp_path / 'installed').unlink()
        (tmp_path / 'calls').unlink()
        second = shell(code, REFERFORMER_CACHE=f'{tmp_path}/cache')
        assert f'from {folder}' in second.stdout, second.stderr
        assert 'pip wheel' not in (tmp_path / 'calls').read_text()

    def test_without_compiler_and_wheel_the_remedy_is_a_compiler(self, tmp_path):
        """Nothing is installed: pip and the installed mmcv are stand-ins that fail."""
        result = shell(
            f"""STEPS=1; PYTHON_BASE={sys.executable}; BUILD_LOG={tmp_path}/build.log
            mmcv_target() {{ echo 2.13.0+cpu cp311 cpu; }}
            mmcv_usable() {{ return 1; }}
            fetch_wheel() {{ return 1; }}
            run_step 'mmcv' 'read the log' install_mmcv""",
            CXX='absent-c++',
            REFERFORMER_CACHE=str(tmp_path),
        )
        assert result.returncode == 1
        assert 'Problem: no C++ compiler (absent-c++)' in result.stderr
        assert 'What to do: install a C++17 compiler' in result.stderr


class TestLaunchers:
    @pytest.mark.parametrize(
        ('script', 'arguments'),
        [
            ('dist_train.sh', ['config.py']),
            ('dist_train.sh', ['config.py', 'two']),
            ('dist_test.sh', ['config.py', 'checkpoint.pth']),
            ('dist_test.sh', ['config.py', 'checkpoint.pth', '0']),
            ('slurm_train.sh', ['partition', 'job', 'config.py']),
            ('slurm_test.sh', []),
        ],
    )
    def test_missing_arguments_show_the_usage(self, script, arguments):
        result = run('bash', TOOLS / script, *arguments)
        assert result.returncode == 2
        assert f'Usage: bash tools/{script}' in result.stderr

    def test_missing_config_is_named(self):
        result = run('bash', TOOLS / 'dist_train.sh', 'no-such.py', '2')
        assert result.returncode == 2
        assert 'config no-such.py not found' in result.stderr

    @pytest.mark.parametrize(
        ('script', 'positional', 'tool'),
        [('dist_train.sh', [], 'train.py'), ('dist_test.sh', ['last.pth'], 'test.py')],
    )
    def test_dist_starts_one_process_per_gpu(self, tmp_path, script, positional, tool):
        config = tmp_path / 'config.py'
        config.touch()
        python = executable(tmp_path / 'python', 'printf "%s\\n" "$@"')
        result = run(
            'bash', TOOLS / script, config, *positional, '3', '--cfg-options', "a.b='x y'",
            PYTHON=str(python), PORT='29512', NNODES='2', NODE_RANK='1', MASTER_ADDR='node0',
        )  # fmt: skip
        words = result.stdout.splitlines()
        assert words[0] == str(TOOLS / 'setup' / 'torchrun.py')
        assert {
            '--nproc-per-node=3',
            '--nnodes=2',
            '--node-rank=1',
            '--master-addr=node0',
            '--master-port=29512',
        } <= set(words)
        start = words.index(str(TOOLS / tool))
        expected = [str(config), *positional, '--launcher', 'pytorch', '--cfg-options', "a.b='x y'"]
        assert words[start + 1 :] == expected

    @pytest.mark.slow
    def test_an_error_of_all_processes_is_one_line(self, tmp_path):
        config = tmp_path / 'config.py'
        config.write_text('model = dict(\n')
        free = socket.create_server(('127.0.0.1', 0))
        port = free.getsockname()[1]
        free.close()
        arguments = ['bash', TOOLS / 'dist_train.sh', config, '2']
        result = run(*arguments, PYTHON=sys.executable, PORT=str(port), PYTHONPATH='')
        assert result.returncode == 2
        [line] = (result.stdout + result.stderr).splitlines()
        assert line.startswith(f'error: config {config}: SyntaxError')
        with socket.create_server(('', port)):
            result = run(*arguments, PYTHON=sys.executable, PORT=str(port), PYTHONPATH='')
        assert result.returncode == 1
        [line] = (result.stdout + result.stderr).splitlines()
        assert line.startswith('error: ') and line.endswith('name another one: PORT=29501')

    def test_slurm_asks_for_one_task_per_gpu(self, tmp_path):
        config = tmp_path / 'config.py'
        config.touch()
        executable(tmp_path / 'srun', 'printf "%s\\n" "$@"')
        result = run(
            'bash', TOOLS / 'slurm_train.sh', 'part', 'job', config, 'work_dirs/x', '--amp',
            PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SRUN_ARGS='--quiet --time=10',
        )  # fmt: skip
        words = result.stdout.splitlines()
        assert {'--ntasks=4', '--ntasks-per-node=4', '--gres=gpu:4', '--time=10'} <= set(words)
        assert words[-5:] == ['--launcher', 'slurm', '--work-dir', 'work_dirs/x', '--amp']


def test_quickstart_refuses_unknown_arguments():
    result = run('bash', TOOLS / 'quickstart.sh', '--fast')
    assert result.returncode == 1
    assert "unknown argument '--fast'" in result.stderr
    assert '[1/' not in result.stdout


def test_example_video_has_a_sentence_per_object_and_every_frame(tmp_path):
    expressions = {
        'few': {'expressions': {'0': {'exp': 'the star', 'obj_id': '1'}}},
        'many': {
            'expressions': {
                '0': {'exp': 'the red one', 'obj_id': '1'},
                '1': {'exp': 'the one in red', 'obj_id': '1'},
                '2': {'exp': 'the blue one', 'obj_id': '2'},
            }
        },
    }
    folder = tmp_path / 'meta_expressions' / 'valid'
    folder.mkdir(parents=True)
    (folder / 'meta_expressions.json').write_text(json.dumps({'videos': expressions}))
    frames = tmp_path / 'valid' / 'JPEGImages' / 'many'
    frames.mkdir(parents=True)
    for t in range(5):
        cv2.imwrite(str(frames / f'{t:05d}.jpg'), np.full((32, 48, 3), 40 * t, np.uint8))

    out = tmp_path / 'out.mp4'
    result = run(sys.executable, TOOLS / 'setup' / 'example_video.py', tmp_path, out)
    assert result.returncode == 0, result.stderr
    assert out.with_suffix('.txt').read_text() == 'the red one\nthe blue one\n'
    video = cv2.VideoCapture(str(out))
    brightness = []
    while (read := video.read())[0]:
        assert read[1].shape == (32, 48, 3)
        brightness.append(read[1].mean())
    np.testing.assert_allclose(brightness, [0, 40, 80, 120, 160], atol=6)


def test_report_shows_the_measured_scores_and_existing_pictures(tmp_path):
    metrics = {'vos/J&F': 51.23, 'vos/J&F_swapped': 20.0, 'vos/gap': 31.23, 'vos/J&F_motion': None}
    metrics |= {'vos/J&F_motion_shuffled': 12.5, 'vos/wrongly_found_appearance_absent': 19.04}
    for name in ('test/metrics.json', 'scratch/metrics.json', 'infer/contact_sheet.png'):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps({'checkpoint': 'last.pth', 'metrics': metrics}))
    result = run(sys.executable, TOOLS / 'setup' / 'quickstart_report.py', tmp_path)
    assert result.returncode == 0, result.stderr
    shipped, trained = result.stdout.split('The model trained here')
    assert 'comes with the package: last.pth' in shipped
    assert shipped.splitlines()[1:] == trained.splitlines()[1 : len(shipped.splitlines())]
    rows = {line[:26].strip(): line[26:].split() for line in shipped.splitlines()}
    assert rows['all sentences'] == ['-', '-', '51.2', '20.0', '31.2', '-']
    assert rows['about motion'] == ['-'] * 6
    assert rows['frames in random order'] == ['-', '-', '12.5', '-', '-', '-']
    assert rows['about what is not there'] == ['-'] * 5 + ['19.0']
    assert f'{tmp_path}/infer/contact_sheet.png' in result.stdout
    assert 'curve.png' not in result.stdout


def test_report_without_results_says_so(tmp_path):
    result = run(sys.executable, TOOLS / 'setup' / 'quickstart_report.py', tmp_path)
    assert result.returncode != 0
    assert 'metrics.json not found' in result.stderr


def test_no_requirement_brings_torchvision():
    """torchvision has no CPU build beside every CPU build of torch: nothing may ask for it."""

    def names(requirement_lines) -> set[str]:
        found = set()
        for line in requirement_lines:
            match = re.match(r'[A-Za-z0-9][\w.-]*', line)
            if match and 'extra ==' not in line:
                found.add(re.sub(r'[-_.]+', '-', match[0]).lower())
        return found

    waiting, seen = set(), set()
    for file in ('runtime', 'tests', 'mmdet', 'optional', 'build'):
        waiting |= names((REPO / 'requirements' / f'{file}.txt').read_text().splitlines())
    # mmdet is installed without its own requirements (requirements/mmdet.txt).
    own = {'onedl-mmdetection'}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        try:
            needed = [] if name in own else requires(name) or []
        except PackageNotFoundError:
            continue
        waiting |= names(needed) - seen
    assert {'numpy', 'torch', 'onedl-mmengine', 'jinja2'} <= seen
    assert 'torchvision' not in seen
