"""Broken annotation files: a clear error, or a data set whose items can be read."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from fixtures_a2d import write_a2d_sentences
from fixtures_instances import write_pictures
from fixtures_jhmdb import write_jhmdb_sentences
from fixtures_mevis import write_mevis
from fixtures_refcoco import write_refcoco
from fixtures_rvos import CATEGORIES, write_ref_youtube_vos
from fuzzing import Child, Tally, mutate, write_json

from referformer import datasets
from referformer.datasets import verification
from referformer.evaluation.metrics.submission import read_entries
from referformer.evaluation.scoring import expression_files, images
from referformer.inference.coco import NAME
from referformer.inference.prediction import ClipPrediction, VideoPrediction

_SAMPLE = {'type': 'SampleFrames', 'mode': 'all'}


def load(name: str, folder: Path, split: str, *steps: str, **options) -> None:
    """All items of a data set, as they are read in training and in testing."""
    pipeline = [_SAMPLE, *({'type': step} for step in steps)]
    options.update({'split': split} if split else {})
    dataset = getattr(datasets, name)(folder, pipeline=pipeline, **options)
    for index in range(min(len(dataset), 4)):
        dataset[index]
    problems = verification.Problems()
    verification.group_by_video(dataset, problems)


def score_images(folder: Path) -> None:
    truth = images.read_annotation(folder / 'truth.json')
    found, _ = images.read_predictions(folder / 'result.json', truth, progress=False)
    images.summarise_images(images.score_images(truth, found, progress=False))


def score_videos(folder: Path, read) -> None:
    for video in read(folder):
        jobs = expression_files.expression_jobs(folder / 'pred', [video])
        jobs[0].check()
        jobs[0].score()


YTVOS, MEVIS = 'meta_expressions/{}/meta_expressions.json', '{}/meta_expressions.json'
# Name: what writes the files, those that are damaged, what reads them.
READERS = {
    'training': (
        write_ref_youtube_vos,
        [YTVOS.format('train'), 'train/meta.json'],
        lambda folder: load('RefYouTubeVOS', folder, 'train', 'LoadFrames', 'LoadMasks'),
    ),
    'testing': (
        write_ref_youtube_vos,
        [YTVOS.format('valid'), 'valid/meta.json'],
        lambda folder: load(
            'RefYouTubeVOS', folder, 'valid', 'LoadFrames', 'LoadMasks',
            shuffled_kinds=['motion'], absent_kinds=[None],
        ),
    ),
    'attributes': (
        write_ref_youtube_vos,
        [YTVOS.format('train'), 'train/meta.json'],
        lambda folder: load(
            'ObjectAttributes',
            folder,
            'train',
            'LoadFrames',
            'LoadMasks',
            attributes={'category': CATEGORIES},
        ),
    ),
    'mevis': (
        write_mevis,
        [MEVIS.format('valid_u'), 'valid_u/mask_dict.json'],
        lambda folder: load('MeViS', folder, 'valid_u', 'LoadFrames', 'LoadRLEMasks'),
    ),
    'a2d': (
        write_a2d_sentences,
        ['a2d_sentences_single_frame_test_annotations.json'],
        lambda folder: load('A2DSentences', folder, 'test', 'LoadVideoFrames', 'LoadH5Masks'),
    ),
    'jhmdb': (
        write_jhmdb_sentences,
        ['jhmdb_sentences_samples_metadata.json'],
        lambda folder: load('JHMDBSentences', folder, '', 'LoadFrames', 'LoadMatMasks'),
    ),
    'refcoco': (
        write_refcoco,
        ['refcoco/instances_refcoco_val.json'],
        lambda folder: load('RefCOCO', folder, 'val', 'LoadFrames', 'LoadCocoMask'),
    ),
    'instances': (
        write_pictures,
        ['instances_val.json'],
        lambda folder: load('InstanceSentences', folder, 'val', 'LoadInstances'),
    ),
    'submission': (
        write_ref_youtube_vos,
        [YTVOS.format('valid')],
        lambda folder: len(read_entries(folder / YTVOS.format('valid'))),
    ),
    'score ytvos': (
        write_ref_youtube_vos,
        [YTVOS.format('valid')],
        lambda folder: score_videos(folder, expression_files.read_ref_youtube_vos),
    ),
    'score mevis': (
        write_mevis,
        [MEVIS.format('valid_u'), 'valid_u/mask_dict.json'],
        lambda folder: score_videos(folder, expression_files.read_mevis),
    ),
    'score images': (
        lambda folder: _write_result(write_refcoco(folder)),
        ['truth.json', 'result.json'],
        score_images,
    ),
    'prediction': (
        lambda folder: _write_prediction(folder),
        [NAME],
        lambda folder: len(VideoPrediction.load(folder).to_rle()),
    ),
}  # fmt: skip


def _write_result(folder: Path) -> Path:
    truth = json.loads((folder / 'refcoco/instances_refcoco_val.json').read_text())
    sizes = {image['id']: [image['height'], image['width']] for image in truth['images']}
    result = [
        {'image_id': i, 'score': 0.5, 'bbox': [1, 1, 5, 5],
         'segmentation': {'size': size, 'counts': [3, size[0] * size[1] - 3]}}
        for i, size in sizes.items()
    ]  # fmt: skip
    (folder / 'truth.json').write_text(json.dumps(truth))
    (folder / 'result.json').write_text(json.dumps(result))
    return folder


def _write_prediction(folder: Path) -> None:
    result = VideoPrediction(['the dog'], 5.0, (8, 10))
    rng = np.random.default_rng(0)
    for start in (0, 2):
        marks = (rng.random((1, 2, 4)), rng.random((1, 2, 2)), rng.random((1, 2)))
        masks = rng.random((1, 2, 8, 10)) < 0.5
        result.append(ClipPrediction(start, None, rng.random(1), masks, *marks))
    result.save(folder / NAME)


def read(name: str, folder: Path) -> None:
    READERS[name][2](folder)


@pytest.fixture(scope='module')
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for name, (write, *_) in READERS.items():
        folder = tmp_path_factory.mktemp(name.replace(' ', '_'))
        made[name] = Path(write(folder) or folder)
    return made


@pytest.mark.parametrize('name', READERS)
def test_annotation_files(name, fuzz, folders):
    rng, tally = random.Random(fuzz.seed), Tally()
    folder = folders[name]
    before = set(folder.rglob('*'))
    contents = {file: (folder / file).read_bytes() for file in READERS[name][1]}
    with Child(read) as child:
        whole = child(name, folder)
        assert whole.kind == 'accepted', whole.detail
        for number in range(fuzz.count(77)):
            file = rng.choice(list(contents))
            (folder / file).write_bytes(write_json(mutate(json.loads(contents[file]), rng), rng))
            outcome = child(name, folder)
            tally.add(outcome, f'{file} number {number} by {name}')
            (folder / file).write_bytes(contents[file])
    tally.check()
    assert set(folder.rglob('*')) == before
