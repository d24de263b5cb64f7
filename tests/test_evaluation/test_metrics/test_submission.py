"""Submissions for the Ref-YouTube-VOS server: written whole or not at all, checked before."""

import json
import zipfile

import numpy as np
import pytest
import torch
from fixtures_rvos import write_ref_youtube_vos
from gloo_processes import run_processes, share
from PIL import Image

from referformer.evaluation.metrics.submission import (
    Entry,
    read_entries,
    validate_submission,
    write_masks,
    write_zip,
)
from referformer.evaluation.scoring.expression_files import ref_youtube_vos_jobs
from referformer.evaluation.scoring.videos import run_jobs, summarise
from referformer.registry import METRICS
from referformer.structures import ABSENT, control_of

FRAMES = ('00000', '00005', '00010')
SIZE = (12, 16)
ENTRIES = [Entry(video, exp, FRAMES, SIZE) for video in ('a', 'b') for exp in ('0', '1')]


def masks(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((len(FRAMES), *SIZE)) > 0.5


def sample(entry: Entry, seed: int = 0, **changes) -> dict:
    """A data sample as metrics receive it."""
    return {
        'video_id': entry.video_id,
        'exp_id': entry.exp_id,
        'frame_names': list(entry.frames),
        'ori_shape': SIZE,
        'pred_instances': {'masks': torch.from_numpy(masks(seed))[None]},
    } | changes


def metric(folder, entries=ENTRIES, **kwargs):
    built = METRICS.build({'type': 'SubmissionMetric', 'out_dir': str(folder), **kwargs})
    built.dataset_meta = {'expected': [entry.key for entry in entries]}
    return built


def test_the_tree_and_its_zip(tmp_path):
    out = metric(tmp_path / 'out')
    for i, entry in enumerate([*ENTRIES, ENTRIES[0]]):  # the sampler repeats the first
        out.process(None, [sample(entry, i % 4)])
    assert out.evaluate(5) == {'submission/expressions': 4, 'submission/masks': 12}
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['Annotations', 'submission.zip']
    image = Image.open(tmp_path / 'out/Annotations/b/0/00005.png')
    assert image.mode == 'L'
    np.testing.assert_array_equal(np.asarray(image), masks(2)[1] * 255)
    with zipfile.ZipFile(tmp_path / 'out/submission.zip') as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert names == [
        f'Annotations/{e.video_id}/{e.exp_id}/{f}.png' for e in ENTRIES for f in FRAMES
    ]


def test_processes_put_their_masks_together(tmp_path):
    first, second = metric(tmp_path / 'out'), metric(tmp_path / 'out')
    first.process(None, [sample(entry) for entry in ENTRIES[:3]])
    second.process(None, [sample(entry) for entry in ENTRIES[2:]])
    first.results += second.results  # as BaseMetric collects them
    assert first.evaluate(5)['submission/masks'] == 12
    assert validate_submission(tmp_path / 'out/Annotations', ENTRIES) == 12
    second.results.clear()
    with pytest.raises(ValueError, match='4 missing expressions'):
        second.evaluate(0)
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == ['Annotations', 'submission.zip']


def test_what_is_incomplete_is_not_written(tmp_path):
    out = metric(tmp_path / 'out')
    out.process(None, [sample(entry) for entry in ENTRIES[:2]])
    with pytest.raises(ValueError, match='2 missing expressions: b/0, b/1'):
        out.evaluate(2)
    assert not any((tmp_path / 'out').iterdir())
    out = metric(tmp_path / 'out')
    with pytest.raises(ValueError, match=r'size \(24, 16\)'):
        out.process(None, [sample(ENTRIES[0], ori_shape=(24, 16))])


def test_earlier_submissions_are_replaced_only_when_told(tmp_path):
    for overwrite, seed in ((False, 0), (True, 1)):
        out = metric(tmp_path, ENTRIES[:1], overwrite=overwrite)
        out.process(None, [sample(ENTRIES[0], seed)])
        out.evaluate(1)
    image = np.asarray(Image.open(tmp_path / 'Annotations/a/0/00000.png'))
    np.testing.assert_array_equal(image, masks(1)[0] * 255)
    with pytest.raises(FileExistsError, match='overwrite=True'):
        metric(tmp_path)


def test_frames_come_from_the_expression_file(tmp_path):
    root = write_ref_youtube_vos(tmp_path / 'data', num_valid=1, num_frames=3, size=SIZE)
    ann_file = root / 'meta_expressions/valid/meta_expressions.json'
    entries = read_entries(ann_file)
    assert entries[0] == Entry('valid0', '0', FRAMES)
    content = json.loads((ann_file).read_text())
    truth = root / 'valid/Annotations/valid0'
    labels = np.stack([np.asarray(Image.open(truth / f'{f}.png')) for f in FRAMES])
    for frames in (FRAMES[:2], FRAMES):
        out = metric(tmp_path / 'out', ann_file=str(ann_file))
        for entry in entries:
            obj_id = content['videos']['valid0']['expressions'][entry.exp_id]['obj_id']
            pred = torch.from_numpy(labels[: len(frames)] == int(obj_id))[None]
            short = Entry(*entry.key, frames)
            out.process(None, [sample(short, pred_instances={'masks': pred})])
        if frames is not FRAMES:
            with pytest.raises(ValueError, match=r'4 missing frames: .*valid0/0/00010.png'):
                out.evaluate(4)
    out.evaluate(4)
    # What was written is what the scorer of this layout reads.
    scores, _ = run_jobs(ref_youtube_vos_jobs(tmp_path / 'out', root), progress=False)
    assert summarise(scores)['J&F-Mean'] == 1


def no_frame(root):
    (root / 'a/0/00005.png').unlink()


def no_expression(root):
    (root / 'a/1').rename(root / 'a/7')


def other_frame(root):
    (root / 'b/1/00005.png').rename(root / 'b/1/00006.png')


def other_size(root):
    Image.new('L', (16, 13)).save(root / 'a/0/00005.png')


def colour(root):
    Image.new('RGB', (16, 12)).save(root / 'a/0/00005.png')


def grey(root):
    Image.new('L', (16, 12), 1).save(root / 'a/0/00005.png')


def cut_off(root):
    path = root / 'a/0/00005.png'
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (no_frame, '1 missing frames: .*a/0/00005.png'),
        (no_expression, '1 expressions too many: .*a/7; 1 missing folders: .*a/1'),
        (other_frame, '1 frames too many: .*00006; 1 missing frames: .*00005'),
        (other_size, r'1 masks of another size .*a/0/00005.png \(16x13, not 16x12\)'),
        (colour, 'not black and white images: .*mode RGB'),
        (grey, '1 masks with other values than 0 and 255: .*a/0/00005.png'),
        (cut_off, '1 files that cannot be decoded: .*a/0/00005.png'),
    ],
)
def test_bad_trees_are_named(tmp_path, spoil, message):
    root = tmp_path / 'Annotations'
    for entry in ENTRIES:
        write_masks(root / entry.video_id / entry.exp_id, FRAMES, masks())
    assert validate_submission(root, ENTRIES) == 12
    spoil(root)
    with pytest.raises(ValueError, match=message):
        validate_submission(root, ENTRIES)


