"""Measures in single frames: equal to the published evaluations, and cases by hand."""

import json
import math

import numpy as np
import pytest

from referformer.evaluation.measures.referring import (
    COCO_NUMBERS,
    FrameMasks,
    best_query,
    box_hits,
    encode_masks,
    mask_average_precision,
    mask_iou,
    mean_iou,
    overall_iou,
    precision_at_k,
)
from referformer.structures import box_iou

coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
ABS = 1e-6
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def decode(rle: dict) -> np.ndarray:
    """A mask (H, W) from its RLE."""
    return coco_mask.decode([rle])[..., 0]


class Reference:
    """One file of the official evaluation: truth, predictions by image, numbers."""

    def __init__(self, shared_dir, name: str) -> None:
        self.numbers = json.loads((shared_dir / f'parity/metrics/{name}.json').read_text())
        truth = self.numbers['ground_truth']
        self.targets = {a['image_id']: a for a in truth['annotations']}
        self.images = sorted(self.targets)
        self.predictions = {image: [] for image in self.images}
        for prediction in self.numbers['predictions']:
            self.predictions[prediction['image_id']].append(prediction)

    def frames(self, areas=None) -> list[FrameMasks]:
        frames = []
        for image in self.images:
            found = self.predictions[image]
            masks = tuple(p['segmentation'] for p in found)
            scores = tuple(p['score'] for p in found)
            sizes = tuple(map(areas, found)) if areas else None
            frames.append(FrameMasks(self.targets[image]['segmentation'], masks, scores, sizes))
        return frames

    def overlaps(self) -> dict:
        """Best query's mask against the object's, by image."""
        return {
            image: mask_iou(
                decode(found[best_query([p['score'] for p in found])]['segmentation']),
                decode(self.targets[image]['segmentation']),
            )
            for image, found in self.predictions.items()
        }


def assert_same_coco(ours: dict[str, float], theirs: list[float]) -> None:
    assert list(ours) == list(COCO_NUMBERS)
    for value, (name, expected) in zip(theirs, ours.items(), strict=True):
        expected = -1 if math.isnan(expected) else expected
        assert value == pytest.approx(expected, abs=ABS), name


@pytest.mark.parametrize('name', ['a2d_eval', 'jhmdb_eval'])
def test_video_numbers_equal_the_published_evaluation(shared_dir, name):
    reference = Reference(shared_dir, name)
    metrics = reference.numbers['metrics']
    assert_same_coco(mask_average_precision(reference.frames()), reference.numbers['coco_stats_12'])
    overlaps = reference.overlaps()
    for one in reference.numbers['per_image_best']:
        found = reference.predictions[one['image_id']]
        best = found[best_query([p['score'] for p in found])]
        assert best is reference.numbers['predictions'][one['prediction_index']]
        overlap = overlaps[one['image_id']]
        assert overlap.iou == pytest.approx(one['iou'], abs=ABS)
        assert (overlap.inter, overlap.union) == (one['intersection'], one['union'])
    ious, inters, unions = zip(*overlaps.values())
    expected = [metrics[f'P@{k}'] for k in THRESHOLDS]
    assert precision_at_k(ious, THRESHOLDS) == pytest.approx(expected, abs=ABS)
    assert mean_iou(ious) == pytest.approx(metrics['mean_iou'], abs=ABS)
    assert overall_iou(inters, unions) == pytest.approx(metrics['overall_iou'], abs=ABS)


def test_image_masks_equal_the_published_evaluation(shared_dir):
    reference = Reference(shared_dir, 'refcoco_eval')
    stats = reference.numbers['stats']
    frames = reference.frames()
    published = mask_average_precision(frames, first_id=0)
    assert_same_coco(published, stats['coco_eval_masks'])
    # What the object with number 0 costs there: it counts as not found.
    assert mask_average_precision(frames)['mAP'] > published['mAP']
    # Published last: predictions carry an xyxy box, which the COCO loader reads as xywh.
    by_box = reference.frames(areas=lambda p: p['bbox'][2] * p['bbox'][3])
    assert_same_coco(
        mask_average_precision(by_box, first_id=0), reference.numbers['final_segm_coco_stats_12']
    )
    ious, inters, unions = zip(*reference.overlaps().values())
    expected = [stats[f'segm P@{k}'] for k in THRESHOLDS]
    assert precision_at_k(ious, THRESHOLDS) == pytest.approx(expected, abs=ABS)
    assert mean_iou(ious) == pytest.approx(stats['segm mean_iou'], abs=ABS)
    assert overall_iou(inters, unions) == pytest.approx(stats['segm overall_iou'], abs=ABS)


def xyxy(box: list[float]) -> np.ndarray:
    x, y, w, h = box
    return np.array([x, y, x + w, y + h])


