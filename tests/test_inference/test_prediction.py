"""A result: its table, its sentences, and itself back from files."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco_mask
from stub_segmenter import CONFIG, colour_video

from referformer.apis import ReferFormerInferencer, init_model
from referformer.inference import VideoPrediction, segment_video
from referformer.video_io import VideoReader, VideoWriter

TEXTS = ['the red square', 'a [blue] bar', 'something green']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a video."""
    folder = tmp_path_factory.mktemp('results')
    with VideoWriter(folder / 'in.avi', 5, (48, 64)) as writer:
        for frame in colour_video(10)[0]:
            writer.write(frame)
    return folder


@pytest.fixture(scope='module')
def result(folder):
    model = init_model(Config.fromstring(CONFIG, '.py'))
    return ReferFormerInferencer(model)(folder / 'in.avi', TEXTS, folder / 'out', window=4)


def same(a, b):
    assert (a.texts, a.fps, tuple(a.size), a.starts) == (b.texts, b.fps, tuple(b.size), b.starts)
    assert a.frame_names == b.frame_names
    for i in range(len(a.texts)):
        assert (a.masks(i) == b.masks(i)).all()
    assert np.abs(a.scores - b.scores).max() <= 5e-5
    assert np.abs(a.frame_scores - b.frame_scores).max() <= 5e-5
    for field in ('boxes', 'reference_points'):
        assert np.allclose(getattr(a, field), getattr(b, field), atol=5e-3, equal_nan=True)
    assert str(a).splitlines()[1:] == str(b).splitlines()[1:]


def test_a_printed_result_is_a_table(result):
    head, titles, _, *rows = str(result).splitlines()
    assert head.startswith('10 frames, 64x48, 5 frames/s, found in ')
    assert ' '.join(titles.split()) == 'sentence score frames with mask mean area seconds'
    area = f'{result["the red square"].areas.mean() / (48 * 64):.1%}'
    assert ' '.join(rows[0].split()).endswith(f' 10 of 10 {area} 0.0 to 2.0')
    assert '[blue]' in rows[1], 'sentences are not markup'
    assert ' '.join(rows[2].split()) == 'something green 0.00 no mask in 10 of 10 frames - -'
    assert repr(result) == str(result)


def test_remarks_stand_under_the_table(result):
    result.remarks.append('unknown: dog')
    try:
        assert str(result).splitlines()[-1] == 'unknown: dog'
    finally:
        result.remarks.clear()


def test_seconds_say_when_a_mask_is_there(folder):
    frames, _ = colour_video(10)
    frames[:4] = frames[9:] = 90
    model = init_model(Config.fromstring(CONFIG, '.py'))
    result = segment_video(model, frames, ['red'], fps=5)
    assert str(result).splitlines()[-1].split()[2:] == ['5', 'of', '10', '8.3%', '0.8', 'to', '1.8']
    assert result['red'].absence == 'no mask in 5 of 10 frames'


def test_long_videos_are_counted_right():
    frames = np.repeat(colour_video(1)[0], 300, axis=0)
    frames[:40] = 90
    model = init_model(Config.fromstring(CONFIG, '.py'))
    result = segment_video(model, frames, ['red'], window=36)
    assert result['red'].areas.tolist() == [0] * 40 + [256] * 260
    assert '260 of 300' in str(result)
    assert result['red'].masks.any((1, 2)).sum() == 260


def test_sentences_are_found_by_words_and_number(result):
    red = result[' The red  SQUARE']
    assert red.text == result[0].text == 'the red square'
    assert (red.masks == result.masks(0)).all()
    assert (red.masks[3] == result.mask('the red square', 3)).all()
    assert red.boxes.shape == (10, 4)
    assert red.scores.shape == (3,)
    assert [found.text for found in result] == TEXTS
    with pytest.raises(KeyError, match=r'no sentence "the dog".* there are: "the red square", "a '):
        result['the dog']
    with pytest.raises(IndexError):
        result[3]


def test_a_selected_sentence_is_the_same_alone(result):
    alone = result.select('a [blue] bar')
    assert (alone.masks(0) == result.masks(1)).all()
    assert alone.scores.tolist() == result.scores[:, [1]].tolist()
    assert alone.boxes.tolist() == result.boxes[[1]].tolist()
    assert len(result.texts) == 3


def test_run_lengths_are_cocos(result):
    (red, *_), json_text = result.to_rle(), json.dumps(result.to_rle())
    assert (coco_mask.decode(red).transpose(2, 0, 1) == result.masks(0)).all()
    assert json.loads(json_text)[0] == red


def test_the_json_has_youtube_vis_fields(result):
    content = result.to_coco()
    (video,) = content['videos']
    assert (video['id'], video['length'], video['height'], video['width']) == (1, 10, 48, 64)
    assert video['file_names'] == [f'{t:05d}' for t in range(10)]
    assert [c['name'] for c in content['categories']] == TEXTS
    red, _, green = content['annotations']
    assert green['segmentations'] == green['bboxes'] == green['areas'] == [None] * 10
    for t, mask in enumerate(result.masks(0)):
        assert red['areas'][t] == mask.sum()
        x, y, w, h = red['bboxes'][t]
        ys, xs = mask.nonzero()
        assert (x, y, x + w - 1, y + h - 1) == (xs.min(), ys.min(), xs.max(), ys.max())
    means = result.scores[:, 0] @ np.array([4, 4, 2]) / 10
    assert red['score'] == pytest.approx(means, abs=1e-4)


def test_results_come_back_exactly_from_json_and_from_the_folder(result, folder):
    same(VideoPrediction.load(result.save(folder / 'one.json')), result)
    loaded = VideoPrediction.load(folder / 'out')
    same(loaded, result)
    assert loaded.remarks == []


def test_a_loaded_result_is_drawn_on_its_video_again(folder, result):
    loaded = VideoPrediction.load(folder / 'out')
    loaded.save(folder / 'again.avi')
    first, again = (list(VideoReader(folder / p)) for p in ('out/overlay.avi', 'again.avi'))
    assert len(again) == 10
    assert all((a == b).all() for a, b in zip(first, again))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.pop('videos'), "'videos' is missing"),
        (lambda c: c['annotations'][0]['segmentations'].pop(), '9 segmentations of 10 frames'),
        (lambda c: c['annotations'][0]['segmentations'][0].update(counts='zzz'), 'run lengths'),
        (lambda c: c['annotations'][0].pop('scores'), "'scores' is missing"),
        (lambda c: c['annotations'][1].update(category_id=9), '9 is missing'),
        (lambda c: c['videos'].append({}), 'of another type'),
        (lambda c: c.update(annotations=[]), 'no sentence'),
    ],
)
def test_damaged_files_are_named(result, tmp_path, change, message):
    content = result.to_coco()
    change(content)
    (tmp_path / 'bad.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf'bad\.json is not a result .*{message}'):
        VideoPrediction.load(tmp_path / 'bad.json')


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'predictions\.json not found.*infer wrote'):
        VideoPrediction.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json not found'):
        VideoPrediction.load(tmp_path / 'nowhere.json')
    (tmp_path / 'cut.json').write_text('{"videos": [')
    with pytest.raises(ValueError, match=r'cut\.json is not valid JSON'):
        VideoPrediction.load(tmp_path / 'cut.json')
