"""Many videos: found, dealt to processes, each whole or not at all, what failed is said."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_processes import free_port
from PIL import Image
from stub_segmenter import CONFIG, colour_video

from referformer.commands.infer import main
from referformer.inference.many import join_processes, list_videos, plan
from referformer.video_io import VideoWriter

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Five videos, of which c.mp4 is none; config and weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    (tmp_path / 'config.py').write_text(CONFIG)
    torch.save({'state_dict': {'scale': torch.ones(3)}}, tmp_path / 'weights.pth')
    (tmp_path / 'videos').mkdir()
    for i, name in enumerate('abde'):
        frames, _ = colour_video(3 + i)
        with VideoWriter(tmp_path / 'videos' / f'{name}.mp4', 10, (48, 64)) as writer:
            for frame in frames:
                writer.write(frame)
    (tmp_path / 'videos' / 'c.mp4').write_text('no video')
    return tmp_path


OPTIONS = ['--config', 'config.py', '--checkpoint', 'weights.pth', '--out', 'out']


def infer(capsys, *args):
    code = 0
    try:
        main([*args, *OPTIONS])
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def contents(folder):
    """Every file below with its bytes; videos and scores among them."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_a_bad_video_is_reported_at_the_end_and_stops_nothing(project, capsys):
    code, stdout, stderr = infer(capsys, 'videos/*.mp4', 'the red square')
    assert code == 1
    assert '5 videos: 4 segmented, 0 were there, 1 failed' in stdout
    assert stderr.splitlines()[-1].startswith('error: videos/c.mp4: videos/c.mp4 has no frames')
    assert sorted(os.listdir('out')) == ['a', 'b', 'd', 'e']
    for i, name in enumerate('abde'):
        masks = sorted(Path('out', name, 'masks', '0_the-red-square').iterdir())
        assert len(masks) == 3 + i
        assert all(np.asarray(Image.open(mask)).any() for mask in masks)


def test_a_second_run_does_what_is_missing(project, capsys):
    infer(capsys, 'videos', 'red')
    before = contents(project / 'out')
    stamps = {name: os.stat(f'out/{name}').st_mtime_ns for name in 'abde'}
    os.replace('out/b', 'b-elsewhere')
    os.replace('videos/e.mp4', 'videos/c.mp4')
    code, stdout, _ = infer(capsys, 'videos', 'red')
    assert (code, '4 videos: 2 segmented, 2 were there, 0 failed' in stdout) == (0, True)
    after = contents(project / 'out')
    assert all(after[path] == before[path] for path in before if path.suffix == '.png')
    assert os.stat('out/a').st_mtime_ns == stamps['a']
    code, _, stderr = infer(capsys, 'videos/a.mp4', 'videos/b.mp4', 'blue')
    assert code == 1 and stderr.count("with the sentences ['red']") == 2
    assert infer(capsys, 'videos/a.mp4', 'videos/b.mp4', 'blue', '--overwrite')[0] == 0
    assert os.listdir('out/a/masks') == ['0_blue']


def test_a_list_may_say_the_sentences(project, capsys):
    Path('list.txt').write_text('# mine\nvideos/a.mp4\tred\tblue\n\nvideos/b.mp4\n')
    assert infer(capsys, 'list.txt', 'the blue bar')[0] == 0
    assert sorted(os.listdir('out/a/masks')) == ['0_red', '1_blue']
    assert os.listdir('out/b/masks') == ['0_the-blue-bar']
    code, _, stderr = infer(capsys, 'list.txt')
    assert (code, 'no sentence is given' in stderr) == (2, True)


