"""Scoring of PNG trees: the public scorer's numbers, VOSMetric's, processes, memory."""

import csv
import io
import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fixtures_rvos import PALETTE, write_ref_youtube_vos
from PIL import Image
from pycocotools import mask as coco_mask

from referformer.evaluation import VOSMetric
from referformer.evaluation.measures.davis import score_davis
from referformer.evaluation.scoring.expression_files import mevis_jobs, ref_youtube_vos_jobs
from referformer.evaluation.scoring.pictures import draw_scores
from referformer.evaluation.scoring.report import format_csv, format_json
from referformer.evaluation.scoring.videos import (
    Job,
    davis_jobs,
    ref_davis_jobs,
    run_jobs,
    summarise,
    summarise_annotators,
)


def save_labels(folder: Path, maps: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for t, labels in enumerate(maps):
        image = Image.fromarray(labels)
        image.putpalette(PALETTE)
        image.save(folder / f'{t:05d}.png')


def save_binary(folder: Path, labels: Path) -> None:
    folder.mkdir(parents=True)
    for path in labels.iterdir():
        mask = np.asarray(Image.open(path)) == 1
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / path.name)


def random_maps(seed: int, frames: int = 4, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    maps = np.random.default_rng(seed).integers(0, 3, (frames, *size), dtype=np.uint8)
    maps[:, 0, 0] = 2  # every map has the same number of objects
    return maps


def scored(jobs, **kwargs):
    return run_jobs(jobs, progress=False, **kwargs)[0]


@pytest.mark.parametrize('nproc', [1, 2])
@pytest.mark.parametrize(
    ('protocol', 'folder'), [('unsupervised', 'proposals'), ('semi-supervised', 'tracked')]
)
def test_real_masks_equal_the_public_scorer(shared_dir, protocol, folder, nproc):
    root = shared_dir / 'metrics/davis_real'
    expected = json.loads((root / 'expected.json').read_text())
    expected = expected[f'{protocol}: {folder} against truth']
    jobs = davis_jobs(root / folder, root / 'truth', protocol == 'semi-supervised')
    scores = scored(jobs, nproc=nproc)
    overall = summarise(scores)
    assert overall['J&F-Mean'] == pytest.approx(expected['J&F'], abs=1e-9)
    objects = json.loads(format_json('', scores, {'mean': overall}, {}))['objects']
    for measure in 'JF':
        for name in ('mean', 'recall', 'decay'):
            value = expected[measure][name]
            assert overall[f'{measure}-{name.title()}'] == pytest.approx(value, abs=1e-9)
        means = {name: row[f'{measure}-Mean'] for name, row in objects.items()}
        assert means == pytest.approx(expected[measure]['mean_per_object'], abs=1e-9)


def test_processes_do_not_change_anything(tmp_path):
    for i in range(5):
        save_labels(tmp_path / 'gt' / f'v{i}', random_maps(i, frames=3 + i))
        save_labels(tmp_path / 'pred' / f'v{i}', random_maps(50 + i, frames=3 + i))
    jobs = davis_jobs(tmp_path / 'pred', tmp_path / 'gt')
    one, two = (format_csv(scored(jobs, nproc=n)) for n in (1, 2))
    assert one == two
    assert [row['sequence'] for row in csv.DictReader(io.StringIO(one))][::2] == [
        f'v{i}' for i in range(5)
    ]


def test_sequences_can_be_chosen(tmp_path):
    for name in 'ab':
        save_labels(tmp_path / 'gt' / name, random_maps(0))
    shutil.copytree(tmp_path / 'gt' / 'b', tmp_path / 'pred' / 'b')
    scores = scored(davis_jobs(tmp_path / 'pred', tmp_path / 'gt', sequences=['b']))
    assert {s.sequence for s in scores} == {'b'}
    assert summarise(scores)['J&F-Mean'] == 1


def test_ref_davis_is_the_mean_of_four_annotators(tmp_path):
    gt = {name: random_maps(i) for i, name in enumerate('ab')}
    for name, maps in gt.items():
        save_labels(tmp_path / 'gt' / name, maps)
    means = []
    for i in range(4):
        pred = {name: random_maps(10 * i + 3 + len(name), size=(20, 30)) for name in gt}
        for name, maps in pred.items():
            save_labels(tmp_path / 'pred' / f'anno_{i}' / name, maps)
        means.append(score_davis({name: (gt[name], pred[name]) for name in gt})[0])
    overall = summarise_annotators(scored(ref_davis_jobs(tmp_path / 'pred', tmp_path / 'gt')))
    assert overall['anno_2'] == pytest.approx(means[2], abs=1e-12)
    for key, value in overall['mean'].items():
        assert value == pytest.approx(np.mean([row[key] for row in means]), abs=1e-12)
    shutil.rmtree(tmp_path / 'pred' / 'anno_3')
    with pytest.raises(ValueError, match=r'1 missing folders: .*anno_3'):
        ref_davis_jobs(tmp_path / 'pred', tmp_path / 'gt')


@pytest.fixture
def expressions(tmp_path):
    """A dataset, predictions as they are submitted, and what VOSMetric says to them."""
    root = write_ref_youtube_vos(tmp_path / 'data', num_test=1)
    pred, metric = tmp_path / 'pred', VOSMetric()
    file = root / 'meta_expressions/valid/meta_expressions.json'
    rng = np.random.default_rng(0)
    for video, entry in json.loads(file.read_text())['videos'].items():
        if video.startswith('test'):
            continue
        folder = root / 'valid' / 'Annotations' / video
        maps = np.stack([np.asarray(Image.open(folder / f'{f}.png')) for f in entry['frames']])
        for exp_id, expression in entry['expressions'].items():
            truth = maps == int(expression['obj_id'])
            masks = np.roll(truth, rng.integers(-6, 7, 2), (1, 2))
            target = pred / 'Annotations' / video / exp_id
            target.mkdir(parents=True)
            for frame, mask in zip(entry['frames'], masks):
                Image.fromarray(mask.astype(np.uint8) * 255).save(target / f'{frame}.png')
            sample = {'video_id': video, 'exp_id': exp_id}
            sample['pred_instances'] = {'masks': masks[None]}
            sample['gt_instances'] = {'masks': truth[None]}
            metric.process(None, [sample])
    return root, pred, metric.evaluate(0)


def test_ref_youtube_vos_equals_the_metric(expressions):
    root, pred, expected = expressions
    # Videos of the test split are not scored; a tree without its top folder is the same.
    for folder in (pred, pred / 'Annotations'):
        overall = summarise(scored(ref_youtube_vos_jobs(folder, root), nproc=2))
        assert 100 * overall['J-Mean'] == pytest.approx(expected['J'], abs=1e-9)
        assert 100 * overall['F-Mean'] == pytest.approx(expected['F'], abs=1e-9)
        assert 100 * overall['J&F-Mean'] == pytest.approx(expected['J&F'], abs=1e-9)
    assert 0 < overall['J-Mean'] < 1


def test_expressions_without_objects_are_named(expressions, tmp_path):
    _, pred, _ = expressions
    root = write_ref_youtube_vos(tmp_path / 'official', with_valid_truth=False)
    (root / 'valid' / 'Annotations').mkdir()
    with pytest.raises(ValueError, match=r'8 expressions without a valid obj_id: valid0/0.*server'):
        ref_youtube_vos_jobs(pred, root)


def test_objects_that_no_mask_has_are_named(tmp_path):
    """As in the reader of the data set; they were scored as found wherever nothing was."""
    root = write_ref_youtube_vos(tmp_path, num_frames=2)
    path = root / 'meta_expressions/valid/meta_expressions.json'
    content = json.loads(path.read_text())
    content['videos']['valid0']['expressions']['0']['obj_id'] = '9'
    path.write_text(json.dumps(content))
    (tmp_path / 'pred/valid0').mkdir(parents=True)
    jobs = ref_youtube_vos_jobs(tmp_path / 'pred', root)
    with pytest.raises(ValueError, match=r'valid/Annotations/valid0: no mask has the object 9'):
        run_jobs(jobs, allow_missing=True, progress=False)


def test_masks_must_be_binary(expressions):
    root, pred, _ = expressions
    path = pred / 'Annotations/valid1/2/00005.png'
    mask = np.asarray(Image.open(path)).copy()
    mask[0, :2] = 1, 2
    Image.fromarray(mask).save(path)
    with pytest.raises(ValueError, match=r'1 that cannot be scored: .*valid1/2/00005.png has more'):
        scored(ref_youtube_vos_jobs(pred, root))


def test_mevis_takes_the_union_of_objects(tmp_path):
    objects = np.zeros((2, 3, 16, 24), bool)
    objects[0, :2, 2:8, 2:8] = True
    objects[1, :, 9:15, 12:20] = True
    codes = {
        str(i): [coco_mask.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
        for i, masks in enumerate(objects)
    }
    for masks in codes.values():
        for code in masks:
            code['counts'] = code['counts'].decode()
    codes['0'][2] = None  # the first object has left
    frames = ['00000', '00001', '00002']
    content = {'0': {'exp': 'both', 'anno_id': [1, 0]}, '1': {'exp': 'one', 'anno_id': [0]}}
    (tmp_path / 'valid_u').mkdir()
    (tmp_path / 'valid_u/mask_dict.json').write_text(json.dumps(codes))
    (tmp_path / 'valid_u/meta_expressions.json').write_text(
        json.dumps({'videos': {'v': {'frames': frames, 'expressions': content}}})
    )
    for exp_id, masks in (('0', objects.any(0)), ('1', objects.any(0))):
        folder = tmp_path / 'pred' / 'v' / exp_id
        folder.mkdir(parents=True)
        for name, mask in zip(frames, masks):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f'{name}.png')
    both, one = scored(mevis_jobs(tmp_path / 'pred', tmp_path))
    assert both.j.tolist() == both.f.tolist() == [1, 1, 1]
    assert one.j.tolist() == pytest.approx([36 / 84, 36 / 84, 0])
    del codes['1']
    (tmp_path / 'valid_u/mask_dict.json').write_text(json.dumps(codes))
    with pytest.raises(ValueError, match='1 objects without masks: 1 of v'):
        mevis_jobs(tmp_path / 'pred', tmp_path)


def peak_memory(make_jobs: Callable[[], list[Job]]) -> int:
    tracemalloc.start()
    scored(make_jobs())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_of_davis_holds_one_frame(tmp_path):
    def peak(videos: int, frames: int = 4) -> int:
        gt, pred = (tmp_path / f'{kind}{videos}_{frames}' for kind in ('gt', 'pred'))
        for i in range(videos):
            for folder in (gt, pred):
                save_labels(folder / f'v{i}', random_maps(i, frames, (120, 160)))
        return peak_memory(lambda: davis_jobs(pred, gt))

    peak(2)  # imports
    one = peak(1)
    assert one > 2 * 120 * 160
    # 32 more frames, of the same or of other videos, cost less than eight of their 64 maps.
    assert peak(9) < one + 8 * 120 * 160
    assert peak(1, frames=36) < one + 8 * 120 * 160


def test_memory_of_expressions_holds_one_frame(tmp_path):
    def peak(videos: int, frames: int = 4) -> int:
        name, size = f'{videos}_{frames}', (240, 320)
        root = write_ref_youtube_vos(tmp_path / name, 0, videos, num_frames=frames, size=size)
        for i in range(videos):
            for exp_id in range(4):
                folder = tmp_path / f'pred{name}' / f'valid{i}'
                truth = root / 'valid' / 'Annotations' / f'valid{i}'
                save_binary(folder / str(exp_id), truth)
        return peak_memory(lambda: ref_youtube_vos_jobs(tmp_path / f'pred{name}', root))

    peak(2)  # imports
    one = peak(1)
    assert one > 240 * 320
    # 32 more frames, of the same or of other videos, may cost less than one mask.
    assert peak(9) < one + 240 * 320
    assert peak(1, frames=36) < one + 240 * 320


def test_the_picture_shows_what_is_wrong(tmp_path):
    maps = np.zeros((3, 40, 60), np.uint8)
    maps[:, 10:30, 10:30] = 1
    save_labels(tmp_path / 'gt' / 'good', maps)
    save_labels(tmp_path / 'pred' / 'good', maps)
    save_labels(tmp_path / 'gt' / 'bad', maps)
    save_labels(tmp_path / 'pred' / 'bad', np.roll(maps, 10, 2))
    jobs = davis_jobs(tmp_path / 'pred', tmp_path / 'gt')
    scores = scored(jobs)
    pred, truth = jobs[0].masks(scores[0], 0)
    assert (pred & truth).sum() == (pred & ~truth).sum() == 200
    picture = draw_scores(scores, jobs, 'title', num_worst=1)
    assert picture.dtype == np.uint8
    assert draw_scores(scores, jobs, 'title', num_worst=2).shape[0] > picture.shape[0]
