"""What a model's card says about sentences and videos, and the card of the shipped model."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from referformer.apis import init_model
from referformer.datasets.instances import KNOWN
from referformer.datasets.scene_sentences import vocabulary
from referformer.datasets.synthetic import make_video
from referformer.datasets.synthetic.sentences import VOCABULARY
from referformer.zoo.cards import Card, edge_share, read_card

FOLDER = Path(__file__).resolve().parents[1] / 'referformer/zoo/referformer_vswin-micro_synthetic'
REAL = Path(__file__).resolve().parents[2] / 'shared' / 'real'
ADVICE = 'For real videos: referformer get-weights referformer_vswin-b_ytvos'


@pytest.fixture(scope='module')
def card():
    return read_card(FOLDER / 'model.safetensors')


def test_the_card_of_the_shipped_model_has_the_words_of_its_training(card):
    assert card.vocabulary == frozenset(VOCABULARY)
    assert card.domain == 'coloured shapes' and card.advice == ADVICE


def test_unknown_words_are_named_once(card):
    (remark,) = card.remarks(['The running DOG', 'the red dog', 'the red star'])
    assert remark == f'This model knows coloured shapes only; unknown: running, dog. {ADVICE}'


@pytest.mark.parametrize('size', [(48, 80), (96, 160), (288, 480)])
@pytest.mark.parametrize('seed', range(4))
def test_its_own_videos_and_sentences_need_no_remark(card, size, seed):
    video = make_video((2026, seed), 'valid', size=size, num_frames=12)
    assert card.remarks([e.text for e in video.expressions], video.frames) == []


def test_a_video_unlike_its_own_is_remarked_on_whatever_the_sentence(card):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (2, 48, 64, 3), dtype=np.uint8)
    frames = np.stack([cv2.resize(frame, (256, 192)) for frame in coarse])
    (remark,) = card.remarks(['the red star'], frames)
    assert remark.startswith('This model knows coloured shapes only; this video is unlike')
    (remark,) = card.remarks(['the red dog'], frames)
    assert 'unknown: dog; this video is unlike' in remark


@pytest.mark.skipif(not REAL.is_dir(), reason='the real videos are not here (../shared/real)')
@pytest.mark.parametrize('name', ['01_dog.mp4', 'bedroom.mp4'])
def test_real_videos_are_unlike(card, name):
    capture = cv2.VideoCapture(str(REAL / name))
    frame = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)
    assert edge_share(frame[None]) > 1.5 * card.max_edges
    assert card.remarks(['the red thing'], frame[None])


def test_the_share_of_edges_does_not_depend_on_the_size_of_the_frames():
    video = make_video((2026, 1), 'valid', size=(384, 640), num_frames=8)
    small = np.stack([cv2.resize(f, (160, 96), interpolation=cv2.INTER_AREA) for f in video.frames])
    assert edge_share(small) == pytest.approx(edge_share(video.frames), abs=1e-3)
    assert edge_share(np.full((1, 50, 70, 3), 99, np.uint8)) == 0
    step = np.zeros((1, 96, 160, 3), np.uint8)
    step[:, :, 80:] = 200  # blurred, it is steep over about 4 px of each row
    assert 2 / 160 < edge_share(step) < 8 / 160


def test_a_card_without_vocabulary_takes_any_word():
    assert Card('real videos', None, '').remarks(['the running dog']) == []


def test_the_card_belongs_to_the_weights(tmp_path, card):
    name = 'referformer_vswin-micro_synthetic'
    assert init_model(name, device='cpu').card == card
    other = tmp_path / 'model.safetensors'
    other.write_bytes((FOLDER / 'model.safetensors').read_bytes())
    assert init_model(name, other, device='cpu').card is None


@pytest.mark.parametrize(
    'content', ['[', 'domain: x', '- a', 'domain: x\nadvice: y\nvocabulary: 3', 'domain: [\xff']
)
def test_a_broken_card_is_named(tmp_path, content):
    (tmp_path / 'card.yml').write_bytes(content.encode('latin-1'))
    with pytest.raises(ValueError, match=re.escape(f'{tmp_path}/card.yml is no card of a model')):
        read_card(tmp_path / 'model.safetensors')


def test_the_card_of_the_model_for_real_video_has_the_words_of_its_sentences():
    card = read_card(FOLDER.with_name('referformer_efflite0_real') / 'model.safetensors')
    said = vocabulary({name for names in KNOWN.values() for name in names})
    assert set(said) <= card.vocabulary
    assert card.remarks(['the second cat from the left', 'a black swan']) == []
    assert 'unknown: headspin' in card.remarks(['the headspin'])[0]
