"""Ground truth of A2D- and JHMDB-Sentences as files of the COCO kind."""

import importlib.util
import json

import numpy as np
import pytest
from fixtures_a2d import INSTANCES, VIDEO_IDS, mask_file, write_a2d_sentences
from fixtures_jhmdb import VIDEOS, write_jhmdb_sentences
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.io import loadmat
from toy_project import REPO

from referformer.datasets.transforms.loading_annotations import read_h5_mask
from referformer.evaluation.measures.referring import FrameMasks, mask_average_precision

NAMES = {
    'a2d': 'a2d_sentences_test_annotations_in_coco_format.json',
    'jhmdb': 'jhmdb_sentences_gt_annotations_in_coco_format.json',
}


@pytest.fixture(scope='module')
def tool():
    path = REPO / 'tools' / 'dataset_tools' / 'convert_a2d_jhmdb.py'
    spec = importlib.util.spec_from_file_location('convert_a2d_jhmdb', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=['a2d', 'jhmdb'])
def root(request, tmp_path):
    write = {'a2d': write_a2d_sentences, 'jhmdb': write_jhmdb_sentences}[request.param]
    return write(tmp_path / request.param, size=(45, 63))


def expected_masks(root):
    """Name of the image -> mask, from the files as they were written."""
    if root.name == 'a2d':
        return {
            f'v_{video_id}_f_{t}_i_{k}': read_h5_mask(mask_file(root, video_id, t), k)
            for number, video_id in enumerate(VIDEO_IDS['test'])
            for t in (1, 7, 12)
            for k in INSTANCES[: 2 - number]
        }
    masks = {}
    for action, video_id in VIDEOS[:2]:
        path = root / 'puppet_mask' / action / video_id / 'puppet_mask.mat'
        for t in (1, 5, 8):
            masks[f'v_{video_id}_f_{t}'] = loadmat(path)['part_mask'][..., t - 1] > 0
    return masks


def test_the_file_holds_every_mask_by_its_published_name(tool, root, capsys):
    tool.main([root.name, str(root)])
    path = root / NAMES[root.name]
    expected = expected_masks(root)
    empty = sum(not mask.any() for mask in expected.values())
    assert empty > 0
    message = f'{path}: {len(expected)} annotated frames, {empty} of them without the object'
    assert message in capsys.readouterr().out
    coco = COCO(str(path))
    assert [image['id'] for image in coco.dataset['images']] == list(expected)
    annotations = coco.dataset['annotations']
    assert [annotation['id'] for annotation in annotations] == list(range(1, len(expected) + 1))
    for annotation in annotations:
        mask = expected[annotation['image_id']]
        image = coco.imgs[annotation['image_id']]
        assert (image['height'], image['width']) == mask.shape == (45, 63)
        assert np.array_equal(coco.annToMask(annotation), mask)
        assert annotation['area'] == mask.sum()
        x, y, width, height = map(int, annotation['bbox'])
        assert mask[y : y + height, x : x + width].sum() == mask.sum() == width * height
        assert annotation['category_id'] == 1 and annotation['iscrowd'] == 0


def test_masks_of_the_file_score_fully_against_themselves(tool, root):
    tool.main([root.name, str(root)])
    content = json.loads((root / NAMES[root.name]).read_text())
    codes = [a['segmentation'] for a in content['annotations'] if a['area'] > 0]
    frames = [FrameMasks(code, (code,), (1.0,)) for code in codes]
    assert mask_average_precision(frames)['mAP'] == pytest.approx(1)
    assert all(coco_mask.decode(code).any() for code in codes)


def test_files_are_like_the_published_ones(tool, root, shared_dir):
    tool.main([root.name, str(root)])
    ours = json.loads((root / NAMES[root.name]).read_text())
    path = shared_dir / 'parity' / 'metrics' / f'{root.name}_eval.json'
    theirs = json.loads(path.read_text())['ground_truth']
    assert set(ours) == set(theirs)
    for key in ours:
        assert set(ours[key][0]) == set(theirs[key][0])
        for name, value in theirs[key][0].items():
            assert type(ours[key][0][name]) is type(value), name


def refused(tool, capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        tool.main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    return error


def test_a_file_that_is_there_is_kept(tool, root, tmp_path, capsys):
    out = tmp_path / 'there.json'
    out.write_text('old')
    assert 'there.json is already there' in refused(tool, capsys, root.name, root, out)
    assert out.read_text() == 'old'
    tool.main([root.name, str(root), str(out), '--overwrite'])
    assert json.loads(out.read_text())['images']


def test_broken_data_leaves_no_file(tool, tmp_path, capsys):
    root = write_a2d_sentences(tmp_path)
    path = mask_file(root, VIDEO_IDS['test'][1], 12)
    path.write_bytes(b'no h5')
    assert f'{path}: ' in refused(tool, capsys, 'a2d', root)
    assert not (root / NAMES['a2d']).exists()
    assert 'nowhere not found' in refused(tool, capsys, 'jhmdb', tmp_path / 'nowhere')


def test_two_sentences_on_one_frame_have_no_place(tool, tmp_path, capsys):
    root = write_jhmdb_sentences(tmp_path)
    path = root / 'jhmdb_sentences_samples_metadata.json'
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, [*rows[0][:4], 'another sentence']]))
    error = refused(tool, capsys, 'jhmdb', root)
    assert f'two sentences are annotated as v_{VIDEOS[0][1]}_f_1' in error
