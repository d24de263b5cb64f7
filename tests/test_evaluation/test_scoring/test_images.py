"""COCO result files: the published numbers, equal scores, missing and empty predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from referformer.evaluation import ReferringMetric
from referformer.evaluation.scoring.images import (
    read_annotation,
    read_predictions,
    score_images,
    summarise_images,
)
from referformer.evaluation.scoring.pictures import draw_image_scores

coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')
ABS = 1e-6


@pytest.fixture
def reference(shared_dir, tmp_path):
    """Writes the files of an official evaluation; its numbers and the paths."""

    def write(name: str) -> tuple[dict, Path, Path]:
        numbers = json.loads((shared_dir / f'parity/metrics/{name}.json').read_text())
        gt, pred = tmp_path / 'gt.json', tmp_path / 'pred.json'
        gt.write_text(json.dumps(numbers['ground_truth']))
        pred.write_text(json.dumps(numbers['predictions']))
        return numbers, gt, pred

    return write


def scored(gt: Path, pred: Path, box_format: str | None = None, **kwargs):
    images = read_annotation(gt)
    predictions, missing = read_predictions(pred, images, box_format, progress=False, **kwargs)
    return score_images(images, predictions, progress=False), missing


@pytest.mark.parametrize('name', ['a2d_eval', 'jhmdb_eval'])
def test_video_files_give_the_published_numbers(reference, name):
    numbers, gt, pred = reference(name)
    scores, missing = scored(gt, pred)
    ours, published = summarise_images(scores)['all'], numbers['metrics']
    pairs = {'mAP': 'mAP 0.5:0.95', 'AP50': 'AP 0.5', 'AP75': 'AP 0.75'}
    pairs |= {'mAP_small': 'AP 0.5:0.95 S', 'mAP_medium': 'AP 0.5:0.95 M'}
    pairs |= {'overall_IoU': 'overall_iou', 'mean_IoU': 'mean_iou'}
    pairs |= {f'P@0.{i}': f'P@0.{i}' for i in range(5, 10)}
    for key, theirs in pairs.items():
        assert ours[key] == pytest.approx(published[theirs], abs=ABS), key
    assert set(ours) == {*pairs, 'mAP_best'}
    assert not missing
    best = {one['image_id']: one for one in numbers['per_image_best']}
    for score in scores:
        expected = best[score.image.image_id]
        assert score.iou == pytest.approx(expected['iou'], abs=ABS)
        assert (score.inter, score.union) == (expected['intersection'], expected['union'])


def test_image_files_give_the_published_numbers(reference):
    numbers, gt, pred = reference('refcoco_eval')
    overall = summarise_images(scored(gt, pred, 'xyxy')[0])
    stats = numbers['stats']
    for ours, theirs in {
        'overall_IoU': 'overall_iou',
        'mean_IoU': 'mean_iou',
        **{f'P@0.{i}': f'P@0.{i}' for i in range(5, 10)},
    }.items():
        assert overall['all'][ours] == pytest.approx(stats[f'segm {theirs}'], abs=ABS)
    assert overall['all']['REC_IoU_P@1'] == pytest.approx(stats['bbox P@0.5'], abs=ABS)
    assert list(overall) == ['all', 'refcoco', 'refcoco+', 'refcocog']
    for name, expected in numbers['refexp'].items():
        ours = [overall[name][f'REC_P@{k}'] for k in (1, 5, 10)]
        assert ours == pytest.approx(expected, abs=ABS), name


def test_boxes_may_be_xywh_and_their_format_is_checked(reference):
    numbers, gt, pred = reference('refcoco_eval')
    expected = summarise_images(scored(gt, pred, 'xyxy')[0])
    for one in numbers['predictions']:
        x, y, right, bottom = one['bbox']
        one['bbox'] = [x, y, right - x, bottom - y]
    pred.write_text(json.dumps(numbers['predictions']))
    for name, row in summarise_images(scored(gt, pred, 'xywh')[0]).items():
        assert row == pytest.approx(expected[name], abs=ABS)
    with pytest.raises(ValueError, match=r'\d+ predictions without a valid bbox \(xyxy; see --box'):
        scored(gt, pred, 'xyxy')
    del numbers['predictions'][3]['bbox']
    pred.write_text(json.dumps(numbers['predictions']))
    with pytest.raises(ValueError, match=r'1 predictions without a valid bbox .*entry 3 \(image 0'):
        scored(gt, pred, 'xywh')
    assert 'REC_P@1' not in summarise_images(scored(gt, pred)[0])['all']


def squares(lefts: dict[int, list]) -> tuple[dict, list]:
    """A COCO annotation, an 8x8 square at 4 in each image, and squares with scores (left, s)."""

    def mask(left: int) -> dict:
        out = np.zeros((24, 32), np.uint8, order='F')
        out[8:16, left : left + 8] = 1
        rle = coco_mask.encode(out)
        return {'size': rle['size'], 'counts': rle['counts'].decode()}

    images = [{'id': i, 'height': 24, 'width': 32} for i in lefts]
    annotations = [{'id': i, 'image_id': i, 'segmentation': mask(4)} for i in lefts]
    predictions = [
        {'image_id': i, 'segmentation': mask(left), 'score': score}
        for i, found in lefts.items()
        for left, score in found
    ]
    return {'images': images, 'annotations': annotations}, predictions


def write(folder: Path, truth: dict, predictions: list) -> tuple[Path, Path]:
    gt, pred = folder / 'gt.json', folder / 'pred.json'
    gt.write_text(json.dumps(truth))
    pred.write_text(json.dumps(predictions))
    return gt, pred


def test_scores_equal_the_metric(tmp_path):
    # IoU 1, 1/3 and 0; the last of equal scores is the best.
    lefts = {7: [(20, 0.5), (4, 0.5)], 9: [(8, 0.9), (4, 0.1)], 8: [(20, 0.8), (4, 0.6)]}
    truth, predictions = squares(lefts)
    scores, _ = scored(*write(tmp_path, truth, predictions))
    assert [score.image.image_id for score in scores] == [7, 8, 9]
    assert [score.iou for score in scores] == pytest.approx([1, 0, 1 / 3], abs=1e-6)
    metric = ReferringMetric()
    for image, found in lefts.items():
        masks = [p['segmentation'] for p in predictions if p['image_id'] == image]
        target = next(a for a in truth['annotations'] if a['image_id'] == image)
        metric.process(
            None,
            [
                {
                    'video_id': str(image),
                    'exp_id': '0',
                    'frame_names': ['0'],
                    'pred_instances': {
                        'scores': np.array([score for _, score in found]),
                        'masks': coco_mask.decode(masks).transpose(2, 0, 1)[:, None] > 0,
                    },
                    'gt_instances': {
                        'masks': coco_mask.decode(target['segmentation'])[None, None] > 0
                    },
                }
            ],
        )
    expected = metric.evaluate(3)
    ours = {name: 100 * value for name, value in summarise_images(scores)['all'].items()}
    assert ours == expected


def test_missing_predictions_are_empty_masks(tmp_path):
    truth, predictions = squares({1: [(4, 0.9)], 2: [], 3: [], 4: [(4, 0.8)]})
    gt, pred = write(tmp_path, truth, predictions)
    with pytest.raises(ValueError, match=r'2 images without predictions: 2, 3\. --allow-missing'):
        scored(gt, pred)
    scores, missing = scored(gt, pred, allow_missing=True)
    assert missing == {'images without predictions': 2}
    assert [(s.inter, s.union) for s in scores] == [(64, 64), (0, 64), (0, 64), (64, 64)]
    row = summarise_images(scores)['all']
    assert row['overall_IoU'] == row['P@0.9'] == 0.5
    # COCO counts recall up to 1/2: 51 of its 101 points.
    assert row['mAP'] == row['mAP_best'] == pytest.approx(51 / 101)
    # Boxes find nothing there.
    for one in predictions:
        one['bbox'] = [4, 8, 12, 16]
    for annotation in truth['annotations']:
        annotation['bbox'] = [4, 8, 8, 8]
    scores, _ = scored(*write(tmp_path, truth, predictions), 'xyxy', allow_missing=True)
    assert summarise_images(scores)['all']['REC_P@10'] == 0.5
    del truth['annotations'][2]['bbox']
    with pytest.raises(ValueError, match='1 objects without bbox: 3'):
        scored(*write(tmp_path, truth, predictions), 'xyxy', allow_missing=True)


def test_the_annotated_area_decides_between_small_and_medium(tmp_path):
    truth, predictions = squares({1: [(4, 0.9)]})
    row = summarise_images(scored(*write(tmp_path, truth, predictions))[0])['all']
    assert row['mAP_small'] == pytest.approx(1) and 'mAP_medium' not in row
    truth['annotations'][0]['area'] = 2000.0  # as that of a polygon
    row = summarise_images(scored(*write(tmp_path, truth, predictions))[0])['all']
    assert 'mAP_small' not in row and 'mAP_medium' in row


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['annotations'].pop(), '1 images without one annotated object .*: 3'),
        (lambda c: c['annotations'].append(c['annotations'][0]), 'without one annotated .*: 1'),
        (lambda c: c['images'][1].pop('height'), 'without one annotated object .*: 2'),
        (lambda c: c['images'][1].update(width=9), 'without one annotated object .*: 2'),
        (lambda c: c['images'][1].pop('id'), '1 images without an id of their own: entry 1'),
        (lambda c: c['images'].append(c['images'][0]), 'without an id of their own: entry 3'),
        (lambda c: c.pop('annotations'), 'lacks images or annotations'),
        (lambda c: c.update(images=[]), 'lacks images or annotations'),
    ],
)
def test_bad_annotations_are_named(tmp_path, change, message):
    truth, _ = squares({1: [], 2: [], 3: []})
    change(truth)
    (tmp_path / 'gt.json').write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=message):
        read_annotation(tmp_path / 'gt.json')


def test_the_picture_has_the_worst_images(tmp_path):
    truth, predictions = squares({1: [(4, 0.9)], 2: [(20, 0.5)], 3: []})
    scores, _ = scored(*write(tmp_path, truth, predictions), allow_missing=True)
    pictures = [draw_image_scores(scores, 'title', num_worst=n) for n in (1, 3)]
    assert pictures[0].dtype == np.uint8
    assert pictures[1].shape[0] > pictures[0].shape[0]
