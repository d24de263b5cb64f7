"""Synthetic data: what the sentences claim is read again from the written frames and masks."""

import importlib.util
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from referformer.datasets.synthetic import (
    COLOURS,
    HELD_OUT,
    KINDS,
    MOTIONS,
    SHAPES,
    VOCABULARY,
    generate_dataset,
    make_video,
    train_tokenizer,
    writer,
)

REPO = Path(__file__).resolve().parents[2]
SMALL = {'num_train': 2, 'num_valid': 1, 'size': (48, 80), 'num_frames': 8, 'num_workers': 0}

SYNONYMS = {'little': 'small', 'big': 'large', 'disc': 'circle', 'box': 'square', 'plus': 'cross'}
WAYS = {'left': 'left', 'right': 'right', 'up': 'up', 'down': 'down'}
WAYS |= {'upwards': 'up', 'downwards': 'down', 'still': 'still', 'staying': 'still', 'not': 'still'}


class Video:
    """A written video, read with nothing but the published layout."""

    def __init__(self, root, split, name):
        expressions = root / 'meta_expressions' / split / 'meta_expressions.json'
        entry = json.loads(expressions.read_text())['videos'][name]
        self.expressions = list(entry['expressions'].values())
        self.objects = json.loads((root / split / 'meta.json').read_text())['videos'][name]
        self.objects = self.objects['objects']
        images, masks = (root / split / f / name for f in ('JPEGImages', 'Annotations'))
        self.stems = entry['frames']
        self.modes = {Image.open(masks / f'{stem}.png').mode for stem in self.stems}
        self.frames = np.stack([np.array(Image.open(images / f'{s}.jpg')) for s in self.stems])
        self.ids = np.stack([np.array(Image.open(masks / f'{s}.png')) for s in self.stems])

    def mask(self, obj_id):
        return self.ids == int(obj_id)

    def whole(self, obj_id):
        """Frames in which an object neither touches the border nor is hidden by others, (T,)."""
        mask = self.mask(obj_id)
        border = mask[:, [0, -1]].any((1, 2)) | mask[:, :, [0, -1]].any((1, 2))
        area = mask.sum((1, 2))
        return ~border & (area > 0.95 * area.max())

    def centroids(self, obj_id):
        mask = self.mask(obj_id)
        y, x = np.mgrid[: mask.shape[1], : mask.shape[2]]
        area = np.maximum(mask.sum((1, 2)), 1)
        return np.stack([(mask * x).sum((1, 2)) / area, (mask * y).sum((1, 2)) / area], 1)

    def fitting(self, words):
        """Ids of the objects that the size, colour and shape words of a name fit."""
        words = {SYNONYMS.get(word, word) for word in words}

        def fits(obj):
            named = (
                words & options
                for options in ({'small', 'large'}, set(COLOURS), set(SHAPES))
                if words & options
            )
            return all(name <= {obj['size'], obj['colour'], obj['category']} for name in named)

        return {obj_id for obj_id, obj in self.objects.items() if fits(obj)}


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp('synthetic') / 'data'
    generate_dataset(root, num_train=24, num_valid=12, seed=3)
    return root


@pytest.fixture(scope='module')
def videos(dataset):
    names = [(p.parts[-3], p.name) for p in sorted(dataset.glob('*/JPEGImages/*'))]
    return {name: Video(dataset, split, name) for split, name in names}


@pytest.fixture(scope='module')
def many():
    """Small videos: enough of them for statistics."""
    return [make_video((11, i), size=(48, 80), num_frames=16) for i in range(150)]


def contents(root):
    return {p.relative_to(root): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def split_relation(text):
    """Words of the target and of the landmark: 'the ... <relation> the ...'."""
    head, landmark = text.removeprefix('the ').rsplit(' the ', 1)
    return head.split(), landmark.split()


def test_layout_is_the_published_one(dataset, videos):
    assert len(list((dataset / 'train' / 'JPEGImages').iterdir())) == 24
    assert len(list((dataset / 'valid' / 'Annotations').iterdir())) == 12
    for video in videos.values():
        assert video.modes == {'P'}
        assert 16 <= len(video.stems) <= 24 and video.stems[:2] == ['00000', '00005']
        assert video.frames.shape == (*video.ids.shape, 3) == (len(video.stems), 96, 160, 3)
        assert {e['obj_id'] for e in video.expressions} == set(video.objects)
        assert {e['kind'] for e in video.expressions} <= set(KINDS)
        for obj_id, obj in video.objects.items():
            present = [s for s, m in zip(video.stems, video.mask(obj_id)) if m.any()]
            assert obj['frames'] == present and obj['category'] in SHAPES
            assert len(present) >= 0.4 * len(video.stems)
        assert set(np.unique(video.ids)) == {0, *map(int, video.objects)}


def test_files_do_not_depend_on_the_workers_but_on_the_seed(tmp_path):
    one, two, other = tmp_path / 'one', tmp_path / 'two', tmp_path / 'other'
    generate_dataset(one, **SMALL)
    generate_dataset(two, **{**SMALL, 'num_workers': 2})
    generate_dataset(other, **SMALL, seed=1)
    assert contents(one) == contents(two)
    assert contents(one) != contents(other)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith('.')]


