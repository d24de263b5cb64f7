"""Losses and their pairwise forms, against the official numbers and by hand."""

import math

import numpy as np
import pytest
import torch

from referformer.models.deformable_transformer import inverse_sigmoid
from referformer.models.losses import BoxL1Loss, DiceLoss, FocalLoss, class_cost, dice
from referformer.structures import box_iou, cxcywh_to_xyxy, generalized_box_iou, xyxy_to_cxcywh

TOLERANCE = 1e-6  # float32, numbers of order one


@pytest.fixture
def official(shared_dir):
    arrays = np.load(shared_dir / 'parity' / 'units' / 'box_and_loss.npz')
    return {k: torch.from_numpy(np.asarray(arrays[k])) for k in arrays.files if k != 'meta'}


def close(a, b):
    torch.testing.assert_close(a, b.to(a.dtype), rtol=TOLERANCE, atol=TOLERANCE)


def test_overlaps_equal_the_official_ones(official):
    first = cxcywh_to_xyxy(official['boxes1_cxcywh'])[:, None]
    second = cxcywh_to_xyxy(official['boxes2_cxcywh'])[None]
    close(box_iou(first, second)[0], official['iou'])
    close(generalized_box_iou(first, second), official['giou'])


def test_losses_equal_the_official_ones(official):
    logits, targets = official['logits'], official['targets']
    num_boxes = official['num_boxes']
    close(DiceLoss()(logits[None], targets).sum() / num_boxes, official['dice_loss'])
    close(FocalLoss()(logits, targets).mean(1).sum() / num_boxes, official['focal_loss'])


def test_pairwise_forms_equal_the_official_ones(official):
    logits, targets = official['logits'][:, None], official['targets'][None]
    pairs = targets.expand(3, 3, -1)
    sign = official['dice_coef'].sign().flatten()[0]  # there it is a cost
    close(sign * dice(logits.sigmoid(), targets), official['dice_coef'])
    close(FocalLoss()(logits.expand_as(pairs), pairs).mean(-1), official['focal_coef'])


def test_inverse_sigmoid_equals_the_official_one(official):
    close(inverse_sigmoid(official['inverse_sigmoid.in']), official['inverse_sigmoid.out'])


def test_focal_loss_by_hand():
    # p = 0.5: alpha * 0.5^2 * ln 2 for a positive, (1 - alpha) * 0.5^2 * ln 2 for a negative.
    loss = FocalLoss(alpha=0.25, gamma=2)(torch.zeros(2), torch.tensor([1.0, 0.0]))
    expected = torch.tensor([0.25, 0.75]) * 0.25 * math.log(2)
    torch.testing.assert_close(loss, expected)


def test_focal_loss_stays_finite_where_the_answer_is_certain():
    logits = torch.tensor([200.0, -200.0, 200.0], requires_grad=True)
    loss = FocalLoss()(logits, torch.tensor([1.0, 0.0, 0.0]))
    loss.sum().backward()
    assert loss.tolist()[:2] == [0, 0] and loss[2].item() == pytest.approx(0.75 * 200)
    assert torch.isfinite(logits.grad).all()


def test_dice_of_nothing_is_perfect():
    assert dice(torch.zeros(7), torch.zeros(7)) == 1


def test_class_cost_prefers_the_confident():
    cost = class_cost(torch.tensor([0.1, 0.5, 0.9]))
    assert cost[0] > cost[1] > cost[2]


def test_boxes_survive_both_formats():
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.25]])
    assert cxcywh_to_xyxy(boxes).tolist() == [[0, 0.375, 0.5, 0.625]]
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(boxes)), boxes)
    assert BoxL1Loss()(boxes, boxes + 0.25).item() == pytest.approx(1)
