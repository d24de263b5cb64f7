"""The models that come with the package: complete, small, and able to do what is said of them."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from toy_project import REPO

from referformer import zoo
from referformer.apis import ReferFormerInferencer, init_model
from referformer.datasets.synthetic import make_video

FILES = {
    'README.md',
    'card.yml',
    'config.py',
    'curve.png',
    'log.jsonl',
    'model.safetensors',
    'tokenizer',
}
FOLDERS = [p for p in (REPO / 'referformer' / 'zoo').iterdir() if p.is_dir() and p.name[0] != '_']
NAMES = [folder.name for folder in FOLDERS]
LARGEST = {'referformer_vswin-micro_synthetic': 10e6, 'referformer_efflite0_real': 20e6}  # bytes


@pytest.mark.parametrize('name', NAMES)
def test_folders_are_complete_and_small(name):
    assert name in zoo.shipped_models()
    folder = REPO / 'referformer' / 'zoo' / name
    assert {path.name for path in folder.iterdir()} == FILES
    weights = (folder / 'model.safetensors').stat().st_size
    assert weights < LARGEST[name]
    assert sum(path.stat().st_size for path in folder.rglob('*') if path.is_file()) < 20e6
    trained = re.findall(r'tools/(?:dist_)?train\.\w+ (configs/\S+\.py)', readme(folder))
    assert len(trained) >= 2 and all((REPO / config).is_file() for config in trained)


def readme(folder):
    return (folder / 'README.md').read_text()


def test_the_quickstarts_model_is_there():
    assert 'referformer_vswin-micro_synthetic' in NAMES


@pytest.mark.parametrize('name', NAMES)
def test_models_load_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = init_model(name)
    assert not model.training
    assert not any(torch.isnan(p).any() for p in model.parameters())


@pytest.fixture(scope='module')
def inferencer():
    return ReferFormerInferencer('referformer_vswin-micro_synthetic', device='cpu')


def find(inferencer, frames, texts, folder):
    """The masks of each sentence, (sentences, T, H, W)."""
    folder.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f'{t:05d}.png')
    result = inferencer(folder, texts)
    return np.stack([result.masks(i) for i in range(len(texts))])


def sentences_about(video, kind):
    return [e for e in video.expressions if e.kind == kind]


@pytest.mark.slow
def test_the_shipped_model_listens(inferencer, tmp_path):
    """On videos nobody has trained on: the object that a sentence names, not another one."""
    right, swapped = [], []
    for seed in range(4):
        video = make_video((2026, seed), 'valid', num_frames=16)
        sentences = sentences_about(video, 'appearance')
        texts = [e.text for e in sentences]
        found = find(inferencer, video.frames, texts, tmp_path / str(seed))
        for masks, sentence in zip(found, sentences):
            right.append(_iou(masks, video.ids == sentence.obj_id))
            swapped.append(_iou(masks, (video.ids != sentence.obj_id) & (video.ids > 0)))
    assert np.mean(right) > 0.6
    assert np.mean(right) > 2 * np.mean(swapped)


@pytest.mark.slow
def test_the_shipped_model_watches(inferencer, tmp_path):
    """Sentences about motion mean less where the frames are in random order."""
    in_order, shuffled = [], []
    videos = [make_video((2026, seed), 'valid', num_frames=16) for seed in range(8)]
    for number, video in enumerate(video for video in videos if sentences_about(video, 'motion')):
        sentences = sentences_about(video, 'motion')
        order = np.random.default_rng(number).permutation(16)
        for name, frames, scores in (('a', np.arange(16), in_order), ('b', order, shuffled)):
            texts = [e.text for e in sentences]
            found = find(inferencer, video.frames[frames], texts, tmp_path / f'{number}{name}')
            truth = [video.ids[frames] == e.obj_id for e in sentences]
            scores += [_iou(masks, mask) for masks, mask in zip(found, truth)]
    assert len(in_order) == len(shuffled) > 10
    assert np.mean(in_order) > np.mean(shuffled) + 0.2


def test_the_package_brings_the_files(tmp_path):
    done = subprocess.run(
        [sys.executable, 'setup.py', '--quiet', 'build_py', '--build-lib', str(tmp_path)],
        cwd=REPO,
        capture_output=True,
        text=True,
        env={**os.environ, 'REFERFORMER_BUILD_EXT': '0'},
    )
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        folder = tmp_path / 'referformer' / 'zoo' / name
        assert {path.name for path in folder.iterdir()} == FILES
        assert (folder / 'tokenizer' / 'tokenizer.json').is_file()


def _iou(a, b):
    return (a & b).sum() / max(1, (a | b).sum())
