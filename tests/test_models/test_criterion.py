"""Losses of all layers, against a form with loops."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from model_fixtures import criterion_cfg
from test_matcher import B, D, Q, T, random_case

from referformer.models.losses import sigmoid_focal
from referformer.registry import MODELS
from referformer.structures import Predictions, RVOSDataSample, cxcywh_to_xyxy, generalized_box_iou
from referformer.structures.targets import Targets, sample_masks


@pytest.fixture
def criterion():
    init_default_scope('referformer')
    return MODELS.build(criterion_cfg())


def slow_losses(predictions, targets, query):
    """Of one layer: (B, T, Q, ...) each; weighted and divided by the visible frames."""
    logits, boxes, masks = predictions
    K = logits.shape[-1]
    total = dict.fromkeys(['loss_cls', 'loss_bbox', 'loss_giou', 'loss_mask', 'loss_dice'], 0.0)
    for b in range(B):
        q = query[b]
        for t in range(T):
            for other in range(Q):
                truth = torch.zeros(K)
                if other == q and targets.valid[b, t]:
                    truth[targets.labels[b] if K > 1 else 0] = 1
                total['loss_cls'] += sigmoid_focal(logits[b, t, other], truth, 0.25, 2).sum()
            box, truth = boxes[b, t, q], targets.boxes[b, t]
            total['loss_bbox'] += (box - truth).abs().sum()
            corners = cxcywh_to_xyxy(box), cxcywh_to_xyxy(truth)
            total['loss_giou'] += 1 - generalized_box_iou(*corners)
        mask, truth = masks[b, :, q].flatten(), targets.masks[b].flatten().float()
        total['loss_mask'] += sigmoid_focal(mask, truth, 0.25, 2).mean()
        prob = mask.sigmoid()
        total['loss_dice'] += 1 - (2 * (prob * truth).sum() + 1) / (prob.sum() + truth.sum() + 1)
    weights = {'loss_cls': 2, 'loss_bbox': 5, 'loss_giou': 2, 'loss_mask': 2, 'loss_dice': 5}
    visible = targets.valid.sum()
    return {name: value * weights[name] / visible for name, value in total.items()}


@pytest.mark.parametrize('K', [1, 6])
def test_losses_equal_the_form_with_loops(criterion, K):
    predictions, targets = random_case(K=K)
    losses = criterion(predictions, targets)
    query = criterion.matcher(predictions, targets)
    assert len(losses) == 5 * D
    for d in range(D):
        prefix = '' if d == D - 1 else f'd{d}.'
        expected = slow_losses(Predictions(*(x[d] for x in predictions)), targets, query[d])
        for name, value in expected.items():
            torch.testing.assert_close(losses[prefix + name], value, rtol=1e-4, atol=1e-5)


def test_binary_models_ignore_the_category(criterion):
    predictions, targets = random_case(K=1)
    expected = criterion(predictions, targets)
    other = criterion(predictions, targets._replace(labels=torch.tensor([30, 7, 64])))
    assert all(torch.equal(expected[name], other[name]) for name in expected)


@pytest.mark.parametrize('label', [-1, 6])
def test_a_label_that_the_model_has_no_class_for_is_refused(criterion, label):
    predictions, targets = random_case(6)
    targets.labels[0] = label
    with pytest.raises(ValueError, match=rf'\[{label}, .*but the model has 6 classes'):
        criterion(predictions, targets)


def test_masks_of_unmatched_queries_get_no_gradient(criterion):
    predictions, targets = random_case()
    predictions = Predictions(*(x.requires_grad_() for x in predictions))
    sum(criterion(predictions, targets).values()).backward()
    query = criterion.matcher(predictions, targets)
    touched = predictions.masks.grad.flatten(-2).abs().sum((-1, 2)) > 0  # (D, B, Q)
    assert torch.equal(touched, F.one_hot(query, Q).bool())


def test_a_batch_without_a_visible_frame_is_divided_by_one(criterion):
    predictions, targets = random_case(K=1)
    nothing = Targets(
        targets.labels,
        torch.zeros_like(targets.boxes),
        torch.zeros_like(targets.masks),
        torch.zeros_like(targets.valid),
    )
    losses = criterion(predictions, nothing)
    assert all(torch.isfinite(value) for value in losses.values())
    zeros = torch.zeros_like(predictions.logits[-1])
    expected = 2 * sigmoid_focal(predictions.logits[-1], zeros, 0.25, 2).sum()
    torch.testing.assert_close(losses['loss_cls'], expected)


def test_no_query_is_positive_for_an_object_that_is_not_there(criterion):
    predictions, targets = random_case(K=1)
    predictions = predictions._replace(logits=predictions.logits.requires_grad_())
    shown = torch.tensor([True, False, True])
    targets = Targets(
        targets.labels,
        targets.boxes * shown[:, None, None],
        targets.masks & shown[:, None, None, None],
        targets.valid & shown[:, None],
    )
    losses = criterion(predictions, targets)
    sum(value for name, value in losses.items() if name.endswith('loss_cls')).backward()
    slopes = predictions.logits.grad[..., 0]  # (D, B, T, Q)
    assert (slopes[:, 1] > 0).all(), 'every score goes down'
    assert (slopes[:, 0] < 0).any(2).any(1).all(), 'where it is visible one goes up'

    others = criterion(
        Predictions(*(x[:, shown] for x in predictions)), Targets(*(x[shown] for x in targets))
    )
    for name in ('loss_bbox', 'loss_giou'):
        torch.testing.assert_close(losses[name], others[name])
    assert losses['loss_dice'] > others['loss_dice'], 'its mask should be empty'


def test_losses_of_half_precision_are_computed_in_full_precision(criterion):
    predictions, targets = random_case()
    half = Predictions(*(x.bfloat16() for x in predictions))
    losses = criterion(half, targets)
    full = criterion(Predictions(*(x.float() for x in half)), targets)
    assert all(v.dtype == torch.float32 and torch.equal(v, full[k]) for k, v in losses.items())


def test_a_finer_stride_compares_enlarged_masks_with_finer_truth(criterion):
    predictions, targets = random_case(K=1)
    truth = torch.rand(*targets.masks.shape[:2], 14, 16) < 0.4
    fine = MODELS.build({**criterion_cfg(), 'mask_stride': 2})
    big = F.interpolate(predictions.masks.flatten(0, 2), scale_factor=2, mode='bilinear')
    big = predictions._replace(masks=big.view(*predictions.masks.shape[:4], 14, 16))
    targets = targets._replace(masks=truth)
    expected, losses = criterion(big, targets), fine(predictions, targets)
    assert losses.keys() == expected.keys()
    for name, value in losses.items():
        torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize('stride', [1, 2, 4])
def test_truth_is_padded_and_sampled_where_enlarged_masks_are(criterion, stride):
    """A ramp at stride 4, enlarged, has the coordinates of the pixels it is compared with."""
    sample = RVOSDataSample()
    rows = torch.arange(30)[:, None].expand(30, 36)
    sample.gt_instances = InstanceData(masks=rows[None, None])
    found = sample_masks(sample, (32, 40), stride)
    assert found.shape == (1, 1, 32 // stride, 40 // stride)
    assert (found[..., 36 // stride :] == 0).all()
    found = found[0, 0, : 30 // stride, 0]
    assert found.tolist() == list(range(stride // 2, 30, stride))[: len(found)]

    ramp = 4 * torch.arange(8.0)[:, None].expand(8, 10) + 1.5  # middles of the cells
    big = MODELS.build({**criterion_cfg(), 'mask_stride': stride})._enlarge(
        ramp[None, None, None, None]
    )
    inner = slice(4 // stride, 28 // stride)  # the edge is repeated
    # The reference takes the pixel right of the middle, where there is none in the middle.
    offset = 0.5 if stride > 1 else 0
    torch.testing.assert_close(big[0, 0, 0, 0, inner, 0] + offset, found[inner].float())


def test_an_input_that_maps_do_not_cover_evenly_is_refused():
    sample = RVOSDataSample()
    sample.gt_instances = InstanceData(masks=torch.zeros(1, 1, 45, 48))
    with pytest.raises(ValueError, match='train_divisor must be a multiple of 4'):
        sample_masks(sample, (45, 48), 1)


def test_a_stride_that_masks_cannot_have_is_refused():
    with pytest.raises(ValueError, match='mask_stride must be 1, 2 or 4, not 3'):
        MODELS.build({**criterion_cfg(), 'mask_stride': 3})


def test_visible_boxes_alone_count_where_asked_for():
    init_default_scope('referformer')
    predictions, targets = random_case(K=1)
    strict = MODELS.build({**criterion_cfg(), 'visible_boxes': True})
    losses = strict(predictions, targets)
    query = strict.matcher(predictions, targets)
    total = 0.0
    for b in range(B):
        for t in range(T):
            if targets.valid[b, t]:
                box = predictions.boxes[-1, b, t, query[-1, b]]
                total += (box - targets.boxes[b, t]).abs().sum()
    torch.testing.assert_close(losses['loss_bbox'], 5 * total / targets.valid.sum())


def test_what_is_not_there_asks_for_an_empty_mask_and_no_box():
    init_default_scope('referformer')
    predictions, targets = random_case(K=1)
    nothing = targets._replace(
        valid=torch.zeros_like(targets.valid),
        masks=torch.zeros_like(targets.masks),
        boxes=torch.zeros_like(targets.boxes),
    )
    criterion = MODELS.build({**criterion_cfg(), 'visible_boxes': True})
    losses = criterion(predictions, nothing)
    assert losses['loss_bbox'] == losses['loss_giou'] == 0
    assert all(value.isfinite() for value in losses.values())
    silent = predictions._replace(
        logits=torch.full_like(predictions.logits, -9), masks=torch.full_like(predictions.masks, -9)
    )
    quiet = criterion(silent, nothing)
    assert quiet['loss_cls'] < 1e-3 < losses['loss_cls']
    assert quiet['loss_dice'] < losses['loss_dice'] and quiet['loss_mask'] < losses['loss_mask']
