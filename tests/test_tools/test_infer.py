"""``tools/infer.py`` as a user runs it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stub_segmenter import CONFIG, colour_video

from referformer.video_io import VideoReader, VideoWriter

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / 'tools' / 'infer.py'


@pytest.fixture
def project(tmp_path):
    """A folder with a video, a config and a checkpoint."""
    (tmp_path / 'config.py').write_text(CONFIG)
    torch.save({'state_dict': {'scale': torch.ones(3)}}, tmp_path / 'weights.pth')
    frames, _ = colour_video(7)
    for name in ('video.mp4', 'video.gif'):
        with VideoWriter(tmp_path / name, 12.5, (48, 64)) as writer:
            for frame in frames:
                writer.write(frame)
    return tmp_path


OPTIONS = ['--config', 'config.py', '--checkpoint', 'weights.pth', '--out', 'out']


@pytest.fixture
def infer(project, monkeypatch, capsys):
    """Runs the tool's ``main()`` in the project; returns exit code, stdout and stderr."""
    spec = importlib.util.spec_from_file_location('infer_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(project)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['infer.py', *OPTIONS, *args])
        code = 0
        try:
            tool.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize('name', ['video.mp4', 'video.gif'])
def test_the_video_comes_back_drawn(project, infer, name):
    code, stdout, stderr = infer(name, 'the red square', 'the blue bar', '--window', '3')
    assert code == 0, stderr
    assert '7 frames, 64x48, 12.5 frames/s, found in' in stdout
    assert 'mode window=3' in stdout
    out = project / 'out'
    drawn = VideoReader(out / f'overlay{Path(name).suffix}')
    assert (sum(1 for _ in drawn), drawn.size) == (7, (48, 64))
    assert drawn.fps == pytest.approx(12.5)
    names = {path.name for path in out.iterdir()}
    summaries = {'contact_sheet.png', 'scores.json', 'predictions.json'}
    assert names == {drawn.path.name, 'masks', *summaries}
    for folder in ('0_the-red-square', '1_the-blue-bar'):
        masks = [np.asarray(Image.open(p)) for p in sorted((out / 'masks' / folder).iterdir())]
        assert len(masks) == 7
        assert all(mask.any() and not mask.all() for mask in masks)
    for path in ('overlay', 'contact_sheet.png', '0_the-red-square'):
        assert path in stdout


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('nowhere.mp4', 'red'), 'nowhere.mp4'),
        (('broken.mp4', 'red'), 'broken.mp4'),
        (('empty', 'red'), 'empty'),
        (('cut', 'red'), '1.jpg'),
        (('video.mp4', 'red', ' '), 'sentence 2 of 2 is empty'),
        (('video.mp4', 'red', '--device', 'cuda:99'), 'cuda:99 does not exist'),
        (('video.mp4', 'red', '--window', '-1'), 'window'),
        (('video.mp4', 'red', '--fps', '0'), 'frame rate'),
        (('video.mp4', 'red', '--checkpoint', 'nowhere.pth'), 'nowhere.pth'),
        (('video.mp4', 'red', '--checkpoint', 'other.pth'), 'scale'),
        (('video.mp4', 'red', '--config', 'nowhere.py'), 'nowhere.py'),
        (('video.mp4', 'red', '--out', 'video.gif'), 'video.gif is a file'),
    ],
)
def test_bad_input_ends_in_one_message(project, infer, args, message):
    (project / 'broken.mp4').write_text('no video')
    for name in ('empty', 'cut'):
        (project / name).mkdir()
    for i in range(2):
        Image.effect_noise((64, 48), 50).convert('RGB').save(project / 'cut' / f'{i}.jpg')
    cut = project / 'cut' / '1.jpg'
    cut.write_bytes(cut.read_bytes()[:700])
    torch.save({'state_dict': {'other': torch.ones(3)}}, project / 'other.pth')
    before = sorted(path.name for path in project.iterdir())
    code, stdout, stderr = infer(*args)
    assert code == 2
    assert sum(line.startswith('error: ') for line in stderr.splitlines()) == 1
    assert message in stderr
    assert 'Traceback' not in stderr
    assert not stdout
    assert sorted(path.name for path in project.iterdir()) == before, 'something was left behind'


def test_frames_below_the_presence_threshold_have_no_mask(project, infer):
    frames, _ = colour_video(7)
    frames[:3] = 90  # the objects come later
    for name, frame in zip('abcdefg', frames):
        (project / 'frames').mkdir(exist_ok=True)
        Image.fromarray(frame).save(project / 'frames' / f'{name}.png')
    code, _, stderr = infer('frames', 'the red square', '--presence-thr', '0.5')
    assert code == 0, stderr
    masks = [np.asarray(Image.open(path)) for path in sorted(project.glob('out/masks/*/*.png'))]
    assert [mask.any() for mask in masks] == [False] * 3 + [True] * 4
    code, _, stderr = infer('frames', 'the red square', '--presence-thr', '1.5')
    assert code == 2 and 'presence_thr must be a score in [0, 1], got 1.5' in stderr


def test_inputs_are_checked_before_the_model_is_built(infer, monkeypatch):
    monkeypatch.setattr('referformer.apis.MODELS.build', lambda _: pytest.fail('too early'))
    assert infer('nowhere.mp4', 'red')[0] == 2
    assert infer('video.mp4', '')[0] == 2


def test_results_are_replaced_only_when_told(project, infer):
    (project / 'out').mkdir()
    (project / 'out' / 'scores.json').write_text('{}')
    code, _, stderr = infer('video.mp4', 'red')
    assert code == 2
    assert '--overwrite' in stderr
    assert (project / 'out' / 'scores.json').read_text() == '{}'
    code, _, stderr = infer('video.mp4', 'red', '--overwrite', '--no-boxes')
    assert code == 0, stderr
    assert (project / 'out' / 'overlay.mp4').is_file()


@pytest.mark.slow
def test_the_script_runs_by_itself(project):
    path = os.pathsep.join([str(REPO), str(REPO / 'tests')])
    env = {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, TOOL, 'nowhere.mp4', 'red', *OPTIONS]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: nowhere.mp4 not found')


def test_images_that_the_shell_lists_are_one_video(project, infer):
    frames, _ = colour_video(4)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(project / f'{i}.png')
    code, stdout, stderr = infer(*(f'{i}.png' for i in range(4)), 'the red square')
    assert (code, stderr.count('error')) == (0, 0)
    assert '4 frames, 64x48, 10 frames/s' in stdout
    assert len(list((project / 'out' / 'masks' / '0_the-red-square').iterdir())) == 4


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('0', 'red'), 'a camera has no end'),
        (('98', 'red', '--max-frames', '3'), 'camera 98 cannot be opened'),
        (('video.mp4', 'red', '--max-frames', '0'), 'number of frames'),
        (('video.mp4', 'red', '--launcher', 'pytorch'), 'video.mp4 is a single one'),
        (('video.mp4', 'video.gif'), 'no sentence is given'),
        (('*.mkv', 'red'), 'no file fits to *.mkv'),
    ],
)
def test_inputs_that_cannot_be_are_refused(infer, args, message):
    code, stdout, stderr = infer(*args)
    assert (code, stdout) == (2, '')
    assert stderr.startswith('error: ') and message in stderr
