"""VOSMetric: averages by hand, swapped scores, repeats, several processes, memory."""

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_processes import run_processes
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from referformer.evaluation import VOSMetric, boundary_measure, region_similarity
from referformer.registry import METRICS
from referformer.structures import RVOSDataSample

SHAPE = (24, 32)


def masks(*lefts: int) -> np.ndarray:
    """One frame for each number: an 8x8 square that many pixels from the left; None = empty."""
    frames = np.zeros((1, len(lefts), *SHAPE), bool)
    for frame, left in zip(frames[0], lefts):
        if left is not None:
            frame[8:16, left : left + 8] = True
    return frames


def sample(video: str, exp: str, pred, gt, control=None, kind: str | None = None) -> dict:
    """A data sample as metrics receive it."""
    groups = {'pred_instances': pred, 'gt_instances': gt, 'gt_control': control}
    return {'video_id': video, 'exp_id': exp, 'kind': kind} | {
        name: {'masks': torch.from_numpy(value)}
        for name, value in groups.items()
        if value is not None
    }


def evaluate(samples: list[dict], **kwargs) -> dict[str, float]:
    metric = VOSMetric(**kwargs)
    for one in samples:
        metric.process(None, [one])
    return metric.evaluate(len(samples))


# J = 1, 1/3 and 0 per frame of an 8 pixel wide square that is off by 0, 4 and 12 pixels.
PERFECT = sample('a', '0', masks(4, 4), masks(4, 4), masks(16, 16), 'appearance')
SHIFTED = sample('a', '1', masks(8, 4), masks(4, 4), masks(8, 4), 'motion')
MISSED = sample('b', '0', masks(4, 4, None), masks(16, 16, None), masks(4, 4, 4), 'motion')


def test_frames_then_expressions_are_averaged():
    out = evaluate([PERFECT, SHIFTED, MISSED])
    # Means over 2, 2 and 3 frames; the very last has no object, and none is predicted.
    j = [1, (1 / 3 + 1) / 2, (0 + 0 + 1) / 3]
    f = [
        boundary_measure(s['pred_instances']['masks'][0], s['gt_instances']['masks'][0]).mean()
        for s in (PERFECT, SHIFTED, MISSED)
    ]
    assert out['J'] == pytest.approx(100 * np.mean(j))
    assert out['F'] == pytest.approx(100 * np.mean(f))
    assert out['J&F'] == pytest.approx((out['J'] + out['F']) / 2)


def test_kinds_are_averaged_apart():
    out = evaluate([PERFECT, SHIFTED, MISSED])
    assert out['J&F_appearance'] == 100
    motion = evaluate([SHIFTED, MISSED])
    assert out['J&F_motion'] == motion['J&F'] == motion['J&F_motion']
    assert 'J&F_relation' not in out
    plain = evaluate([sample('a', '0', masks(4), masks(4))])
    assert set(plain) == {'J', 'F', 'J&F'}


def test_swapped_scores_are_those_of_the_other_object():
    out = evaluate([PERFECT, SHIFTED, MISSED])
    swapped = [
        {**s, 'gt_instances': s['gt_control'], 'gt_control': {}} for s in (PERFECT, SHIFTED, MISSED)
    ]
    direct = evaluate(swapped)
    for name in ('J', 'F', 'J&F'):
        assert out[f'{name}_swapped'] == pytest.approx(direct[name])
    assert out['gap'] == pytest.approx(out['J&F'] - out['J&F_swapped'])
    # J against the control: 0; 1 and 1; 1, 1 and 0.
    assert out['J_swapped'] == pytest.approx(100 * (0 + 1 + 2 / 3) / 3)


def test_gap_compares_the_same_expressions():
    alone = sample('c', '0', masks(4), masks(16))
    out = evaluate([PERFECT, alone])
    assert out['J&F'] == 50
    assert out['J&F_swapped'] == 0
    assert out['gap'] == 100


def test_several_objects_are_one_target():
    both = np.concatenate([masks(0), masks(16)])
    out = evaluate([sample('a', '0', both.any(0, keepdims=True), both)])
    assert out['J&F'] == 100


def test_scores_equal_the_functions_on_random_masks():
    rng = np.random.default_rng(0)
    pred, gt = rng.random((2, 1, 5, *SHAPE)) < 0.3
    out = evaluate([sample('a', '0', pred, gt)])
    assert out['J'] == pytest.approx(100 * region_similarity(pred[0], gt[0]).mean())
    assert out['F'] == pytest.approx(100 * boundary_measure(pred[0], gt[0]).mean())
    wide = evaluate([sample('a', '0', pred, gt)], tolerance=0.1)
    assert wide['F'] > out['F']


