"""ReferringMetric: the published numbers, repeats, missing samples, several processes."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_processes import run_processes, share
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from referformer.evaluation import ReferringMetric
from referformer.evaluation.metrics import referring_metric
from referformer.registry import METRICS
from referformer.structures import RVOSDataSample, xyxy_to_cxcywh

coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
SHAPE = (24, 32)
MASK_KEYS = {'mAP', 'mAP_best', 'AP50', 'AP75', 'mAP_small', 'overall_IoU', 'mean_IoU'} | {
    f'P@0.{i}' for i in range(5, 10)
}
BOX_KEYS = {f'{name}@{k}' for name in ('REC_P', 'REC_IoU_P') for k in (1, 5, 10)}


def square(left: int | None) -> np.ndarray:
    """An 8x8 square that many pixels from the left; None = empty."""
    mask = np.zeros(SHAPE, bool)
    if left is not None:
        mask[8:16, left : left + 8] = True
    return mask


def boxes(lefts) -> torch.Tensor:
    """xyxy pixels of squares, (len, 1, 4)."""
    return torch.tensor([[[left, 8, left + 8, 16]] for left in lefts], dtype=torch.float32)


def sample(exp: str, lefts: list, scores: list[float], gt: int | None = 4, video='v') -> dict:
    """One annotated frame with a predicted square for each of ``lefts``."""
    masks = np.stack([square(left) for left in lefts])[:, None]
    shown = [left or 0 for left in lefts]
    height, width = SHAPE
    return {
        'video_id': video,
        'exp_id': exp,
        'frame_names': ['00007'],
        'ori_shape': SHAPE,
        'pred_instances': {
            'scores': torch.tensor(scores),
            'masks': torch.from_numpy(masks),
            'boxes': boxes(shown),
        },
        'gt_instances': {
            'masks': torch.from_numpy(square(gt)[None, None]),
            'boxes': xyxy_to_cxcywh(boxes([gt or 0]) / torch.tensor([width, height] * 2)),
        },
    }


def evaluate(samples: list[dict], **kwargs) -> dict[str, float]:
    metric = ReferringMetric(**kwargs)
    for one in samples:
        metric.process(None, [one])
    return metric.evaluate(len(samples))


# IoU of the best query: 1, 1/3, 0; the second query of the last is right.
RIGHT = sample('0', [4, 20], [0.9, 0.2])
SHIFTED = sample('1', [20, 8], [0.1, 0.3])
MISSED = sample('2', [20, 4], [0.8, 0.6])


def test_best_query_by_hand():
    out = evaluate([RIGHT, SHIFTED, MISSED], with_boxes=True)
    assert out['mean_IoU'] == pytest.approx(100 * (1 + 1 / 3 + 0) / 3, abs=1e-4)
    assert out['overall_IoU'] == pytest.approx(100 * (64 + 32 + 0) / (64 + 96 + 128))
    for i in range(5, 10):
        assert out[f'P@0.{i}'] == pytest.approx(100 / 3)
    assert out['REC_P@1'] == out['REC_IoU_P@1'] == pytest.approx(100 / 3)
    assert out['REC_P@5'] == out['REC_P@10'] == pytest.approx(200 / 3)
    assert set(out) == MASK_KEYS | BOX_KEYS


def test_all_queries_find_more_than_the_best_and_may_cost_precision():
    out = evaluate([RIGHT, SHIFTED, MISSED])
    # Recall 1/3 at precision 1 (34 of COCO's 101 points); then 2/3 at precision 2/3 (33 points).
    assert out['mAP_best'] == pytest.approx(100 * 34 / 101)
    assert out['mAP'] == pytest.approx(100 * (34 + 33 * 2 / 3) / 101)


def test_equal_scores_mean_the_last_query():
    out = evaluate([sample('0', [20, 4], [0.5, 0.5])])
    assert out['mean_IoU'] == 100
    assert evaluate([sample('0', [4, 20], [0.5, 0.5])])['P@0.5'] == 0


def test_options_leave_numbers_out():
    assert set(evaluate([RIGHT])) == MASK_KEYS
    assert set(evaluate([RIGHT], with_ap=False)) == MASK_KEYS - {
        'mAP', 'mAP_best', 'AP50', 'AP75', 'mAP_small'
    }  # fmt: skip


@pytest.mark.parametrize('name', ['a2d_eval', 'jhmdb_eval'])
def test_video_numbers_are_the_published_ones(shared_dir, name):
    numbers = json.loads((shared_dir / f'parity/metrics/{name}.json').read_text())
    out = evaluate(reference_samples(numbers))
    metrics = numbers['metrics']
    pairs = {'mAP': 'mAP 0.5:0.95', 'AP50': 'AP 0.5', 'AP75': 'AP 0.75'}
    pairs |= {'mAP_small': 'AP 0.5:0.95 S', 'mAP_medium': 'AP 0.5:0.95 M'}
    pairs |= {'overall_IoU': 'overall_iou', 'mean_IoU': 'mean_iou'}
    pairs |= {f'P@0.{i}': f'P@0.{i}' for i in range(5, 10)}
    for ours, theirs in pairs.items():
        assert out[ours] / 100 == pytest.approx(metrics[theirs], abs=1e-6), ours
    assert 'mAP_large' not in out  # the reference has -1
    assert set(out) == {*pairs, 'mAP_best'}


def test_image_numbers_are_the_published_ones(shared_dir):
    numbers = json.loads((shared_dir / 'parity/metrics/refcoco_eval.json').read_text())
    stats = numbers['stats']
    out = evaluate(reference_samples(numbers), with_boxes=True)
    pairs = {'overall_IoU': 'overall_iou', 'mean_IoU': 'mean_iou', 'P@0.5': 'P@0.5'}
    for ours, theirs in pairs.items():
        assert out[ours] / 100 == pytest.approx(stats[f'segm {theirs}'], abs=1e-6)
    expected = np.mean(list(numbers['refexp'].values()), 0)  # the datasets are equally large
    assert [out[f'REC_P@{k}'] / 100 for k in (1, 5, 10)] == pytest.approx(expected, abs=1e-6)
    assert out['REC_IoU_P@1'] / 100 == pytest.approx(stats['bbox P@0.5'], abs=1e-6)


def reference_samples(numbers: dict) -> list[dict]:
    """The reference's predictions as data samples."""
    samples = []
    for annotation in numbers['ground_truth']['annotations']:
        image = annotation['image_id']
        found = [p for p in numbers['predictions'] if p['image_id'] == image]
        height, width = annotation['segmentation']['size']
        x, y, w, h = annotation['bbox']
        box = torch.tensor([[[x + w / 2, y + h / 2, w, h]]], dtype=torch.float64)
        samples.append(
            {
                'video_id': 'v',
                'exp_id': '0',
                'frame_names': [image],
                'ori_shape': (height, width),
                'pred_instances': {
                    'scores': torch.tensor([p['score'] for p in found]),
                    'masks': decode([p['segmentation'] for p in found]),
                    'boxes': torch.tensor([[p.get('bbox', [0, 0, 1, 1])] for p in found]),
                },
                'gt_instances': {
                    'masks': decode([annotation['segmentation']]),
                    'boxes': box / torch.tensor([width, height] * 2),
                },
            }
        )
    return samples


