"""Ref-DAVIS17 from its published files to the layout of Ref-YouTube-VOS."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures_davis import write_ref_davis
from PIL import Image

TOOL = Path(__file__).resolve().parents[2] / 'tools/dataset_tools/convert_ref_davis.py'
SPEC = importlib.util.spec_from_file_location('convert_ref_davis', TOOL)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    return write_ref_davis(tmp_path / 'data' / 'ref-davis')


@pytest.fixture
def refused(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            tool.main([str(argument) for argument in arguments])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert 'error: ' in error and 'Traceback' not in error
        return error[error.index('error: ') :]

    return run


def read(path):
    return json.loads(path.read_text(encoding='utf-8'))['videos']


def edit(path, old, new):
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))


def test_expressions_are_ordered_by_object_then_annotator(source, capsys):
    tool.main([str(source)])
    printed = capsys.readouterr().out
    assert f'{source / "valid"}: 2 videos, 10 frames, 12 expressions' in printed
    videos = read(source / 'meta_expressions/valid/meta_expressions.json')
    assert list(videos) == ['judo', 'blackswan']
    assert videos['judo']['frames'] == [f'{t:05d}' for t in range(7)]
    expressions = videos['judo']['expressions']
    assert list(expressions) == [str(i) for i in range(8)]
    for i, expression in enumerate(expressions.values()):
        assert expression['obj_id'] == str(i // 4 + 1)
        assert expression['exp'] == f"the person's café no {i // 4 + 1}, by {i % 4}"
    meta = read(source / 'valid/meta.json')
    assert meta['judo']['objects']['3'] == {'category': 'potted plant'}
    # Names that the published files misspell.
    assert list(read(source / 'train/meta.json')) == ['classic-car', 'dogs-scale', 'motorbike']


@pytest.mark.parametrize('images', ['link', 'copy'])
def test_converted_data_moves_with_its_folder(source, images):
    tool.main([str(source), '--images', images])
    converted = source / 'valid/JPEGImages/judo'
    assert converted.is_symlink() == (images == 'link')
    moved = source.parent.rename(source.parent.with_name('moved')) / 'ref-davis'
    if images == 'copy':
        shutil.rmtree(moved / 'DAVIS')
    mask = Image.open(moved / 'valid/Annotations/judo/00006.png')
    assert mask.mode == 'P' and set(np.unique(mask)) == {0, 1, 2, 3, 255}
    assert Image.open(moved / 'train/JPEGImages/dogs-scale/00002.jpg').size == (63, 45)


def test_archives_may_be_in_folders_of_their_names(tmp_path):
    source = write_ref_davis(tmp_path / 'source', archives=True)
    tool.main([str(source), str(tmp_path / 'out')])
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(tool.FOLDERS)
    assert (tmp_path / 'out/train/Annotations/motorbike/00004.png').is_file()


def test_earlier_data_is_kept_unless_told_otherwise(source, refused):
    tool.main([str(source)])
    (source / 'valid/mine.txt').write_text('mine')
    error = refused(source)
    assert 'already there' in error and '--overwrite' in error
    assert (source / 'valid/mine.txt').exists()
    tool.main([str(source), '--overwrite'])
    assert not (source / 'valid/mine.txt').exists()
    assert (source / 'DAVIS/JPEGImages/480p/judo/00000.jpg').is_file(), 'links are not followed'
    assert not list(source.glob('.*'))


def test_missing_archives_are_all_named(source, refused):
    shutil.rmtree(source / 'davis_text_annotations')
    (source / 'DAVIS/davis_semantics.json').unlink()
    error = refused(source)
    assert 'davis_semantics.json of DAVIS-2017_semantics-480p.zip' in error
    assert 'Davis17_annot1.txt of davis_text_annotations.zip' in error
    assert f'Found in {source}: DAVIS' in error
    assert 'Found in nowhere: nothing' in refused('nowhere', source)


TEXT = 'davis_text_annotations/Davis17_annot2_full_video.txt'
IMAGES = 'DAVIS/JPEGImages/480p'
DAMAGE = {
    'a frame without a mask': (
        lambda s: (s / 'DAVIS/Annotations_unsupervised/480p/judo/00003.png').unlink(),
        'judo lacks the masks of 1 of 7 frames: 00003',
    ),
    'a video without frames': (
        lambda s: shutil.rmtree(s / IMAGES / 'blackswan'),
        r'blackswan has no *.jpg files',
    ),
    'a file without an object': (
        lambda s: edit(s / TEXT, 'judo 2', 'judo 3'),
        'the same objects of judo, once each, but there are [1, 2] in Davis17_annot1.txt',
    ),
    'an object described twice': (
        lambda s: edit(s / TEXT, 'judo 2', 'judo 1'),
        '[1, 1] in Davis17_annot2_full_video.txt',
    ),
    'a video without sentences': (
        lambda s: [
            edit(s / f'davis_text_annotations/{name}', 'blackswan 1', 'swan 1')
            for name in tool.TEXT_FILES
        ],
        'the same objects of blackswan',
    ),
    'a line without a number': (
        lambda s: edit(s / TEXT, 'judo 2', 'judo two'),
        'line 3 is not of the form: video object "sentence"',
    ),
    'an empty sentence': (
        lambda s: edit(s / TEXT, '"a video of another split"', '" "'),
        'line 1 is empty',
    ),
    'a missing text file': (lambda s: (s / TEXT).unlink(), 'annot2_full_video.txt not found'),
    'an unknown category': (
        lambda s: edit(s / 'DAVIS/davis_semantics.json', '"bird"', '"swan"'),
        "object 1 of blackswan has the category 'swan', not one of the 78",
    ),
    'a file that ends early': (
        lambda s: edit(s / 'DAVIS/davis_semantics.json', '}}', ''),
        'davis_semantics.json is not valid JSON',
    ),
}


@pytest.mark.parametrize('name', DAMAGE)
def test_damage_is_named_before_anything_is_written(source, refused, name):
    damage, message = DAMAGE[name]
    damage(source)
    assert message in refused(source)
    assert sorted(path.name for path in source.iterdir()) == ['DAVIS', 'davis_text_annotations']