def test_make_video_repeats_and_agrees_with_the_files(dataset, videos):
    video = make_video((3, 1, 4), 'valid')
    again = make_video((3, 1, 4), 'valid')
    assert np.array_equal(video.frames, again.frames) and video.expressions == again.expressions
    written = videos['valid_00004']
    assert np.array_equal(video.ids, written.ids)
    assert [e.text for e in video.expressions] == [e['exp'] for e in written.expressions]
    assert abs(video.frames.astype(int) - written.frames).mean() < 4  # JPEG


def test_held_out_looks_are_only_in_valid(videos):
    assert {shape for shape, _ in HELD_OUT} == set(SHAPES)
    assert {colour for _, colour in HELD_OUT} == set(COLOURS)
    for name, video in videos.items():
        unseen = [(o['category'], o['colour']) in HELD_OUT for o in video.objects.values()]
        assert any(unseen) == name.startswith('valid')
        assert unseen == [o['unseen'] for o in video.objects.values()]


def test_every_object_has_sentences_in_different_words_true_of_it_alone(videos):
    for video in videos.values():
        texts = [e['exp'] for e in video.expressions]
        assert len(set(texts)) == len(texts)
        for obj_id in video.objects:
            words = {
                frozenset(e['exp'].split()) for e in video.expressions if e['obj_id'] == obj_id
            }
            assert len(words) >= 2


def test_colour_and_size_of_the_pixels_are_those_noted(videos):
    palette = np.array(list(COLOURS.values()))
    for video in videos.values():
        for obj_id, obj in video.objects.items():
            colour = np.median(video.frames[video.mask(obj_id)], axis=0)
            assert list(COLOURS)[abs(palette - colour).sum(1).argmin()] == obj['colour']
            if video.whole(obj_id).any():
                area = video.mask(obj_id).sum((1, 2)).max()
                assert obj['size'] == ('small' if np.sqrt(4 * area / np.pi) < 22 else 'large')


def test_motion_of_the_masks_is_the_one_noted_in_every_part_of_the_video(videos):
    checked = 0
    for video in videos.values():
        for obj_id, obj in video.objects.items():
            frames = np.flatnonzero(video.whole(obj_id))
            if len(frames) < 3:
                continue
            checked += 1
            steps = np.diff(video.centroids(obj_id)[frames], axis=0) / np.diff(frames)[:, None]
            axis = np.array(MOTIONS[obj['motion']])
            if obj['motion'] == 'still':
                assert abs(steps).max() < 1  # an edge hidden by others shifts the centroid
            else:
                assert (steps @ axis).min() > 1
                assert abs(steps @ axis[::-1]).max() < 0.5 * (steps @ axis).max()
    assert checked > 60


def test_appearance_sentences_fit_one_object(videos):
    for video in videos.values():
        for e in (e for e in video.expressions if e['kind'] == 'appearance'):
            assert video.fitting(e['exp'].split()) == {e['obj_id']}, e


def test_motion_sentences_fit_one_object_and_need_the_motion(videos):
    for video in videos.values():
        for e in (e for e in video.expressions if e['kind'] == 'motion'):
            words = e['exp'].split()
            (way,) = {WAYS[word] for word in words if word in WAYS}
            alike = video.fitting(words)
            assert len(alike) > 1, e
            assert [i for i in sorted(alike) if video.objects[i]['motion'] == way] == [e['obj_id']]


def test_relation_sentences_need_the_relation(videos):
    for video in videos.values():
        for e in (e for e in video.expressions if e['kind'] == 'relation'):
            target, landmark = split_relation(e['exp'])
            assert len(video.fitting(landmark)) == 1, e
            # Words of the relation are neither colours nor shapes nor sizes.
            relation_words = {'bigger', 'larger', 'smaller'}
            assert e['obj_id'] in video.fitting(set(target) - relation_words)
            assert len(video.fitting(set(target) - relation_words)) > 1, e