def test_boxes_equal_the_published_evaluation(shared_dir):
    reference = Reference(shared_dir, 'refcoco_eval')
    hits: dict[str, list] = {}
    for image in reference.numbers['ground_truth']['images']:
        found = reference.numbers['refexp_predictions'][str(image['id'])]
        target = xyxy(reference.targets[image['id']]['bbox'])
        hits.setdefault(image['dataset_name'], []).append(
            box_hits(found['scores'], found['boxes'], target)
        )
    for dataset, expected in reference.numbers['refexp'].items():
        assert np.mean(hits[dataset], 0) == pytest.approx(expected, abs=ABS), dataset


def test_best_boxes_overlap_as_in_the_published_evaluation(shared_dir):
    import torch

    reference = Reference(shared_dir, 'refcoco_eval')
    stats = reference.numbers['stats']
    ious, unions = [], []
    for image, found in reference.predictions.items():
        best = found[best_query([p['score'] for p in found])]
        target = torch.from_numpy(xyxy(reference.targets[image]['bbox']))
        iou, union = box_iou(torch.tensor(best['bbox'], dtype=torch.float64), target)
        ious.append(float(iou))
        unions.append(float(union))
    inters = [iou * (union + 1e-6) - 1e-6 for iou, union in zip(ious, unions)]
    expected = [stats[f'bbox P@{k}'] for k in THRESHOLDS]
    assert precision_at_k(ious, THRESHOLDS) == pytest.approx(expected, abs=ABS)
    assert mean_iou(ious) == pytest.approx(stats['bbox mean_iou'], abs=ABS)
    assert overall_iou(inters, unions) == pytest.approx(stats['bbox overall_iou'], abs=ABS)


def test_the_last_of_equal_scores_is_the_best():
    assert best_query([0.2, 0.7, 0.7, 0.1]) == 2
    assert best_query([0.5]) == 0


def test_empty_masks_agree_and_thresholds_are_strict():
    nothing = np.zeros((2, 4, 6), bool)
    something = nothing.copy()
    something[:, :2, :2] = True
    assert mask_iou(nothing, nothing).iou.tolist() == [1, 1]
    assert mask_iou(nothing, something).iou == pytest.approx(0, abs=ABS)
    assert mask_iou(something, something).union.tolist() == [4, 4]
    assert precision_at_k([0.5, 0.6, 0.9], (0.5, 0.6, 0.9)) == [2 / 3, 1 / 3, 0]
    assert overall_iou([1, 30], [10, 40]) == 31 / 50
    assert overall_iou([0], [0]) == 1
    with pytest.raises(ValueError, match=r'\(2, 4, 6\), annotated ones of \(2, 3, 6\)'):
        mask_iou(nothing, nothing[:, :3])


def test_boxes_are_ranked_by_score_then_by_coordinates():
    target = np.array([50, 50, 60, 60])
    near, far = [50, 50, 60, 60], [0, 0, 10, 10]
    assert box_hits([0.3, 0.3], [far, near], target, (1, 2)) == (True, True)
    assert box_hits([0.3, 0.3], [far, near], np.array([0, 0, 10, 10]), (1, 2)) == (False, True)
    assert box_hits([0.4, 0.3], [far, near], target, (1, 2)) == (False, True)


def test_generalised_iou_asks_more_than_plain_iou():
    # Squares moved along the diagonal: their hull is larger than their union.
    target, shifted = [0, 0, 10, 10], [1.6, 1.6, 11.6, 11.6]
    iou = 8.4**2 / (200 - 8.4**2)
    assert iou > 0.5 and iou - (11.6**2 - (200 - 8.4**2)) / 11.6**2 > 0.5
    assert box_hits([1], [shifted], target, (1,)) == (True,)
    shifted = [1.8, 1.8, 11.8, 11.8]
    iou = 8.2**2 / (200 - 8.2**2)
    assert iou > 0.5 > iou - (11.8**2 - (200 - 8.2**2)) / 11.8**2
    assert box_hits([1], [shifted], target, (1,)) == (False,)
    assert box_hits([1], [shifted], target, (1,), generalized=False) == (True,)


def test_average_precision_of_perfect_and_worthless_masks():
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 40, 50), bool)
    truth[0, :20, :20] = truth[1, 5:25, 10:40] = truth[2, 30:, 30:] = True
    noise = rng.random(truth.shape) < 0.05
    right, wrong = encode_masks(truth), encode_masks(noise)
    assert np.array_equal(decode(right[1]), truth[1])
    first = [FrameMasks(t, (t, w), (0.9, 0.1)) for t, w in zip(right, wrong)]
    last = [FrameMasks(t, (t, w), (0.1, 0.9)) for t, w in zip(right, wrong)]
    best = mask_average_precision(first)
    assert best['mAP'] == best['AP50'] == best['mAP_small'] == 1
    assert math.isnan(best['mAP_large'])
    # Three worthless masks come before the three right ones: precision at most 1/2.
    assert mask_average_precision(last)['mAP'] == pytest.approx(0.5)
    assert mask_average_precision([FrameMasks(right[0], (wrong[0],), (1,))])['mAP'] == 0
