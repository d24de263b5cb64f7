"""``analyze_results.py``: groups by hand, both kinds of tables, the report, bad input."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fixtures_rvos import write_ref_youtube_vos
from PIL import Image
from pycocotools import mask as coco_mask
from toy_project import REPO

TOOL = REPO / 'tools' / 'analysis_tools' / 'analyze_results.py'
# J of the expressions of both videos; 0 and 1 are about object 1, 2 and 3 about object 2.
SCORES = {'valid0': (90, 80, 70, 60), 'valid1': (50, 40, 30, 20)}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('REFERFORMER_DEBUG', raising=False)
    spec = importlib.util.spec_from_file_location('analyze_results', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def analyze(tool, capsys):
    """Runs the tool; returns exit code, stdout and stderr."""

    def run(*args):
        code = 0
        try:
            tool.main([str(arg) for arg in args])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def data(tool) -> Path:
    """A dataset in ``data``, and ``scores.csv`` as VOSMetric writes it: F is 10 less than J."""
    lines = ['video_id,exp_id,kind,frames,J,F,J&F']
    lines += [
        f'{v},{e},,6,{j},{j - 10},{j - 5}' for v, js in SCORES.items() for e, j in enumerate(js)
    ]
    Path('scores.csv').write_text('\n'.join(lines) + '\n')
    return write_ref_youtube_vos(Path('data'))


def means(stdout: str) -> dict[str, dict[str, tuple[float, int]]]:
    """The printed J&F and number of expressions, by property and value."""
    out: dict = {}
    title = ''
    for line in stdout.splitlines():
        found = re.match(r'  (.+?) +J&F +([\d.]+)  n = (\d+)', line)
        if found:
            out[title][found[1]] = float(found[2]), int(found[3])
        elif not line.startswith('report'):
            title = line
            out[title] = {}
    return out


def test_expressions_are_grouped_by_what_they_are_about(analyze, data):
    code, stdout, stderr = analyze('scores.csv', data, 'report.html', '--csv', 'facts.csv')
    assert code == 0, stderr
    found = means(stdout)
    # The sentences are 'the dog on the left', 'dog moving right', and the same of a cat.
    assert found['words in the sentence'] == {'1-3': (45, 4), '4-6': (55, 4)}
    assert found['words of motion in the sentence'] == {'none': (55, 4), 'some': (45, 4)}
    # Object 2 is missing on the last of 6 frames.
    expected = {'above 75 %': (40, 4), 'all': (60, 4)}
    assert found['presence: frames that show the object'] == expected
    assert found['kind of sentence']['appearance'] == (50, 4)  # expressions 0 and 3
    # All videos have two objects of the same size, and all sentences mean one.
    assert len(found) == 4
    facts = list(csv.DictReader(Path('facts.csv').read_text().splitlines()))
    assert len(facts) == 8
    height, width = 48, 64
    area = 100 * (height // 2 - 4) * (width // 4) / (height * width)
    for row in facts:
        assert float(row['size']) == pytest.approx(area, abs=1e-4)
        assert (row['objects'], row['targets']) == ('2', '1')
    assert facts[2]['presence'] == f'{500 / 6:.4f}'
    assert facts[0]['text'] == 'the dog on the left'


def test_the_report_holds_everything(analyze, data):
    assert analyze('scores.csv', data, 'report.html', '--worst', '3')[0] == 0
    report = Path('report.html').read_text()
    assert report.count('data:image/png;base64,') == 1
    assert not re.search(r'(src|href)="(?!data:)', report)
    listed = report.split('3 worst expressions')[1]
    rows = re.findall(r'<tr><td>valid1</td><td>(\d)</td><td>(.*?)</td>', listed)
    assert [row[0] for row in rows] == ['3', '2', '1']
    assert rows[0][1] == 'cat moving right'


def test_tables_of_both_tools_say_the_same(analyze, data):
    _, of_metric, _ = analyze('scores.csv', data, 'report.html')
    lines = ['sequence,name,frames,J&F,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay']
    for video, js in SCORES.items():
        lines += [f'{video},{e},6,,{j / 100},1,0,{j / 100 - 0.1},1,0' for e, j in enumerate(js)]
    Path('other.csv').write_text('\n'.join(lines))
    code, of_score, _ = analyze('other.csv', data, 'report.html', '--overwrite')
    assert code == 0
    assert of_score == of_metric


def test_frames_in_random_order_do_not_count(analyze, data):
    _, alone, _ = analyze('scores.csv', data, 'report.html')
    with open('scores.csv', 'a') as file:
        file.write('valid0,0,motion_shuffled,6,10,0,5\n')
    assert analyze('scores.csv', data, 'report.html', '--overwrite')[1] == alone


def test_worst_frames_are_drawn(analyze, data):
    for video in SCORES:
        for exp_id, obj_id in zip('0123', (1, 1, 2, 2)):
            for path in (data / 'valid/Annotations' / video).iterdir():
                mask = np.asarray(Image.open(path)) == obj_id
                target = Path('tree/Annotations', video, exp_id, path.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(target)
    code, _, stderr = analyze('scores.csv', data, 'report.html', '--pred', 'tree')
    assert code == 0, stderr
    assert Path('report.html').read_text().count('data:image/png;base64,') == 2
    Path('tree/Annotations/valid1/3/00005.png').unlink()
    code, _, stderr = analyze('scores.csv', data, 'new.html', '--pred', 'tree')
    assert code == 2
    assert '1 missing frames: tree/Annotations/valid1/3/00005.png. Name the masks that' in stderr
    assert not Path('new.html').exists()


def test_expressions_of_several_objects(analyze):
    frames = ['0', '1']
    masks = np.zeros((2, 10, 20), np.uint8)
    masks[0, :2, :5], masks[1, 5:7, :5] = 1, 1
    codes = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    for code in codes:
        code['counts'] = code['counts'].decode()
    # Object 0 leaves after the first frame.
    masks_of = {'0': [codes[0], None], '1': [codes[1]] * 2}
    expressions = {'0': {'exp': 'both', 'anno_id': [0, 1]}, '1': {'exp': 'one', 'anno_id': [0]}}
    Path('mevis/valid_u').mkdir(parents=True)
    Path('mevis/valid_u/mask_dict.json').write_text(json.dumps(masks_of))
    Path('mevis/valid_u/meta_expressions.json').write_text(
        json.dumps({'videos': {'v': {'frames': frames, 'expressions': expressions}}})
    )
    Path('s.csv').write_text('video_id,exp_id,J,F\nv,0,50,50\nv,1,20,20\n')
    code, stdout, stderr = analyze('s.csv', 'mevis', 'r.html', '--csv', 'facts.csv')
    assert code == 0, stderr
    found = means(stdout)
    assert found['objects meant by the sentence'] == {'1': (20, 1), '2': (50, 1)}
    assert found['presence: frames that show the object'] == {'50-75 %': (20, 1), 'all': (50, 1)}
    both, one = csv.DictReader(Path('facts.csv').read_text().splitlines())
    # Means over the frames that show something: 20 and 10 of 200 pixels; 10 on the first.
    assert (float(both['size']), float(one['size'])) == (7.5, 5)


@pytest.mark.parametrize(
    ('text', 'moves'),
    [
        ('a man walking a dog', True),
        ('the horse that moves to the left', True),
        ('a plane flying away', True),
        ('the one that stands still', True),
        ('two cows lying on the grass', True),
        ('a man riding a wave', True),
        ('the red car', False),
        ('a person with two heads in a dress', False),
        ('the wing of a bird on the right', False),
        ('a walkway in the background', False),
    ],
)
def test_words_of_motion(tool, text, moves):
    assert (tool._MOTION.search(text) is not None) == moves


def test_bad_input_is_one_message(analyze, data):
    Path('none.csv').write_text('video_id,exp_id,J,F\n')
    Path('other.csv').write_text('a,b\n1,2\n')
    Path('broken.csv').write_text('video_id,exp_id,J,F\nvalid0,0,90,x\n')
    Path('more.csv').write_text('video_id,exp_id,J,F\nvalid0,0,90,1\nvalid0,9,90,1\n')
    Path('video.csv').write_text('video_id,exp_id,J,F\nw,0,90,1\n')
    Path('there.html').touch()
    for arguments, message in (
        (('nowhere.csv', data, 'r.html'), 'nowhere.csv not found; VOSMetric writes it'),
        (('none.csv', data, 'r.html'), 'none.csv has no scores'),
        (('other.csv', data, 'r.html'), 'other.csv has the columns a, b; expected the table of'),
        (('broken.csv', data, 'r.html'), 'broken.csv, line 2: J or F is no number'),
        (('more.csv', data, 'r.html'), '1 expressions that the dataset does not have: valid0/9'),
        (('video.csv', data, 'r.html'), '1 videos that it does not have: w'),
        (('scores.csv', 'nowhere', 'r.html'), 'meta_expressions.json not found'),
        (('scores.csv', data, 'r.html', '--split', 'val'), 'meta_expressions.json not found'),
        (('scores.csv', data, 'r.png'), 'r.png: name a file that ends in .html'),
        (('scores.csv', data, 'there.html'), 'there.html is already there'),
        (('scores.csv', data, 'r.html', '--worst', '0'), '--worst must be at least 1'),
        (
            ('scores.csv', data, 'r.html', '--pred', 'nowhere'),
            'nowhere is not there; it should hold the predicted masks',
        ),
    ):
        code, _, stderr = analyze(*arguments)
        assert code == 2
        lines = [line for line in stderr.splitlines() if 'error: ' in line]
        assert len(lines) == 1 and message in lines[0], (message, stderr)
        assert not Path('r.html').exists()
