"""What annotation files may say: names, whole numbers, kinds of sentences."""

import json

import pytest
from fixtures_rvos import write_ref_youtube_vos

from referformer.datasets import RefYouTubeVOS
from referformer.datasets.annotation_files import integer, read_categories, read_frames, read_videos
from referformer.errors import well_formed
from referformer.files import read_json
from referformer.inference.prediction import VideoPrediction


def write(path, content) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize('value', [0, 7, '0', '7', '007', 2**31 - 1])
def test_whole_numbers_are_taken(value):
    assert integer(value, 'it') == int(value)


@pytest.mark.parametrize(
    'value', [True, 1.0, 1.5, float('inf'), float('nan'), '1.0', '', ' 1', '٣', -1, '-1', 2**31,
              10**400, '9' * 5000, None, [1], {}]
)  # fmt: skip
def test_other_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r'it must be an integer from 0, not'):
        integer(value, 'it')


def videos(**expression) -> dict:
    return {'videos': {'a': {'frames': ['0'], 'expressions': {'0': {'exp': 'it', **expression}}}}}


@pytest.mark.parametrize('kind', ['all', 'swapped', 'swapped_motion', 'motion_shuffled', 'absent',
                                  3, ['motion'], '', 'a\nb', 'a/b'])  # fmt: skip
def test_kinds_that_measures_could_not_be_named_by_are_refused(tmp_path, kind):
    write(tmp_path / 'a.json', videos(kind=kind))
    with pytest.raises(ValueError, match=r'videos\.a\.expressions\.0\.kind must be a word'):
        read_videos(tmp_path / 'a.json')


@pytest.mark.parametrize('kind', ['motion', 'motion_far', 'two words', 'é', None])
def test_other_kinds_are_taken(tmp_path, kind):
    write(tmp_path / 'a.json', videos(kind=kind))
    read_videos(tmp_path / 'a.json')


def test_a_frame_that_is_named_twice_is_refused():
    with pytest.raises(ValueError, match='frames has a frame twice'):
        read_frames('a', {'frames': ['0', '1', '0']}, 'a.json')


@pytest.mark.parametrize('category', [None, 3, ['dog'], '', ' '])
def test_a_category_is_a_name(tmp_path, category):
    write(tmp_path / 'meta.json', {'videos': {'a': {'objects': {'1': {'category': category}}}}})
    with pytest.raises(ValueError, match=r'videos\.a\.objects\.1\.category must be a name'):
        read_categories(tmp_path / 'meta.json')


@pytest.mark.parametrize(
    'text', ['[' * 100_000, '{"a":' * 100_000, '{"a": "\\ud800"}', '["\\udfff\\ud800"]', '[1, 2',
             '1' * 5000]
)  # fmt: skip
def test_json_that_python_cannot_take_is_named(tmp_path, text):
    write(tmp_path / 'a.json', text)
    with pytest.raises(ValueError, match=r'a\.json (is not valid JSON|has half a character)'):
        read_json(tmp_path / 'a.json')


def test_pairs_of_half_characters_are_characters(tmp_path):
    write(tmp_path / 'a.json', json.dumps(['🐕', '\\ud800']))
    assert read_json(tmp_path / 'a.json') == ['🐕', '\\ud800']


@pytest.mark.parametrize('obj_id', [float('inf'), 1.5, True, 0, 256, -1, '', [1]])
def test_an_object_has_a_number_of_a_label_map(tmp_path, obj_id):
    root = write_ref_youtube_vos(tmp_path, num_frames=2)
    path = root / 'meta_expressions/valid/meta_expressions.json'
    content = json.loads(path.read_text())
    content['videos']['valid0']['expressions']['0']['obj_id'] = obj_id
    write(path, content)
    with pytest.raises(ValueError, match='obj_id of expression 0 of video valid0 must be an integ'):
        len(RefYouTubeVOS(root, 'valid'))


@pytest.mark.parametrize(
    ('take', 'reason'),
    [
        (lambda: {}['a'], "'a' is missing"),
        (lambda: int('x'), 'something in it is of another type than it should be'),
        (lambda: [].b, 'something in it is of another type than it should be'),
        (lambda: integer('x', 'the size'), "the size must be an integer from 0, not 'x'"),
    ],
)
def test_what_does_not_fit_a_form_is_told_without_words_of_python(take, reason):
    with pytest.raises(ValueError) as caught, well_formed('a.json', 'a table'):
        take()
    assert str(caught.value) == f'a.json is not a table, or is damaged: {reason}.'


def test_a_result_that_is_none_is_named(tmp_path):
    write(tmp_path / 'a.json', {'videos': [{}], 'annotations': 3, 'categories': []})
    with pytest.raises(ValueError, match=r'a\.json is not a result that save\(\) or infer wrote'):
        VideoPrediction.load(tmp_path / 'a.json')