def relation_holds(video, words, target, landmark):
    """Whether the masks show a spatial or size relation wherever both objects are whole."""
    both = video.whole(target) & video.whole(landmark)
    if not both.any():
        return None
    x, y = (video.centroids(target) - video.centroids(landmark))[both].T
    areas = [video.mask(i).sum((1, 2))[both].mean() for i in (target, landmark)]
    tests = {
        'left': (x < -1).all(),
        'right': (x > 1).all(),
        'above': (y < -1).all(),
        'higher': (y < -1).all(),
        'below': (y > 1).all(),
        'under': (y > 1).all(),
        'lower': (y > 1).all(),
        'bigger': areas[0] > 1.5 * areas[1],
        'larger': areas[0] > 1.5 * areas[1],
        'smaller': 1.5 * areas[0] < areas[1],
    }
    return next((bool(tests[word]) for word in words if word in tests), None)


def test_relations_hold_in_the_masks_for_the_target_and_for_no_rival(videos):
    confirmed = refuted = 0
    for video in videos.values():
        for e in (e for e in video.expressions if e['kind'] == 'relation'):
            target, landmark = split_relation(e['exp'])
            (landmark,) = video.fitting(landmark)
            holds = relation_holds(video, target, e['obj_id'], landmark)
            assert holds is not False, e
            confirmed += holds is True
            for rival in video.fitting(target) - {e['obj_id'], landmark}:
                holds = relation_holds(video, target, rival, landmark)
                assert holds is not True, (e, rival)
                refuted += holds is False
    assert confirmed > 20 and refuted > 10


def test_passing_is_visible(videos):
    seen = 0
    for video in videos.values():
        for e in video.expressions:
            if e['kind'] == 'relation' and ('behind' in e['exp'] or 'front' in e['exp']):
                target, landmark = split_relation(e['exp'])
                (landmark,) = video.fitting(landmark)
                hidden, cover = e['obj_id'], landmark
                if 'front' in target:
                    hidden, cover = cover, hidden
                grown = np.stack(
                    [cv2.dilate(m.astype(np.uint8), np.ones((3, 3))) for m in video.mask(cover)]
                )
                hidden_area = video.mask(hidden).sum((1, 2))
                lost = hidden_area < 0.97 * hidden_area.max()
                touching = (grown & video.mask(hidden)).any((1, 2)) | (hidden_area == 0)
                assert (lost & touching).sum() >= 2, e
                seen += 1
    assert seen >= 10


def test_kinds_are_balanced_and_objects_get_occluded_and_leave(many):
    kinds = Counter(e.kind for video in many for e in video.expressions)
    for kind in KINDS:
        assert 0.26 < kinds[kind] / kinds.total() < 0.4, kinds
    assert np.mean([video.facts.occluded.any() for video in many]) > 0.4
    assert np.mean([video.facts.crossing_border.any() for video in many]) > 0.4


@pytest.mark.parametrize('shortcut', ['biggest', 'nearest', 'first id', 'most central'])
def test_no_object_can_be_guessed_without_the_sentence(many, shortcut):
    gain = []
    for video in many:
        objects = video.scene.objects
        middle = np.array([40, 24])
        guess = {
            'biggest': np.argmax([obj.diameter for obj in objects]),
            'nearest': video.scene.depth[-1],
            'first id': 0,
            'most central': np.abs(video.facts.centres - middle).sum((1, 2)).argmin(),
        }[shortcut]
        gain += [(e.obj_id == guess + 1) - 1 / len(objects) for e in video.expressions]
    assert abs(np.mean(gain)) < 0.06


def test_attributes_do_not_tell_each_other(many):
    """The share of any motion (size, depth) among objects of any colour, shape or id is usual."""
    objects = [
        (i, obj, i == video.scene.depth[-1])
        for video in many
        for i, obj in enumerate(video.scene.objects)
    ]
    groups = {(k, getattr(o, k)) for _, o, _ in objects for k in ('shape', 'colour')}
    groups |= {('id', i) for i, _, _ in objects}
    for key, value in groups:
        group = [(o, f) for i, o, f in objects if (i if key == 'id' else getattr(o, key)) == value]
        spread = 4 * 0.5 / np.sqrt(len(group))
        large = np.mean([o.size == 'large' for o, _ in group])
        moving = np.mean([o.motion in ('left', 'up') for o, _ in group])
        assert abs(large - np.mean([o.size == 'large' for _, o, _ in objects])) < spread
        assert abs(moving - np.mean([o.motion in ('left', 'up') for _, o, _ in objects])) < spread


def test_objects_share_attributes_in_most_videos(many):
    looks = [[(o.shape, o.colour, o.size) for o in video.scene.objects] for video in many]
    shared = [len({s for s, *_ in v}) < len(v) or len({c for _, c, _ in v}) < len(v) for v in looks]
    twins = [len(set(v)) < len(v) for v in looks]
    assert np.mean(shared) > 0.7 and np.mean(twins) > 0.1