def test_lists_patterns_and_folders_name_the_same(project):
    Path('frames/one').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save('frames/one/0.png')
    videos = [f'videos/{name}.mp4' for name in 'abcde']
    Path('list.txt').write_text('\n'.join([*videos, 'https://host/f.mp4']))
    assert list_videos('videos/*.mp4') == list_videos('videos') == [(v, []) for v in videos]
    assert list_videos('list.txt') == [*((v, []) for v in videos), ('https://host/f.mp4', [])]
    assert list_videos('frames') == [('frames/one', [])]
    for single in ('videos/a.mp4', 'frames/one', 'frames/one/*.png', 'https://host/f.mp4'):
        assert list_videos(single) is None
    Path('empty').mkdir()
    with pytest.raises(ValueError, match='empty names no video'):
        list_videos('empty')
    with pytest.raises(FileNotFoundError, match=r'nowhere/\*'):
        list_videos('nowhere/*.mp4')


def test_every_video_has_a_folder_of_its_own():
    videos = [(v, []) for v in ('x/a.mp4', 'y/a.mp4', 'b.mp4', 'https://host/c.mp4?key=1')]
    assert [job.name for job in plan(videos, ['red'])] == ['x_a.mp4', 'y_a.mp4', 'b', 'c']


def start(environments, args, wait=True):
    """Run the command in processes at once; exit code, stdout and stderr of each."""
    command = [sys.executable, '-c', 'from referformer.commands.infer import main; main()']
    path = os.pathsep.join([str(REPO), str(REPO / 'tests')])
    common = {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    running = [
        subprocess.Popen([*command, *args, *OPTIONS], env={**common, **own}, **pipes)
        for own in environments
    ]
    if not wait:
        return running
    ended = [process.communicate(timeout=240) for process in running]
    return [(p.returncode, *texts) for p, texts in zip(running, ended)]


@pytest.mark.slow
def test_a_killed_run_leaves_no_half_video_and_the_next_one_makes_it(project, capsys):
    with VideoWriter('videos/long.mp4', 10, (48, 64)) as writer:
        for frame in colour_video(600)[0]:
            writer.write(frame)
    args = ['videos/a.mp4', 'videos/long.mp4', 'red', '--window', '1']
    process = start([{}], args, wait=False)[0]
    while not list(Path().glob('out/long.tmp-*/masks/0_red/*.png')):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    names = sorted(os.listdir('out'))
    assert names[0] == 'a' and names[1].startswith('long.tmp-') and len(names) == 2
    assert '1 segmented, 1 were there' in infer(capsys, *args)[1]
    assert len(os.listdir('out/long/masks/0_red')) == 600


@pytest.mark.slow
@pytest.mark.parametrize('launcher', ['pytorch', 'slurm'])
def test_processes_share_the_videos(project, capsys, launcher):
    infer(capsys, 'videos', 'red')
    alone = contents(project / 'out')
    os.replace('out', 'alone')
    names = {
        'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
        'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    }[launcher]
    common = {'MASTER_PORT': str(free_port()), 'SLURM_NODELIST': 'here'}
    if launcher == 'pytorch':
        common['MASTER_ADDR'] = '127.0.0.1'
    else:  # Slurm's own program tells the host
        Path('scontrol').write_text('#!/bin/sh\necho 127.0.0.1\n')
        os.chmod('scontrol', 0o755)
        common['PATH'] = os.pathsep.join([str(project), os.environ['PATH']])
    ranks = [common | dict(zip(names, (str(rank), '2', str(rank)))) for rank in range(2)]
    first, second = start(ranks, ['videos', 'red', '--launcher', launcher])
    assert (first[0], second[0]) == (1, 0), first[2] + second[2]
    assert '5 videos: 4 segmented, 0 were there, 1 failed' in first[1]
    assert 'error: videos/c.mp4' in first[2] and 'error' not in second[2]
    assert ('videos/a.mp4' in first[1], 'videos/b.mp4' in second[1]) == (True, True)
    assert contents(project / 'out') == alone


def test_a_launcher_that_did_not_start_this_process_is_named(monkeypatch):
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r'--launcher pytorch needs RANK.*torchrun'):
        join_processes('pytorch')
    with pytest.raises(ValueError, match=r'--launcher slurm needs SLURM_PROCID.*srun'):
        join_processes('slurm')
