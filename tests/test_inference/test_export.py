"""Results for other tools, read by those tools or by their rules."""

import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from referformer.inference import ClipPrediction, VideoPrediction

TEXTS = ['the dog', 'a "cat" & <mouse>', 'nothing']


@pytest.fixture
def result():
    """Random masks: full, empty, on the border, and longer than a run of Label Studio's code."""
    rng = np.random.default_rng(0)
    masks = rng.random((3, 4, 90, 370)) < 0.5
    masks[0, 0] = True
    masks[0, 1] = False
    masks[0, 2, 5:60] = False
    masks[1, 0] = False
    masks[1, 0, -1, -1] = True
    masks[2] = False
    video = VideoPrediction(
        TEXTS, 2.0, (90, 370), [np.full((90, 370, 3), t, np.uint8) for t in range(4)]
    )
    marks = rng.random((3, 4, 4)) * 50, rng.random((3, 4, 2)) * 50, rng.random((3, 4))
    for start in (0, 2):
        part = slice(start, start + 2)
        boxes, points, frame_scores = (mark[:, part] for mark in marks)
        clip = ClipPrediction(
            start, None, rng.random(3), masks[:, part], boxes, points, frame_scores
        )
        video.append(clip)
    return video


def test_cvat_gets_each_mask_as_its_exports_have_it(result, tmp_path):
    """Read with CVAT's SDK; its importer takes the first shape of a track of masks."""
    masks = pytest.importorskip('cvat_sdk.masks', reason='needs requirements/tests.txt')
    root = ElementTree.parse(result.save(tmp_path / 'x.xml')).getroot()
    assert root.findtext('version') == '1.1'
    task = root.find('meta/task')
    assert [task.findtext(name) for name in ('size', 'mode')] == ['4', 'interpolation']
    size = task.find('original_size')
    assert (size.findtext('width'), size.findtext('height')) == ('370', '90')
    assert [label.findtext('name') for label in task.iter('label')] == TEXTS
    tracks = root.findall('track')
    assert [track.get('id') for track in tracks] == [str(i) for i in range(len(tracks))]
    found = np.zeros((3, 4, 90, 370), bool)
    for track in tracks:
        first, *rest = track
        assert (first.get('outside'), first.get('keyframe')) == ('0', '1')
        frame, box = int(first.get('frame')), {k: int(first.get(k)) for k in _BOX}
        points = [int(length) for length in first.get('rle').split(',')]
        points += [box['left'], box['top']]
        points += [box['left'] + box['width'] - 1, box['top'] + box['height'] - 1]
        mask = masks.decode_mask(points, image_width=370, image_height=90)
        assert points == masks.encode_mask(mask), 'the SDK would write other numbers'
        found[TEXTS.index(track.get('label')), frame] |= mask
        assert [(s.get('frame'), s.get('outside')) for s in rest] == [(str(frame + 1), '1')][
            : 3 - frame
        ]
    assert (found == np.stack([result.masks(i) for i in range(3)])).all()
    assert len(tracks) == 7, 'empty masks are no shapes'


_BOX = ('left', 'top', 'width', 'height')


def brush_pixels(code):
    """The bits of Label Studio's code read one by one, by the head's own sizes."""
    bits, at = ''.join(f'{byte:08b}' for byte in code), 0

    def read(size):
        nonlocal at
        at += size
        return int(bits[at - size : at], 2)

    count, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < count:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        out += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert len(out) == count
    assert len(code) == -(-at // 8)
    return np.array(out)


def test_label_studio_gets_a_task_for_each_frame(result, tmp_path):
    folder = result.save(tmp_path / 'ls', 'labelstudio')
    view = ElementTree.parse(folder / 'labels.xml').getroot()
    assert [label.get('value') for label in view.iter('Label')] == TEXTS
    tasks = json.loads((folder / 'tasks.json').read_text())
    assert [task['data']['image'] for task in tasks] == [
        f'/data/local-files/?d=ls/frames/0000{t}.jpg' for t in range(4)
    ]
    found = np.zeros((3, 4, 90, 370), bool)
    for t, task in enumerate(tasks):
        assert np.asarray(Image.open(folder / 'frames' / f'0000{t}.jpg')).shape == (90, 370, 3)
        (prediction,) = task['predictions']
        for region in prediction['result']:
            assert region['type'] == 'brushlabels'
            assert region['from_name'] == view.find('BrushLabels').get('name')
            assert region['to_name'] == view.find('Image').get('name')
            assert (region['original_width'], region['original_height']) == (370, 90)
            (text,) = region['value']['brushlabels']
            pixels = brush_pixels(region['value']['rle']).reshape(90, 370, 4)
            assert (pixels == pixels[..., :1]).all()
            assert set(np.unique(pixels)) <= {0, 255}
            found[TEXTS.index(text), t] |= pixels[..., 3] > 0
    assert (found == np.stack([result.masks(i) for i in range(3)])).all()


def test_label_studios_own_code_accepts_the_tasks(result, tmp_path):
    interface = pytest.importorskip(
        'label_studio_sdk.label_interface', reason='needs label-studio-sdk, which wants OpenCV 4'
    )
    brush = pytest.importorskip('label_studio_sdk.converter.brush')
    folder = result.save(tmp_path / 'ls', 'labelstudio')
    view = interface.LabelInterface((folder / 'labels.xml').read_text())
    for t, task in enumerate(json.loads((folder / 'tasks.json').read_text())):
        (prediction,) = task['predictions']
        assert view.validate_prediction(prediction, return_errors=True) == []
        for region in prediction['result']:
            pixels = brush.decode_rle(region['value']['rle']).reshape(90, 370, 4)
            assert ((pixels[..., 3] > 0) == result.mask(region['value']['brushlabels'][0], t)).all()


def test_the_data_frame_has_a_line_for_each_sentence_and_frame(result):
    pytest.importorskip('pandas', reason='needs requirements/tests.txt')
    table = result.to_dataframe()
    assert len(table) == 12
    line = table[(table.sentence == 'the dog') & (table.frame == 2)].iloc[0]
    assert (line['name'], line.seconds) == ('00002', 1.0)
    assert line.area == result.mask(0, 2).sum()
    assert line.score == result.frame_scores[0, 2]
    assert line[['x1', 'y1', 'x2', 'y2']].tolist() == result.boxes[0, 2].tolist()


def test_supervision_gets_the_sentences_that_have_a_mask(result):
    pytest.importorskip('supervision', reason='needs requirements/tests.txt')
    frames = list(result.to_supervision())
    assert [found.class_id.tolist() for found in frames] == [[0, 1], [1], [0, 1], [0, 1]]
    assert (frames[1].mask[0] == result.mask(1, 1)).all()
    assert frames[1].data['class_name'].tolist() == [TEXTS[1]]
    assert frames[2].confidence.tolist() == result.frame_scores[:2, 2].tolist()


@pytest.mark.parametrize(
    ('method', 'package'),
    [('to_dataframe', 'pandas'), ('to_supervision', 'supervision'), ('show', 'IPython')],
)
def test_missing_packages_are_named(result, monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f'{package}.display', raising=False)
    with pytest.raises(
        ModuleNotFoundError, match=f'{package}.* not installed: pip install {package}'
    ):
        getattr(result, method)()


def test_a_notebook_plays_the_drawn_video(result, monkeypatch):
    display = pytest.importorskip('IPython.display', reason='needs requirements/tests.txt')
    shown = []
    monkeypatch.setattr(display, 'display', lambda video: shown.append(video._repr_html_()))
    result.show()
    assert 'data:video/mp4;base64,' in shown[0]
