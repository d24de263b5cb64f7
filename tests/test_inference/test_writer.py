"""Files of a result: videos, mattes, cutouts, sheets."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from stub_segmenter import CONFIG, colour_video

from referformer.apis import ReferFormerInferencer, init_model
from referformer.inference import VideoPrediction, segment_video
from referformer.video_io import VideoReader

TEXTS = ['the red square', 'a blue bar']


@pytest.fixture(scope='module')
def model():
    return init_model(Config.fromstring(CONFIG, '.py'))


@pytest.fixture
def frames(tmp_path):
    """A folder of frames whose names are no numbers."""
    folder = tmp_path / 'frames'
    folder.mkdir()
    for t, frame in enumerate(colour_video(6)[0]):
        Image.fromarray(frame).save(folder / f'img{t}.png')
    return folder


def test_mattes_and_cutouts_are_of_each_sentence(model, frames, tmp_path):
    out = tmp_path / 'out'
    extras = ('matte', 'cutout', 'cutout-png')
    result = ReferFormerInferencer(model)(frames, TEXTS, out, extras=extras)
    images = np.stack(list(VideoReader(frames)))
    for i, name in enumerate(('0_the-red-square', '1_a-blue-bar')):
        masks = result.masks(i)
        matte = np.stack(list(VideoReader(out / 'matte' / f'{name}.mp4')))
        assert ((matte > 127).all(-1) == masks).mean() > 0.99, 'the codec changes edges only'
        cutout = np.stack(list(VideoReader(out / 'cutout' / f'{name}.mp4'))).astype(int)
        assert np.abs(cutout - images * masks[..., None]).mean() < 4
        for t, mask in enumerate(masks):
            rgba = np.asarray(Image.open(out / 'cutout-png' / name / f'img{t}.png'))
            assert (rgba[..., :3] == images[t]).all()
            assert (rgba[..., 3] == mask * 255).all()
    assert {'matte', 'cutout', 'cutout-png'} <= result.files.keys()
    assert all(path.exists() for path in result.files.values())
    # Such a folder can be replaced.
    ReferFormerInferencer(model)(frames, 'red', out, overwrite=True)
    assert not (out / 'matte').exists()


def test_unknown_extras_are_refused_before_anything_is_written(model, frames, tmp_path):
    with pytest.raises(ValueError, match="no extra 'mate'; there are: matte, cutout"):
        ReferFormerInferencer(model)(frames, 'red', tmp_path / 'out', extras=['mate'])
    assert [path.name for path in tmp_path.iterdir()] == ['frames']


def test_scores_say_where_there_is_no_mask(model, frames, tmp_path):
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(frames / 'img2.png')
    ReferFormerInferencer(model)(frames, ['red', 'green', 'a blue bar'], tmp_path / 'out')
    summary = json.loads((tmp_path / 'out' / 'scores.json').read_text())
    notes = [sentence['note'] for sentence in summary['sentences']]
    gone = 'no mask in {} of 6 frames'
    assert notes == [gone.format(1), gone.format(6), gone.format(1)]
    assert summary['remarks'] == []


class Card:
    """Of a model that knows nothing."""

    def remarks(self, texts, frames):
        assert frames.shape == (6, 48, 64, 3)
        return [f'unknown: {", ".join(texts)}']


def test_remarks_of_the_models_card_are_everywhere(frames, tmp_path):
    model = init_model(Config.fromstring(CONFIG, '.py'))
    inferencer = ReferFormerInferencer(model)
    inferencer(frames, 'red', tmp_path / 'plain')
    model.card = Card()
    result = inferencer(frames, 'red', tmp_path / 'out')
    assert result.remarks == ['unknown: red']
    assert json.loads((tmp_path / 'out' / 'scores.json').read_text())['remarks'] == result.remarks
    assert VideoPrediction.load(tmp_path / 'out').remarks == result.remarks
    plain, sheet = (
        np.asarray(Image.open(tmp_path / folder / 'contact_sheet.png'))
        for folder in ('plain', 'out')
    )
    assert sheet.shape[0] > plain.shape[0]
    reddish = (sheet[..., 0] > 150) & (sheet[..., 1] < 60) & (sheet[..., 2] < 50)
    assert reddish[: sheet.shape[0] - plain.shape[0] + 80].sum() > 100


@pytest.mark.parametrize('suffix', ['.mp4', '.gif', '.avi'])
def test_save_draws_a_video(model, frames, tmp_path, suffix):
    result = ReferFormerInferencer(model)(frames, TEXTS)
    path = result.save(tmp_path / f'drawn{suffix}')
    drawn = VideoReader(path)
    assert (sum(1 for _ in drawn), drawn.fps, drawn.size) == (6, 10, (48, 64))


def test_save_cuts_out_one_sentence_or_all(model, frames, tmp_path):
    result = ReferFormerInferencer(model)(frames, TEXTS)
    sums = []
    for name, sentence in (('red', 'the red square'), ('blue', 1), ('both', None)):
        result.save(tmp_path / f'{name}.avi', 'matte', sentence=sentence)
        sums.append(np.stack(list(VideoReader(tmp_path / f'{name}.avi'))).astype(int).sum())
    assert sums[0] + sums[1] == pytest.approx(sums[2], rel=0.02)
    assert sums[0] != sums[1]


def test_save_makes_the_sheet_of_the_folder(model, frames, tmp_path):
    result = ReferFormerInferencer(model)(frames, TEXTS, tmp_path / 'out')
    result.save(tmp_path / 'sheet.png')
    assert (tmp_path / 'sheet.png').read_bytes() == result.files['contact sheet'].read_bytes()


def test_save_draws_on_a_video_that_is_given(model, frames, tmp_path):
    images = list(VideoReader(frames))
    result = segment_video(model, images, TEXTS)
    with pytest.raises(ValueError, match=r'knows no video; give it: save\(\.\.\., video=\.\.\.\)'):
        result.save(tmp_path / 'x.gif')
    for wrong in (images[:4], [np.zeros((10, 10, 3), np.uint8)] * 6):
        with pytest.raises(ValueError, match=r'has 6 frames, 64x48; .* fewer, or another size'):
            result.save(tmp_path / 'x.gif', video=wrong)
    assert not list(tmp_path.glob('*x*')), 'a half video is left'
    for video in (images, frames, str(frames)):
        result.save(tmp_path / 'x.gif', video=video)
        assert len(list(VideoReader(tmp_path / 'x.gif'))) == 6


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('x.foo', None),
        ('x', None),
        ('x.mp4', 'cvat'),
        ('x.json', 'labelstudio'),
        ('x.mp4', 'alpha'),
    ],
)
def test_forms_that_do_not_fit_are_refused(model, frames, tmp_path, name, kind):
    result = segment_video(model, VideoReader(frames), TEXTS)
    with pytest.raises(ValueError, match=rf'cannot save .*{name} as .*there are: overlay \(\.mp4'):
        result.save(tmp_path / name, kind)