def decode(rles: list[dict]) -> torch.Tensor:
    """Bool masks (N, 1, H, W)."""
    return torch.from_numpy(coco_mask.decode(rles).transpose(2, 0, 1)[:, None] > 0)


def test_frames_of_one_expression_count_each():
    two = {**RIGHT, 'frame_names': ['00001', '00009']}
    for group in ('pred_instances', 'gt_instances'):
        two[group] = {**RIGHT[group], 'masks': RIGHT[group]['masks'].repeat(1, 2, 1, 1)}
    two['pred_instances']['masks'] = two['pred_instances']['masks'].clone()
    two['pred_instances']['masks'][0, 1] = False
    metric = ReferringMetric()
    metric.process(None, [two])
    assert [r.key for r in metric.results] == [('v', '0', '00001'), ('v', '0', '00009')]
    assert metric.evaluate(1)['mean_IoU'] == pytest.approx(50, abs=1e-4)


def test_repeats_count_once():
    once = evaluate([RIGHT, SHIFTED, MISSED], with_boxes=True)
    assert evaluate([MISSED, RIGHT, MISSED, SHIFTED, RIGHT], with_boxes=True) == once


def test_contradictory_repeats_are_named(monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', said.append)
    assert evaluate([RIGHT, {**MISSED, 'exp_id': '0'}])['mean_IoU'] == 100
    assert 'Frame 00007 for expression 0 of video v was scored twice' in said[0]
    assert 'IoU 1.0000 and 0.0000' in said[0]


@pytest.mark.parametrize(
    ('expected', 'named'),
    [
        ([('v', '0'), ('v', '1'), ('w', '0')], 'w/0'),
        ([('v', '0', '00007'), ('v', '1', '00007'), ('v', '1', '00008')], 'v/1/00008'),
    ],
)
def test_missing_samples_are_named(expected, named):
    metric = ReferringMetric()
    metric.dataset_meta = {'expected': expected}
    metric.process(None, [RIGHT, SHIFTED])
    with pytest.raises(ValueError, match=rf'1 of 3 expressions were not scored: {named}\.'):
        metric.evaluate(2)
    metric.results.clear()
    metric.dataset_meta = {'expected': expected[:2]}
    metric.process(None, [RIGHT, SHIFTED])
    assert metric.evaluate(2)['P@0.5'] == 50


def test_what_is_kept_does_not_grow_with_the_frame():
    sizes = []
    for factor in (1, 16):
        big = sample('0', [4, 20], [0.9, 0.2])
        for group in ('pred_instances', 'gt_instances'):
            masks = big[group]['masks']
            pad = (0, (factor - 1) * SHAPE[1], 0, (factor - 1) * SHAPE[0])
            big[group]['masks'] = torch.nn.functional.pad(masks, pad)
        metric = ReferringMetric(with_boxes=True)
        metric.process(None, [big])
        sizes.append(len(pickle.dumps(metric.results)))
    assert sizes[1] < sizes[0] + 100 < 1600
    metric = ReferringMetric(with_ap=False)
    metric.process(None, [RIGHT])
    assert metric.results[0].masks is None


def test_unusable_samples_are_refused():
    def changed(group: str, **values) -> dict:
        return {**RIGHT, group: {**RIGHT[group], **values}}

    cases = {
        'has no annotated masks': changed('gt_instances', masks=torch.zeros(0, 1, *SHAPE)),
        'has no predicted masks': {**RIGHT, 'pred_instances': {}},
        r'of shape \(1, 24, 31\), annotated ones of \(1, 24, 32\)': changed(
            'pred_instances', masks=torch.zeros(2, 1, 24, 31)
        ),
        r'2 masks in 1 frames, but scores of shape \(1,\)': changed(
            'pred_instances', scores=torch.ones(1)
        ),
        'and 2 frame names': {**RIGHT, 'frame_names': ['1', '2']},
        'needs pred_instances.boxes': changed('pred_instances', boxes=None),
    }
    for message, one in cases.items():
        with pytest.raises(ValueError, match=f'expression 0 of video v .*{message}'):
            evaluate([one], with_boxes=True)
    with pytest.raises(ValueError, match='ReferringMetric has nothing to score'):
        evaluate([])


def test_without_pycocotools_map_is_refused_and_the_rest_works(monkeypatch):
    monkeypatch.setattr(referring_metric, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r'pip install pycocotools.*with_ap=False'):
        ReferringMetric()
    assert evaluate([RIGHT], with_ap=False)['P@0.9'] == 100


def test_a_runner_reaches_it():
    assert METRICS.get('ReferringMetric') is ReferringMetric
    with DefaultScope.overwrite_default_scope('referformer'):
        evaluator = Evaluator({'type': 'ReferringMetric', 'with_boxes': True})
    meta = {name: RIGHT[name] for name in ('video_id', 'exp_id', 'frame_names', 'ori_shape')}
    one = RVOSDataSample(metainfo=meta)
    one.gt_instances = InstanceData(**RIGHT['gt_instances'])
    one.pred_instances = InstanceData(**RIGHT['pred_instances'])
    evaluator.process([one])
    out = evaluator.evaluate(1)
    assert out['mAP'] == out['mAP_best'] == pytest.approx(100)
    assert out['P@0.9'] == out['REC_P@1'] == 100


def dataset() -> list[dict]:
    """Seven expressions of different quality."""
    rng = np.random.default_rng(0)
    return [
        sample(str(i % 2), rng.integers(0, 24, 3).tolist(), rng.random(3).tolist(), 8, f'v{i // 2}')
        for i in range(7)
    ]


def _worker(rank: int, world_size: int, out: str) -> None:
    samples = dataset()
    metric = ReferringMetric(with_boxes=True, collect_dir=f'{out}/collect')
    metric.dataset_meta = {'expected': [(s['video_id'], s['exp_id']) for s in samples]}
    metric.process(None, share(samples, rank, world_size))
    torch.save(metric.evaluate(len(samples)), f'{out}/rank{rank}.pth')


@pytest.mark.slow
def test_several_processes_agree_with_one(tmp_path: Path):
    """Three processes; two of them in ``test_test_in_processes.py``."""
    expected = evaluate(dataset(), with_boxes=True)
    run_processes(_worker, 3, str(tmp_path))
    for rank in range(3):
        assert torch.load(tmp_path / f'rank{rank}.pth') == expected
