"""The DAVIS protocols: the public scorer's numbers on synthetic and real masks, cases by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from referformer.evaluation import boundary_measure, region_similarity
from referformer.evaluation.measures.davis import (
    score_davis,
    score_semi_supervised,
    score_unsupervised,
)

PROTOCOLS = {'unsupervised': score_unsupervised, 'semi-supervised': score_semi_supervised}


def label_maps(frames: int = 4, **lefts: int) -> np.ndarray:
    """The same frame several times: object ``o<id>`` is a 6x6 square that far from the left."""
    maps = np.zeros((frames, 20, 60), np.uint8)
    for name, left in lefts.items():
        maps[:, 5:11, left : left + 6] = int(name[1:])
    return maps


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_synthetic_sequences_equal_the_public_scorer(shared_dir, protocol):
    folder = shared_dir / 'parity/metrics'
    maps = np.load(folder / 'davis_dataset.npz')
    expected = json.loads((folder / 'davis_dataset.json').read_text())[protocol]
    sequences = {s: (maps[f'{s}.gt'], maps[f'{s}.pred']) for s in expected['sequences']}
    averages, objects = score_davis(sequences, PROTOCOLS[protocol])
    assert averages == pytest.approx(expected['global'], abs=1e-9)
    for measure in 'JF':
        values = expected[measure]
        assert list(objects) == list(values['M_per_object'])
        for name, key in (('Mean', 'M'), ('Recall', 'R'), ('Decay', 'D')):
            ours = [row[f'{measure}-{name}'] for row in objects.values()]
            assert ours == pytest.approx(values[key], abs=1e-9)
    for name, (gt, pred) in sequences.items():
        score, frames = PROTOCOLS[protocol](gt, pred), expected['per_frame'][name]
        np.testing.assert_allclose(score.j, frames['J'], rtol=0, atol=1e-9)
        np.testing.assert_allclose(score.f, frames['F'], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ('protocol', 'folder'), [('unsupervised', 'proposals'), ('semi-supervised', 'tracked')]
)
def test_real_masks_equal_the_public_scorer(shared_dir, protocol, folder):
    root = shared_dir / 'metrics/davis_real'
    results = json.loads((root / 'expected.json').read_text())
    expected = results[f'{protocol}: {folder} against truth']

    def load(kind: str, video: str) -> np.ndarray:
        files = sorted((root / kind / video).glob('*.png'))
        return np.stack([np.asarray(Image.open(file)) for file in files])

    sequences = {v: (load('truth', v), load(folder, v)) for v in ('judo', 'car-shadow')}
    averages, objects = score_davis(sequences, PROTOCOLS[protocol])
    assert averages['J&F-Mean'] == pytest.approx(expected['J&F'], abs=1e-9)
    for measure in 'JF':
        values = expected[measure]
        means = {name: row[f'{measure}-Mean'] for name, row in objects.items()}
        assert means == pytest.approx(values['mean_per_object'], abs=1e-9)
        for name in ('mean', 'recall', 'decay'):
            assert averages[f'{measure}-{name.title()}'] == pytest.approx(values[name], abs=1e-9)


def test_ids_may_be_permuted_in_the_unsupervised_protocol():
    gt, pred = label_maps(o1=5, o2=25, o3=45), label_maps(o3=5, o1=25, o2=45)
    score = score_unsupervised(gt, pred)
    assert dict(zip(score.gt_ids, score.pred_ids)) == {1: 3, 2: 1, 3: 2}
    assert (score.j == 1).all()
    assert (score_semi_supervised(gt, pred).j == 0).all()


def test_pairs_are_scored_like_single_masks():
    rng = np.random.default_rng(0)
    gt, pred = rng.integers(0, 4, (2, 5, 20, 30), dtype=np.uint8)
    score = score_unsupervised(gt, pred)
    for row, (n, p) in enumerate(zip(score.gt_ids, score.pred_ids)):
        np.testing.assert_allclose(score.j[row], region_similarity(pred == p, gt == n))
        np.testing.assert_allclose(score.f[row], boundary_measure(pred == p, gt == n))


def test_objects_may_come_and_go():
    # Object 3 is there on one frame, where object 1 is not annotated; later both are empty.
    gt, pred = label_maps(o1=5, o2=25), label_maps(o1=5, o2=25)
    gt[1:][gt[1:] == 1] = 0
    pred[1:][pred[1:] == 1] = 0
    pred[1, 15:, :5] = 3
    score = score_unsupervised(iter(gt), iter(pred))
    assert score.pred_ids.tolist() == [1, 2]
    assert (score.j == 1).all()
    # The only object that is right on every frame is there on the first one only.
    pred[:2] = gt[:2]
    pred[0][pred[0] == 1] = 3
    score = score_unsupervised(gt, pred)
    assert dict(zip(score.gt_ids, score.pred_ids)) == {1: 3, 2: 2}
    assert (score.j == 1).all()
    assert (score.f == 1).all()


def test_missing_and_late_objects():
    # Object 2 is not predicted, object 3 appears after the first frame and is ignored.
    gt = label_maps(o1=5, o2=25)
    gt[1:, 15:, :5] = 3
    score = score_unsupervised(gt, label_maps(o1=5))
    assert score.j.mean(1).tolist() == [1, 0]
    # Void pixels are no object, and what is predicted there does not matter.
    gt[:, 15:] = 255
    pred = label_maps(o1=5)
    pred[:, 15:] = 1
    assert score_unsupervised(gt, pred).f.mean(1).tolist() == [1, 0]
    assert score_semi_supervised(gt, pred).f.mean(1)[0] < 1


def test_semi_supervised_leaves_out_the_first_and_last_frame():
    gt, pred = label_maps(o1=5), label_maps(o1=5)
    pred[[0, -1]] = 0
    assert score_semi_supervised(gt, pred).j.tolist() == [[1, 1]]
    assert score_unsupervised(gt, pred).j.tolist() == [[0, 1, 1, 0]]


def test_bad_input_is_named():
    gt = label_maps(o1=5)
    with pytest.raises(ValueError, match='got 21'):
        score_unsupervised(gt, label_maps(o21=5))
    with pytest.raises(ValueError, match='got 255'):
        score_unsupervised(gt, label_maps(o255=5))
    with pytest.raises(ValueError, match='1 annotated objects, the prediction 2'):
        score_semi_supervised(gt, label_maps(o2=5))
    for other in (gt[1:], gt[:, 1:], gt.astype(int), np.concatenate([gt, gt])):
        with pytest.raises(ValueError, match='same shape'):
            score_unsupervised(gt, other)
    with pytest.raises(ValueError, match='no label maps'):
        score_unsupervised([], [])
    with pytest.raises(ValueError, match='no object'):
        score_unsupervised(0 * gt, gt)
    with pytest.raises(ValueError, match='2 frames'):
        score_semi_supervised(gt[:2], gt[:2])
    with pytest.raises(ValueError, match='no sequences'):
        score_davis({})