def test_repeats_count_once():
    once = evaluate([PERFECT, SHIFTED, MISSED])
    assert evaluate([PERFECT, SHIFTED, PERFECT, MISSED, PERFECT, PERFECT]) == once
    # The order of samples does not matter either, nor do equal expression ids in other videos.
    assert evaluate([MISSED, SHIFTED, PERFECT]) == once


def test_contradictory_repeats_count_once_and_are_named(messages):
    out = evaluate([PERFECT, {**MISSED, 'video_id': 'a'}])
    assert out['J'] == 100
    assert any('Expression 0 of video a was scored twice' in message for message in messages)


def test_missing_expressions_are_named():
    metric = VOSMetric()
    metric.dataset_meta = {'expected': [('a', '0'), ('a', '1'), ('b', '0')]}
    metric.process(None, [PERFECT, MISSED])
    with pytest.raises(ValueError, match=r'1 of 3 expressions were not scored: a/1\.'):
        metric.evaluate(3)
    metric.results.clear()
    metric.process(None, [PERFECT, SHIFTED, MISSED])
    assert metric.evaluate(3)['J&F_appearance'] == 100


def test_nothing_but_numbers_is_kept():
    metric = VOSMetric()
    metric.process(None, [PERFECT, SHIFTED])
    assert len(metric.results) == 2
    for result in metric.results:
        kept = {**vars(result), **vars(result)['measures']}
        del kept['measures']
        assert all(isinstance(v, (str, int, float, type(None))) for v in kept.values())


@pytest.mark.parametrize('gt', [None, np.zeros((0, 2, *SHAPE), bool)])
def test_a_split_without_annotations_is_refused(gt):
    with pytest.raises(ValueError, match=r'expression 7 of video v has no annotated .* submission'):
        evaluate([sample('v', '7', masks(4, 4), gt)])


def test_unusable_predictions_are_refused():
    with pytest.raises(ValueError, match='got none'):
        evaluate([sample('v', '7', None, masks(4))])
    with pytest.raises(ValueError, match=r'got \(2, 1, 24, 32\)'):
        evaluate([sample('v', '7', np.concatenate([masks(4), masks(4)]), masks(4))])
    with pytest.raises(ValueError, match=r'predicted masks of shape \(2, 24, 32\)'):
        evaluate([sample('v', '7', masks(4, 4), masks(4))])
    with pytest.raises(ValueError, match='nothing to score'):
        evaluate([])


@pytest.fixture
def messages():
    """What MMEngine's logger says during the test."""
    logger = MMLogger.get_current_instance()
    seen: list[str] = []
    handler = type(logger.handlers[0])()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


def test_one_table_is_logged(messages):
    out = evaluate([PERFECT, SHIFTED, MISSED])
    (table,) = [message for message in messages if 'expressions' in message]
    _, header, *rows = table.splitlines()
    assert header.split()[3:] == [
        'J&F',
        'swapped',
        'gap',
        'wrongly',
        'found',
        'box',
        'IoU',
        'expressions',
    ]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert list(cells) == ['all', 'appearance', 'motion']
    names = ('J', 'F', 'J&F', 'J&F_swapped', 'gap', 'wrongly_found')
    assert cells['all'] == [*(f'{out[name]:.2f}' for name in names), '-', '3']
    assert cells['motion'][2] == f'{out["J&F_motion"]:.2f}'
    assert cells['motion'][-1] == '2'


def test_boxes_are_compared_where_the_object_is_visible(tmp_path):
    seen = sample('a', '0', masks(4, 20, None), masks(4, 20, None), kind='motion')  # rows 8 to 15
    seen['pred_instances']['boxes'] = torch.tensor([[[4, 8, 11, 15], [20, 8, 27, 11.5], [0] * 4]])
    gone = sample('a', '1', masks(None), masks(None), kind='relation')
    gone['pred_instances']['boxes'] = torch.zeros(1, 1, 4)
    out = evaluate([seen, gone], outfile_prefix=f'{tmp_path}/')
    assert out['box_IoU'] == out['box_IoU_motion'] == pytest.approx(75)  # 1 and 1/2
    assert 'box_IoU_relation' not in out
    rows = list(csv.DictReader((tmp_path / 'per_expression.csv').open()))
    assert [row['box_IoU'] for row in rows] == ['75.0000', '']


