"""``verify_dataset.py`` and ``browse_dataset.py`` as a user runs them."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures_rvos import write_ref_youtube_vos
from PIL import Image

from referformer.visualization import palette

REPO = Path(__file__).resolve().parents[2]
CONFIG = """
pipeline = [
    dict(type='SampleFrames'),
    dict(type='LoadFrames', draft=True),
    dict(type='LoadMasks'),
    dict(type='RandomFlip', prob=1.0),
    dict(type='RandomResize', scales=(24,)),
    dict(type='FilterVisible'),
    dict(type='PackClip'),
]
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadMasks', with_control=True),
    dict(type='Resize', shorter=24, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[
    dict(type='RVOSDataset', data_root='data', num_frames=3, pipeline=pipeline),
]))
val_dataloader = dict(dataset=dict(
    type='RVOSDataset', data_root='data', split='valid', pipeline=test_pipeline))
test_dataloader = val_dataloader
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a config and its data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    write_ref_youtube_vos(tmp_path / 'data', num_train=3, num_frames=7)
    Path('config.py').write_text(CONFIG)
    return tmp_path


@pytest.fixture
def run(project, capsys, monkeypatch):
    """Runs a tool; returns exit code, stdout and stderr."""

    def call(name, *args):
        path = REPO / f'tools/dataset_tools/{name}_dataset.py'
        spec = importlib.util.spec_from_file_location(f'{name}_dataset', path)
        tool = importlib.util.module_from_spec(spec)
        # Worker processes look functions up by the module's name.
        monkeypatch.setitem(sys.modules, spec.name, tool)
        spec.loader.exec_module(tool)
        code = 0
        try:
            tool.main(['config.py', *args])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def values(stdout):
    """The numbers of the table, by label; of the last dataset that has the label."""
    rows = (line.strip().rsplit('  ', 1) for line in stdout.splitlines() if '  ' in line.strip())
    return {label.strip(): value.strip() for label, value in rows}


def test_sound_data_is_counted_and_drawn(run):
    code, stdout, stderr = run('verify', '--workers', '2', '--split', 'train', '--num', '2')
    assert code == 0, stderr
    assert 'reading: 100%' in stderr
    found = values(stdout)
    # 3 videos of 7 frames with 4 sentences; the second object is absent on the last frame.
    assert (found['videos'], found['sentences'], found['items']) == ('3', '12', '36')
    assert (found['frames read'], found['masks read']) == ('21', '84')
    assert found['empty masks (object out of view)'] == '6'
    assert found['missing files'] == found['corrupt files, absent objects'] == '0'
    assert found['sizes (videos): 1'] == '64x48 (3)'
    assert 'no problems' in stdout
    folder = Path('work_dirs/verify/config/train_RVOSDataset')
    assert sorted(path.name for path in folder.iterdir()) == ['sample_0.png', 'sample_1.png']
    with Image.open(folder / 'sample_0.png') as image:
        assert image.width > 480


def test_clips_with_all_objects_are_read_and_drawn(run):
    names = ('SampleFrames', 'LoadFrames', 'LoadMasks')
    steps = ', '.join(f"dict(type='{name}')" for name in names)
    Path('config.py').write_text(f"""
train_dataloader = dict(dataset=dict(
    type='ObjectAttributes', data_root='data', num_frames=3,
    attributes=dict(category=('dog', 'cat')), pipeline=[{steps}, dict(type='PackClip')]))
""")
    code, stdout, stderr = run('verify', '--workers', '1', '--num', '1')
    assert code == 0, stdout + stderr
    found = values(stdout)
    # 3 videos of 7 frames with 2 objects, of which the second is absent on the last frame.
    assert (found['videos'], found['sentences'], found['items']) == ('3', '0', '9')
    assert (found['masks read'], found['empty masks (object out of view)']) == ('42', '3')
    with Image.open('work_dirs/verify/config/train_ObjectAttributes/sample_0.png') as image:
        tile = np.asarray(image.convert('RGB')).reshape(-1, 3).astype(int)
    for colour in palette(2):
        assert (np.abs(tile - np.array(colour)).sum(1) < 40).any()


def test_all_splits_are_read_and_equal_ones_once(run):
    code, stdout, _ = run('verify', '--num', '0')
    assert code == 0
    assert [line for line in stdout.splitlines() if line.endswith(': data')] == [
        'train RVOSDataset: data',
        'val+test RVOSDataset: data',
    ]


def test_everything_that_is_broken_is_found(run):
    train = Path('data/train')
    (train / 'JPEGImages/train0/00005.jpg').unlink()
    (train / 'JPEGImages/train0/00020.jpg').unlink()
    path = train / 'JPEGImages/train1/00010.jpg'
    path.write_bytes(path.read_bytes()[:-99])
    (train / 'Annotations/train1/00030.png').write_bytes(b'')
    for path in (train / 'Annotations/train2').iterdir():
        Image.fromarray(np.uint8(np.asarray(Image.open(path)) == 1)).save(path)
    path = Path('data/meta_expressions/train/meta_expressions.json')
    content = json.loads(path.read_text())
    content['videos']['train0']['expressions']['3'].pop('obj_id')
    path.write_text(json.dumps(content))

    code, stdout, _ = run('verify', '--split', 'train')
    assert code == 1
    found = values(stdout)
    assert found['sentences without object, left out'] == '1'
    assert found['missing files'] == '2'
    # A frame, a mask, and an object that two sentences mean.
    assert found['corrupt files, absent objects'] == '4'
    assert found['frames read'] == '18'
    problems = Path('work_dirs/verify/config/problems.txt').read_text()
    for text in (
        'train0/00005.jpg not found',
        'train0/00020.jpg not found',
        'train1/00010.jpg cannot be read',
        'train1/00030.png cannot be read: it is no image',
        'train2: no mask has the object 2 of the expression 3',
        'expression 3 of video train0 has no obj_id',
    ):
        assert problems.count(text) == 1, text
    assert len(problems.splitlines()) == 7


def test_a_wrong_layout_is_a_problem_like_others(run):
    Path('data/valid/JPEGImages').rename('data/valid/frames')
    code, stdout, _ = run('verify', '--num', '0')
    assert code == 1
    assert 'JPEGImages not found' in stdout and 'holds: Annotations, frames' in stdout
    assert '1 problems' in stdout


@pytest.mark.parametrize('tool', ['verify', 'browse'])
def test_a_split_must_be_in_the_config(run, tool):
    Path('config.py').write_text(CONFIG.replace('val_dataloader = dict', 'other = dict', 1))
    Path('config.py').write_text(
        Path('config.py').read_text().replace('test_dataloader = val_dataloader', '')
    )
    code, _, stderr = run(tool, '--split', 'val')
    assert code == 2 and 'has no val_dataloader' in stderr


def test_browsing_shows_what_training_sees(run):
    code, stdout, stderr = run('browse', '--num', '3', '--out', 'pictures')
    assert code == 0, stderr
    assert '3 pictures: pictures' in stdout
    names = sorted(path.name for path in Path('pictures').iterdir())
    assert len(names) == 3 and names[0].startswith('000_train')
    first = [Path('pictures', name).read_bytes() for name in names]
    code, _, stderr = run('browse', '--out', 'pictures')
    assert code == 2 and '--overwrite' in stderr
    code, *_ = run('browse', '--num', '3', '--out', 'pictures', '--overwrite')
    assert code == 0
    assert first == [Path('pictures', name).read_bytes() for name in names]  # by the seed


def test_browsing_wants_pictures(run):
    code, _, stderr = run('browse', '--num', '0')
    assert code == 2 and '--num must be at least 1' in stderr
