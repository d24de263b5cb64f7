"""``tools/score.py`` as a user runs it: reports, bad input, missing masks."""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures_rvos import write_ref_youtube_vos
from PIL import Image
from pycocotools import mask as coco_mask

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'score.py'
FIRST = 'pred/judo/00000.png'


def save(path: str, labels: np.ndarray) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(bytes(range(256)) * 3)
    image.save(path)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with two annotated videos and a perfect prediction."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    labels = np.zeros((24, 32), np.uint8)
    labels[4:12, 4:12], labels[14:20, 14:28] = 1, 2
    for video in ('judo', 'car'):
        for t in range(4):
            save(f'gt/{video}/{t:05d}.png', np.roll(labels, t, 1))
    shutil.copytree('gt', 'pred')
    return tmp_path


@pytest.fixture
def score(project, capsys):
    """Runs the tool; returns exit code, stdout and stderr."""
    spec = importlib.util.spec_from_file_location('score_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args, protocol='davis-unsupervised', pred='pred', gt='gt'):
        code = 0
        try:
            tool.main(['--pred', pred, '--gt', gt, '--protocol', protocol, *args])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize('protocol', ['davis-unsupervised', 'davis-semi'])
def test_everything_is_reported(score, protocol):
    for t in range(4):
        save(f'pred/car/{t:05d}.png', np.zeros((24, 32), np.uint8))
    outputs = ('--json', 'out/s.json', '--csv', 'out/s.csv', '--picture', 'out/s.png')
    code, stdout, stderr = score(*outputs, protocol=protocol)
    assert code == 0, stderr
    assert 'scoring: 100%' in stderr
    rows = [line.split() for line in stdout.splitlines()]
    assert ['judo', '1.0000', '1.0000', '1.0000', '2'] in rows
    assert ['car', '0.0000', '0.0000', '0.0000', '2'] in rows
    result = json.loads(Path('out/s.json').read_text())
    assert result['overall']['mean']['J&F-Mean'] == 0.5
    assert result['sequences']['judo'] == {'J&F': 1, 'J': 1, 'F': 1, 'count': 2}
    lines = list(csv.DictReader(Path('out/s.csv').read_text().splitlines()))
    assert [line['sequence'] for line in lines] == ['car', 'car', 'judo', 'judo']
    assert {line['frames'] for line in lines} == {'4' if protocol != 'davis-semi' else '2'}
    with Image.open('out/s.png') as image:
        assert image.width > 480
    assert sorted(p.name for p in Path('out').iterdir()) == ['s.csv', 's.json', 's.png']


def test_expressions_are_scored(score, project):
    root = write_ref_youtube_vos(project / 'data')
    for video in ('valid0', 'valid1'):
        for exp_id, obj_id in zip('0123', (1, 1, 2, 2)):
            for path in (root / 'valid/Annotations' / video).iterdir():
                mask = np.asarray(Image.open(path)) == obj_id
                target = project / 'tree/Annotations' / video / exp_id / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(target)
    options = {'protocol': 'ref-ytvos', 'pred': 'tree', 'gt': 'data'}
    code, stdout, stderr = score('--picture', 'p.png', '--nproc', '2', **options)
    assert code == 0, stderr
    assert ['valid1', '1.0000', '1.0000', '1.0000', '4'] in [x.split() for x in stdout.splitlines()]
    shutil.rmtree('tree/Annotations/valid0/3')
    code, _, stderr = score(**options)
    assert code == 2
    assert '1 missing folders: tree/Annotations/valid0/3. --allow-missing' in stderr
    code, stdout, _ = score('--allow-missing', '--json', 'o.json', **options)
    assert code == 0
    assert 'scored as empty: 1 missing folders' in stdout
    # Object 2 is not visible on the last of 6 frames, where an empty mask is right.
    mean = json.loads(Path('o.json').read_text())['overall']['mean']['J-Mean']
    assert mean == pytest.approx((7 + 1 / 6) / 8)


def remove_frames():
    for path in [*(f'pred/car/{t:05d}.png' for t in range(3)), FIRST]:
        Path(path).unlink()


def empty_video():
    shutil.rmtree('pred/car')
    Path('pred/car').mkdir()


def empty_folder():
    shutil.rmtree('pred')
    Path('pred').mkdir()


def empty_truth():
    empty_video()
    shutil.rmtree('gt/car')
    Path('gt/car').mkdir()


def truncate():
    content = Path(FIRST).read_bytes()
    Path(FIRST).write_bytes(content[: len(content) - 30])


BAD = {
    'missing frames': (
        remove_frames,
        r'4 missing frames: pred/car/00000.png, .*2.png, \.\.\.\. --allow',
    ),
    'missing video': (lambda: shutil.rmtree('pred/car'), '1 missing folders: pred/car. --allow'),
    'empty video': (empty_video, '1 folders without PNG files: pred/car. --allow'),
    'empty folder': (empty_folder, 'pred is empty'),
    'no folder': (lambda: shutil.rmtree('pred'), 'pred is not a folder'),
    'empty truth': (empty_truth, '1 folders without PNG files: gt/car'),
    'other size': (
        lambda: save(FIRST, np.zeros((24, 30), np.uint8)),
        r'1 masks of another size than the truth: pred/judo/00000.png \(30x24, not 32x24\)',
    ),
    'too many objects': (
        lambda: save(FIRST, np.full((24, 32), 21, np.uint8)),
        r'cannot be scored: pred/judo \(DAVIS allows 20 predicted objects in a video, got 21\)',
    ),
    'grey': (
        lambda: Image.new('L', (32, 24)).save(FIRST),
        r'1 masks that are not palette images .*pred/judo/00000.png \(mode L\)',
    ),
    'colour': (
        lambda: Image.new('RGB', (32, 24)).save('gt/judo/00002.png'),
        r'1 masks that are not palette images .*gt/judo/00002.png \(mode RGB\)',
    ),
    'no image': (lambda: Path(FIRST).write_text('P'), '1 files that are no images: pred/judo'),
    'truncated': (truncate, 'cannot be scored: pred/judo/00000.png cannot be decoded'),
    'no object': (
        lambda: save('gt/judo/00000.png', np.zeros((24, 32), np.uint8)),
        r'pred/judo \(The first annotated frame has no object\)',
    ),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_one_message(score, project, name):
    spoil, message = BAD[name]
    spoil()
    code, stdout, stderr = score('--json', 'out.json')
    assert code == 2
    lines = [line for line in stderr.splitlines() if 'error: ' in line]
    assert len(lines) == 1
    assert 'Traceback' not in stderr
    assert re.search(message, lines[0]), lines[0]
    assert not (project / 'out.json').exists()
    assert not stdout


def test_more_objects_than_annotated_in_the_semi_supervised_protocol(score):
    save(FIRST, np.full((24, 32), 3, np.uint8))
    code, _, stderr = score(protocol='davis-semi')
    assert code == 2
    assert 'pred/judo (The first frame has 2 annotated objects, the prediction 3)' in stderr


@pytest.mark.parametrize(
    ('name', 'said', 'mean'),
    [('missing video', '1 missing folders', 1 / 2), ('empty video', '1 folders without', 1 / 2)],
)
def test_missing_masks_may_be_scored_as_empty(score, name, said, mean):
    BAD[name][0]()
    code, stdout, _ = score('--allow-missing', '--json', 'out.json')
    assert code == 0
    assert f'scored as empty: {said}' in stdout
    result = json.loads(Path('out.json').read_text())
    assert result['overall']['mean']['J-Mean'] == mean
    assert sum(result['scored_as_empty'].values()) == 1


def test_a_missing_frame_scores_zero(score):
    Path(FIRST).unlink()
    code, stdout, _ = score('--allow-missing', '--json', 'out.json')
    assert code == 0
    assert 'scored as empty: 1 missing frames' in stdout
    objects = json.loads(Path('out.json').read_text())['objects']
    assert objects['judo_1']['J-Mean'] == 0.75
    # What is there but wrong is not excused.
    Image.new('RGB', (32, 24)).save('pred/judo/00001.png')
    assert score('--allow-missing')[0] == 2


def test_options_are_checked_first(score):
    for options, message in (
        (('--json', 'out.txt'), 'ends in .json'),
        (('--csv', 'gt/judo/00000.png/out.csv'), 'is a file'),
        (('--split', 'train'), 'no meaning'),
        (('--nproc', '0'), 'at least 1'),
        (('--sequences', 'none.txt'), 'none.txt: No such file'),
    ):
        code, _, stderr = score(*options)
        assert code == 2
        assert message in stderr.splitlines()[0]


IMAGES = {'protocol': 'a2d', 'pred': 'pred.json', 'gt': 'gt.json'}


@pytest.fixture
def images(project) -> list[dict]:
    """COCO files of four images with one right and one wrong mask each; the predictions."""

    def mask(left: int) -> dict:
        pixels = np.zeros((24, 32), np.uint8, order='F')
        pixels[8:16, left : left + 8] = 1
        rle = coco_mask.encode(pixels)
        return {'size': rle['size'], 'counts': rle['counts'].decode()}

    names = [f'v_a_f_{i}_i_1' for i in range(4)]
    truth = {
        'images': [{'id': n, 'height': 24, 'width': 32, 'caption': f'no. {n}'} for n in names],
        'annotations': [
            {'id': i, 'image_id': n, 'segmentation': mask(4), 'bbox': [4, 8, 8, 8]}
            for i, n in enumerate(names)
        ],
    }
    predictions = [
        {'image_id': n, 'category_id': 1, 'segmentation': mask(left), 'score': score}
        for n in names
        for left, score in ((4, 0.9), (20, 0.2))
    ]
    Path('gt.json').write_text(json.dumps(truth))
    Path('pred.json').write_text(json.dumps(predictions))
    return predictions


@pytest.mark.parametrize('protocol', ['a2d', 'refcoco'])
def test_result_files_are_scored(score, images, protocol):
    for one in images:
        one['bbox'] = [4, 8, 12, 16] if one['score'] > 0.5 else [20, 8, 28, 16]
    Path('pred.json').write_text(json.dumps(images))
    outputs = ('--json', 'out/s.json', '--csv', 'out/s.csv', '--picture', 'out/s.png')
    code, stdout, stderr = score(*outputs, **{**IMAGES, 'protocol': protocol})
    assert code == 0, stderr
    assert 'scoring: 100%' in stderr
    rows = dict(line.split() for line in stdout.splitlines() if len(line.split()) == 2)
    assert rows['mAP_best'] == rows['overall_IoU'] == rows['P@0.9'] == '1.0000'
    assert ('REC_P@1' in rows) == ('REC_IoU_P@1' in rows) == (protocol == 'refcoco')
    result = json.loads(Path('out/s.json').read_text())
    assert result['overall']['all']['mean_IoU'] == 1
    assert result['images']['v_a_f_2_i_1']['intersection'] == 64
    lines = list(csv.DictReader(Path('out/s.csv').read_text().splitlines()))
    assert [line['image_id'] for line in lines] == [f'v_a_f_{i}_i_1' for i in range(4)]
    assert lines[1]['text'] == 'no. v_a_f_1_i_1' and lines[1]['predictions'] == '2'
    with Image.open('out/s.png') as image:
        assert image.width > 480


def test_without_boxes_there_is_no_rec(score, images):
    code, stdout, _ = score(**{**IMAGES, 'protocol': 'refcoco'})
    assert code == 0
    assert 'no REC: the predictions have no bbox' in stdout
    assert 'REC_P' not in stdout


BAD_PREDICTIONS = {
    'unknown image': (
        lambda p: p[0].update(image_id='v_b'),
        r"1 predictions for images that the annotation does not have: entry 0 \(image_id 'v_b'\)",
    ),
    'no image': (lambda p: p[3].pop('image_id'), r'does not have: entry 3 \(image_id None\)'),
    'no score': (
        lambda p: [one.pop('score') for one in p[1:]],
        r'7 predictions without a number as score: entry 1 \(image .*entry 3 .*0?\), \.\.\.',
    ),
    'score nan': (lambda p: p[1].update(score=float('nan')), '1 predictions without a number'),
    'no mask': (lambda p: p[2].pop('segmentation'), 'without a segmentation in run lengths: ent'),
    'malformed': (
        lambda p: p[2]['segmentation'].update(counts=p[2]['segmentation']['counts'][:-2]),
        r'1 malformed run lengths: entry 2 \(image v_a_f_1_i_1\)',
    ),
    'other size': (
        lambda p: p[2]['segmentation'].update(size=[32, 24]),
        r'1 masks of another size than their image: entry 2 \(image v_a_f_1_i_1\)',
    ),
    'empty': (lambda p: p.clear(), 'pred.json is empty'),
}


@pytest.mark.parametrize('name', BAD_PREDICTIONS)
def test_bad_result_files_are_one_message(score, images, project, name):
    spoil, message = BAD_PREDICTIONS[name]
    spoil(images)
    Path('pred.json').write_text(json.dumps(images))
    # What is there but wrong is not excused.
    code, stdout, stderr = score('--json', 'out.json', '--allow-missing', **IMAGES)
    assert code == 2
    lines = [line for line in stderr.splitlines() if 'error: ' in line]
    assert len(lines) == 1
    assert 'Traceback' not in stderr
    assert re.search(message, lines[0]), lines[0]
    assert not (project / 'out.json').exists()
    assert not stdout


def test_images_without_predictions(score, images):
    Path('pred.json').write_text(json.dumps(images[:4]))
    code, _, stderr = score(**IMAGES)
    assert code == 2
    assert '2 images without predictions: v_a_f_2_i_1, v_a_f_3_i_1. --allow-missing' in stderr
    code, stdout, _ = score('--allow-missing', '--json', 'out.json', '--picture', 'p.png', **IMAGES)
    assert code == 0
    assert 'scored as empty: 2 images without predictions' in stdout
    result = json.loads(Path('out.json').read_text())
    assert result['overall']['all']['overall_IoU'] == 0.5
    assert result['scored_as_empty'] == {'images without predictions': 2}


def test_files_that_are_none(score, images, project):
    for changes, message in (
        ({'pred': 'nowhere.json'}, 'nowhere.json not found; it should be a COCO result file'),
        ({'gt': 'gt'}, 'gt is a folder; name the file in it'),
        ({'gt': 'pred.json'}, 'pred.json holds a list; it should be a COCO annotation file'),
        ({'pred': 'gt.json'}, 'gt.json holds a dict; it should be a COCO result file'),
        ({'pred': 'pred/judo/00000.png'}, '00000.png is not valid JSON'),
    ):
        code, _, stderr = score(**{**IMAGES, **changes})
        assert code == 2
        assert message in stderr


def test_reports_are_replaced_only_when_told(score, project):
    assert score('--json', 'out.json')[0] == 0
    code, _, stderr = score('--json', 'out.json')
    assert code == 2
    assert 'out.json is already there; name another, or add --overwrite' in stderr
    assert score('--json', 'out.json', '--overwrite')[0] == 0


def test_options_of_other_protocols_are_refused(score, images):
    for option in (('--split', 'valid'), ('--sequences', 'l'), ('--box-format', 'xywh')):
        code, _, stderr = score(*option, **IMAGES)
        assert code == 2
        assert f'{option[0]} has no meaning for a2d' in stderr