def test_scores_of_every_expression_are_written(tmp_path):
    alone = sample('c', '0', masks(4), masks(4))
    out = evaluate([PERFECT, MISSED, alone, PERFECT], outfile_prefix=f'{tmp_path}/new/test_')
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['test_per_expression.csv']
    rows = list(csv.DictReader((tmp_path / 'new/test_per_expression.csv').open()))
    assert [(r['video_id'], r['exp_id'], r['kind'], r['frames']) for r in rows] == [
        ('a', '0', 'appearance', '2'),
        ('b', '0', 'motion', '3'),
        ('c', '0', '', '1'),
    ]
    assert np.mean([float(r['J&F']) for r in rows]) == pytest.approx(out['J&F'], abs=1e-4)
    assert rows[2]['J&F_swapped'] == ''


def test_a_runner_reaches_it():
    """Built from a config by the evaluator and fed data samples, as in the validation loop."""
    assert METRICS.get('VOSMetric') is VOSMetric
    with DefaultScope.overwrite_default_scope('referformer'):
        evaluator = Evaluator({'type': 'VOSMetric'})
    one = RVOSDataSample(metainfo={'video_id': 'a', 'exp_id': '0', 'kind': 'relation'})
    one.gt_instances = InstanceData(masks=torch.from_numpy(masks(4, 4)))
    one.pred_instances = InstanceData(masks=torch.from_numpy(masks(8, 8)), scores=torch.ones(1))
    one.gt_control = InstanceData(masks=torch.from_numpy(masks(8, 8)))
    evaluator.process([one])
    out = evaluator.evaluate(1)
    assert out['J'] == pytest.approx(100 / 3)
    assert out['J_swapped'] == out['J&F_swapped'] == 100
    assert out['gap'] == out['J&F'] - 100 == out['J&F_relation'] - 100


def dataset() -> list[dict]:
    """Seven expressions of different quality."""
    rng = np.random.default_rng(0)
    return [
        sample(f'v{i // 2}', str(i % 2), *(rng.random((3, 1, 2, *SHAPE)) < 0.1 * (i + 1)))
        for i in range(7)
    ]


# What each of three processes sees of seven items: the padding of the default sampler, repeats
# before other items, which cutting the list to seven would lose, and no padding.
SPLITS = {
    'padded': ([0, 3, 6], [1, 4, 0], [2, 5, 1]),
    'repeats first': ([6, 6, 1, 2], [4, 4, 5, 3], [0, 0, 1, 1]),
    'uneven': ([0], [1], [2, 3, 4, 5, 6]),
}


def _worker(rank: int, world_size: int, out: str) -> None:
    samples = dataset()
    results = {}
    for name, split in SPLITS.items():
        metric = VOSMetric(collect_dir=f'{out}/{name}', outfile_prefix=f'{out}/{name}_')
        metric.dataset_meta = {'expected': [(s['video_id'], s['exp_id']) for s in samples]}
        for i in split[rank]:
            metric.process(None, [samples[i]])
        results[name] = metric.evaluate(len(samples))
    torch.save(results, f'{out}/rank{rank}.pth')


@pytest.mark.slow
def test_several_processes_agree_with_one(tmp_path: Path):
    """Three processes; two of them in ``test_test_in_processes.py``."""
    expected = evaluate(dataset(), outfile_prefix=f'{tmp_path}/alone_')
    run_processes(_worker, 3, str(tmp_path))
    for rank in range(3):
        results = torch.load(tmp_path / f'rank{rank}.pth')
        for name in SPLITS:
            assert results[name] == expected, f'{name}, rank {rank}'
    table = (tmp_path / 'alone_per_expression.csv').read_bytes()
    assert table.count(b'\n') == 1 + 7
    for name in SPLITS:
        assert (tmp_path / f'{name}_per_expression.csv').read_bytes() == table


def test_memory_grows_with_one_video_not_with_all():
    """The 202 videos of the valid split of Ref-YouTube-VOS, with four expressions each."""

    def run(videos: int) -> tuple[int, int]:
        metric = VOSMetric()
        metric.process(None, [PERFECT])  # what is made once
        tracemalloc.start()
        for video in range(videos):
            for exp in range(4):
                frames = np.zeros((2, 1, 5, 60, 80), bool)
                frames[0, ..., 9:40, 5 : 30 + exp], frames[1, ..., 9:40, 5:30] = True, True
                metric.process(None, [sample(str(video), str(exp), *frames, kind='motion')])
        del frames
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert metric.evaluate(0)['J'] > 80
        return kept, peak

    run(1)  # imports
    one_mask = 60 * 80
    (few, peak_of_few), (many, peak_of_many) = run(2), run(202)
    per_expression = (many - few) / (4 * 200)
    assert per_expression < 1000 < one_mask
    # What remains of the videos seen is all that the peak grows by.
    assert peak_of_many - peak_of_few < 1.1 * (many - few) + one_mask