def test_the_zip_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_masks(tmp_path / 'Annotations/a/0', FRAMES, masks())
    path = tmp_path / 'out.zip'
    path.write_text('earlier')

    def full(*args):
        raise OSError('disk full')

    monkeypatch.setattr(zipfile.ZipFile, 'writestr', full)
    with pytest.raises(OSError, match='disk full'):
        write_zip(tmp_path / 'Annotations', path)
    assert path.read_text() == 'earlier'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['Annotations', 'out.zip']


SEVEN = [Entry(f'v{i // 2}', str(i % 2), FRAMES, SIZE) for i in range(7)]


def _submit(rank: int, world_size: int, out: str) -> None:
    one = metric(out, SEVEN, collect_dir=f'{out}.collect')
    items = share(list(enumerate(SEVEN)), rank, world_size)
    one.process(None, [sample(entry, i) for i, entry in items])
    torch.save(one.evaluate(len(SEVEN)), f'{out}.rank{rank}')


@pytest.mark.slow
def test_several_processes_write_what_one_writes(tmp_path):
    """Three processes; two of them in ``test_test_in_processes.py``."""
    _submit(0, 1, f'{tmp_path}/1')
    run_processes(_submit, 3, f'{tmp_path}/3')
    for rank in range(3):
        numbers = torch.load(f'{tmp_path}/3.rank{rank}')
        assert numbers == {'submission/expressions': 7, 'submission/masks': 21}
    alone, three = tmp_path / '1', tmp_path / '3'
    # Nothing is left of the folders of the other processes.
    assert sorted(p.name for p in three.iterdir()) == ['Annotations', 'submission.zip']
    assert validate_submission(three / 'Annotations', SEVEN) == 21
    assert (three / 'submission.zip').read_bytes() == (alone / 'submission.zip').read_bytes()


@pytest.mark.parametrize('name', ['..', '.', '', '/tmp/elsewhere', 'a//b', 'a\\b', 'a\0', '\ud800'])
@pytest.mark.parametrize('key', ['video_id', 'exp_id', 'frame_names'])
def test_nothing_is_written_outside_the_folder(tmp_path, key, name):
    out = metric(tmp_path / 'out', ENTRIES[:1])
    value = [*FRAMES[:2], name] if key == 'frame_names' else name
    with pytest.raises(ValueError, match='must be a plain name'):
        out.process(None, [sample(ENTRIES[0], **{key: value})])
    assert [path.name for path in tmp_path.iterdir()] == ['out']
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.is_file()]


@pytest.mark.parametrize('name', ['../x', '..', '', '/x'])
@pytest.mark.parametrize('place', ['video', 'expression', 'frame'])
def test_names_are_refused_when_the_expression_file_is_read(tmp_path, place, name):
    names = {'video': 'a', 'expression': '0', 'frame': '00000', place: name}
    video = {'frames': [names['frame']], 'expressions': {names['expression']: {'exp': 'it'}}}
    path = tmp_path / 'meta_expressions.json'
    path.write_text(json.dumps({'videos': {names['video']: video}}))
    with pytest.raises(ValueError, match=r'meta_expressions\.json: .* must be a plain name'):
        read_entries(path)


@pytest.mark.parametrize('control', [{'frame_order': 'shuffled'}, {'obj_id': ABSENT}])
def test_controls_are_left_out(tmp_path, control):
    """Else the masks of shuffled frames replace the others, and absent ones are too many."""
    out = metric(tmp_path / 'out')
    out.dataset_meta['expected'] += [(*ENTRIES[0].key, control_of(control))]
    for i, entry in enumerate(ENTRIES):
        out.process(None, [sample(entry, i), sample(entry, 9, **control)])
    assert out.evaluate(8) == {'submission/expressions': 4, 'submission/masks': 12}
    image = Image.open(tmp_path / 'out/Annotations/b/0/00005.png')
    np.testing.assert_array_equal(np.asarray(image), masks(2)[1] * 255)
