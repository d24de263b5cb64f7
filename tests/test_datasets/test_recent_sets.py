"""MeViS v2, Long-RVOS, ReVOS: sentences about nothing, folders of masks, ids in folders."""

import json

import numpy as np
import pytest
from fixtures_mevis import draw_masks
from fixtures_recent import SIZE, save_mask, write_long_rvos, write_mevis_v2, write_revos
from PIL import Image

from referformer.commands import verify
from referformer.datasets import LongRVOS, MeViS, ReVOS
from referformer.datasets.transforms import (
    FilterVisible,
    LoadFrames,
    LoadObjectMasks,
    LoadRLEMasks,
    PackClip,
    SampleFrames,
)

ALL = (SampleFrames(mode='all'), LoadFrames())
RLE = (*ALL, LoadRLEMasks(), PackClip())
FOLDERS = (*ALL, LoadObjectMasks(with_control=True), PackClip())


@pytest.fixture
def mevis(tmp_path):
    return write_mevis_v2(tmp_path / 'mevis_v2')


@pytest.fixture
def revos(tmp_path):
    return write_revos(tmp_path / 'revos')


@pytest.fixture
def long_rvos(tmp_path):
    return write_long_rvos(tmp_path / 'long_rvos')


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_sentences_about_nothing_have_an_empty_target(mevis):
    dataset = MeViS(mevis, 'valid_u', version=2, pipeline=(*ALL, LoadRLEMasks(), PackClip()))
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    empty = [s for s in samples if s.obj_id == ()]
    assert [(s.video_id, s.exp_id) for s in empty] == [('9f8e7d', '3'), ('nobody', '3')]
    for sample in empty:
        truth = sample.gt_instances
        assert truth.masks.shape[:2] == truth.valid.shape == (1, len(sample.frame_names))
        assert not truth.masks.any() and not truth.valid.any()
    assert all(s.gt_instances.valid.any() for s in samples if s not in empty)
    assert len(dataset.metainfo['expected']) == 5


def test_sentences_about_nothing_are_trained_on(mevis):
    pipeline = (SampleFrames(), LoadFrames(), LoadRLEMasks(), FilterVisible(), PackClip())
    dataset = MeViS(mevis, 'train', version=2, num_frames=3, pipeline=pipeline)
    nothing = [i for i in range(len(dataset)) if dataset.get_data_info(i)['obj_id'] == ()]
    assert len(nothing) == 4
    np.random.seed(0)
    assert not dataset[nothing[0]]['data_samples'].gt_instances.valid.any()


def test_version_1_and_lists_that_are_none_are_refused(mevis):
    edit(mevis / 'valid_u/meta_expressions_v2.json', lambda c: c['videos'].pop('nobody'))
    with pytest.raises(ValueError, match='expression 3 of video 9f8e7d names no object'):
        MeViS(mevis, 'valid_u', ann_file='valid_u/meta_expressions_v2.json')
    with pytest.raises(ValueError, match='version must be 1 or 2, not 3'):
        MeViS(mevis, 'valid_u', version=3)


def test_the_released_valid_file_is_found(mevis):
    dataset = MeViS(mevis, 'valid', version=2, pipeline=(*ALL, LoadRLEMasks(), PackClip()))
    assert dataset.ann_file.endswith('valid/meta_expressions_v2_release.json')
    assert len(dataset) == 4 and 'gt_instances' not in dataset[3]['data_samples']


def test_revos_has_kinds_and_ids_in_folders(revos):
    dataset = ReVOS(revos, 'valid', pipeline=RLE)
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    assert [s.video_id for s in samples] == 3 * ['TAO/b'] + 3 * ['TAO/c']
    assert [s.kind for s in samples] == 2 * ['referring', 'reasoning', 'nothing']
    assert not samples[2].gt_instances.masks.any()
    objects = [draw_masks(k, 3, SIZE, 3) for k in range(3)]
    assert (samples[0].gt_instances.masks[0].numpy() == objects[0]).all()
    for sample in samples[:3]:  # the same for all sentences of a video, whatever they name
        assert (sample.gt_foreground.masks[0].numpy() == np.any(objects, 0)).all()
    only = ReVOS(revos, 'valid', pipeline=RLE, kinds=['referring'])
    assert len(only) == 2
    assert (only[0]['data_samples'].gt_foreground.masks[0].numpy() == np.any(objects, 0)).all()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda e: e.update(type_id=3), r'expressions.1.type_id must be one of .*, not 3'),
        (lambda e: e.pop('type_id'), 'expressions.1.type_id is missing'),
    ],
)
def test_revos_refuses_unknown_types(revos, change, message):
    path = revos / 'meta_expressions_valid_.json'
    edit(path, lambda c: change(c['videos']['TAO/b']['expressions']['1']))
    with pytest.raises(ValueError, match=message):
        ReVOS(revos, 'valid')