def test_reuse_refuse_overwrite(tmp_path, caplog):
    root = tmp_path / 'data'
    statistics = generate_dataset(root, **SMALL)
    before = contents(root)
    with pytest.raises(FileExistsError, match='--overwrite'):
        generate_dataset(root, **SMALL)
    assert generate_dataset(root, **SMALL, reuse=True) == statistics
    assert contents(root) == before
    with pytest.raises(FileExistsError, match='--overwrite'):
        generate_dataset(root, **SMALL, seed=1, reuse=True)
    (root / 'valid' / 'meta.json').unlink()
    with pytest.raises(FileExistsError, match='--overwrite'):
        generate_dataset(root, **SMALL, reuse=True)  # not complete any more
    generate_dataset(root, **SMALL, overwrite=True)
    assert contents(root) == before
    assert list(tmp_path.iterdir()) == [root]


def test_other_peoples_folders_are_never_replaced(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(FileExistsError, match='was not written by this tool'):
        generate_dataset(tmp_path, **SMALL, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']


@pytest.mark.parametrize('num_workers', [0, 2])
def test_interrupted_generation_leaves_what_was_there(tmp_path, monkeypatch, num_workers):
    root = tmp_path / 'data'
    generate_dataset(root, **SMALL)
    before = contents(root)

    def interrupt(*args):
        raise OSError('disk full')

    monkeypatch.setattr(writer, '_describe_objects', interrupt)
    for target, overwrite in ((root, True), (tmp_path / 'new', False)):
        with pytest.raises(OSError, match='disk full'):
            generate_dataset(
                target, **{**SMALL, 'num_workers': num_workers}, seed=5, overwrite=overwrite
            )
    assert contents(root) == before
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'num_train': 0}, 'num_train is 0'),
        ({'num_valid': -1}, 'num_valid is -1'),
        ({'size': (20, 30)}, 'size 20x30 is too small'),
        ({'num_frames': 2}, 'num_frames 2..2'),
        ({'num_frames': (24, 16)}, 'num_frames 24..16'),
        ({'num_frames': 5000}, 'num_frames 5000'),
        ({'seed': -1}, 'seed is -1'),
    ],
)
def test_bad_options_are_named_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        generate_dataset(tmp_path / 'data', **{**SMALL, **options})
    assert not list(tmp_path.iterdir())


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split 'test'"):
        make_video(0, 'test')


def test_tokenizer_loads_and_covers_any_sentence(dataset, videos):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(dataset / 'tokenizer')
    special = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id]
    assert [*special, tokenizer.unk_token_id, tokenizer.mask_token_id] == [0, 1, 2, 3, 4]
    for e in (e for video in videos.values() for e in video.expressions):
        ids = tokenizer(e['exp'])['input_ids']
        assert ids[0] == 0 and ids[-1] == 2 and 3 not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == e['exp']
        assert set(e['exp'].split()) <= set(VOCABULARY)
    batch = tokenizer(['the red star', 'A zebra, or the Über-Pferd 馬?'], padding=True)
    assert batch['input_ids'][0][-1] == 1 and batch['attention_mask'][0][-1] == 0
    assert 3 not in batch['input_ids'][1]
    assert tokenizer('the RED star')['input_ids'] == tokenizer('the red star')['input_ids']
    assert len(tokenizer('the red star')['input_ids']) == 5


def test_tokenizer_training_repeats(tmp_path):
    texts = [f'the {a} {b} that moves' for a in COLOURS for b in SHAPES]
    for name in 'ab':
        train_tokenizer(texts, tmp_path / name, vocab_size=300)
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')


def test_command_writes_summary_and_preview(tmp_path, monkeypatch, capsys):
    script = REPO / 'tools' / 'dataset_tools' / 'make_synthetic.py'
    spec = importlib.util.spec_from_file_location('make_synthetic', script)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    out, preview = tmp_path / 'data', tmp_path / 'preview.png'
    arguments = ['make_synthetic.py', str(out), '--num-train', '2', '--num-valid', '3']
    arguments += ['--num-frames', '8', '--size', '48', '80', '--workers', '0']
    monkeypatch.setattr(sys, 'argv', [*arguments, '--preview', str(preview)])
    tool.main()
    assert 'train: 2 videos, 16 frames' in capsys.readouterr().out
    assert np.array(Image.open(preview)).std() > 10
    monkeypatch.setattr(sys, 'argv', arguments)
    with pytest.raises(SystemExit) as end:
        tool.main()
    assert end.value.code == 2
    assert '--overwrite' in capsys.readouterr().err


def killed(index):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_ends_the_generation():
    with pytest.raises(OSError, match='worker process was ended from outside'):
        list(writer._in_order(killed, 8, 2))