@pytest.mark.parametrize('name', ['../b', 'TAO//b', '/b', 'TAO/..'])
def test_folders_in_folders_stay_in_theirs(revos, name):
    path = revos / 'meta_expressions_valid_.json'
    edit(path, lambda c: c['videos'].update({name: c['videos'].pop('TAO/b')}))
    with pytest.raises(ValueError, match='must be a plain name'):
        ReVOS(revos, 'valid')


def test_revos_names_the_folders_it_lacks(revos):
    (revos / 'JPEGImages/TAO/c').rename(revos / 'JPEGImages/TAO/d')
    with pytest.raises(FileNotFoundError, match='lacks the folders of 1 videos: TAO/c'):
        ReVOS(revos, 'valid')


def test_a_missing_file_of_long_rvos_is_an_absent_object(long_rvos):
    dataset = LongRVOS(long_rvos, 'valid', pipeline=FOLDERS)
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    assert [s.kind for s in samples] == 2 * ['static', 'dynamic', 'hybrid']
    assert [s.obj_id for s in samples[:3]] == [1, 2, 1]
    first, second = (draw_masks(k, 5, SIZE, 2) for k in range(2))
    assert not (long_rvos / 'valid/Annotations/two/2/00000.png').exists()
    for sample, target, control in zip(samples[:2], (first, second), (second, first)):
        assert (sample.gt_instances.masks[0].numpy() == target).all()
        assert (sample.gt_control.masks[0].numpy() == control).all()
    assert samples[1].gt_instances.valid.tolist() == [[False, True, True, True, True]]


def test_long_rvos_test_has_no_masks(long_rvos):
    dataset = LongRVOS(long_rvos, 'test', pipeline=FOLDERS)
    assert len(dataset) == 3 and 'gt_instances' not in dataset[0]['data_samples']


def remove_object(root):
    for path in (root / 'valid/Annotations/two/1').iterdir():
        path.unlink()


def enlarge(root):
    save_mask(root / 'valid/Annotations/two/1/00002.png', np.ones((50, 64), bool))


def break_file(root):
    (root / 'valid/Annotations/two/1/00002.png').write_bytes(b'no picture')


def colour(root):
    Image.new('RGB', SIZE[::-1]).save(root / 'valid/Annotations/two/1/00002.png')


BROKEN = {
    'no mask at all': (remove_object, FileNotFoundError, r'two/1 holds no mask of any frame'),
    'another size': (enlarge, ValueError, r'00002.png has height and width \(50, 64\)'),
    'no picture': (break_file, ValueError, r'two/1/00002.png cannot be read'),
    'colours': (colour, ValueError, r'two/1/00002.png cannot be read: a palette image'),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_masks_of_long_rvos_are_named(long_rvos, name):
    change, error, message = BROKEN[name]
    change(long_rvos)
    with pytest.raises(error, match=message):
        LongRVOS(long_rvos, 'valid', pipeline=FOLDERS)[0]


@pytest.mark.parametrize('kind', [['a'], 'all', ''])
def test_long_rvos_refuses_types_that_are_no_words(long_rvos, kind):
    path = long_rvos / 'valid/meta_expressions.json'
    edit(path, lambda c: c['videos']['two']['expressions']['1'].update(type=kind))
    with pytest.raises(ValueError, match=r'videos.two.expressions.1.type must be a word'):
        LongRVOS(long_rvos, 'valid')


@pytest.mark.parametrize('name', ['mevis-v2', 'revos', 'long-rvos'])
def test_verify_reads_everything(name, request, tmp_path, monkeypatch, capsys):
    """Sentences about nothing are counted, not reported; a broken file is."""
    root = request.getfixturevalue(name.removesuffix('-v2').replace('-', '_'))
    config = f'configs/referformer_swin-t_{name}.py'
    options = [f'{part}_dataloader.dataset.data_root={root}' for part in ('train', 'test')]
    arguments = [
        config,
        '--num',
        '0',
        '--workers',
        '1',
        '--out',
        str(tmp_path / 'out'),
        '--cfg-options',
        *options,
    ]
    assert run_verify(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if 'about nothing' in line or 'never shows' in line]
    nothing = {'mevis-v2': ['2', '2'], 'revos': ['1', '2'], 'long-rvos': ['0', '0']}[name]
    assert [row[-1] for row in rows] == [nothing[0], '0', nothing[1], '0']
    frame = next((root / {'revos': 'JPEGImages/UVO'}.get(name, 'train')).rglob('*.jpg'))
    frame.write_bytes(b'no picture')
    assert run_verify(arguments) == 1
    assert frame.name in capsys.readouterr().out


def run_verify(arguments):
    try:
        verify.main(arguments)
    except SystemExit as end:
        return end.code or 0
    return 0
