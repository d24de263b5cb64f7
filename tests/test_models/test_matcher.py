"""Matching of sequences, against a form with loops."""

import torch
import torch.nn.functional as F

from referformer.models.losses import class_cost
from referformer.models.matcher import SequenceMatcher
from referformer.structures import Predictions, cxcywh_to_xyxy, generalized_box_iou
from referformer.structures.targets import Targets

D, B, T, Q, K, H, W = 2, 3, 4, 5, 6, 7, 8


def random_case(seed=0, K=K):
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    predictions = Predictions(
        random(D, B, T, Q, K) * 6 - 3, random(D, B, T, Q, 4), random(D, B, T, Q, H, W) * 8 - 4
    )
    valid = random(B, T) < 0.6
    valid[:, 0] = True
    boxes = random(B, T, 4) * valid[..., None]
    masks = (random(B, T, H, W) < 0.4) & valid[..., None, None]
    labels = torch.tensor([2, 0, 5]) % K
    return predictions, Targets(labels, boxes, masks, valid)


def slow_cost(logits, boxes, masks, label, truth_boxes, truth_masks, valid):
    """Of one query in one clip of one layer: (T, K), (T, 4), (T, h, w)."""
    visible = [t for t in range(T) if valid[t]]
    cost_class = sum(class_cost(logits[t, label].sigmoid()) for t in visible) / len(visible)
    cost_l1 = sum((boxes[t] - truth_boxes[t]).abs().sum() for t in range(T)) / T
    overlap = [
        generalized_box_iou(cxcywh_to_xyxy(boxes[t]), cxcywh_to_xyxy(truth_boxes[t]))
        for t in range(T)
    ]
    truth = truth_masks.float()
    prob = masks.sigmoid()
    right = torch.where(truth_masks, prob, 1 - prob)
    alpha = torch.where(truth_masks, 0.25, 0.75)
    cost_mask = (alpha * (1 - right) ** 2 * -right.log()).mean()
    cost_dice = -(2 * (prob * truth).sum() + 1) / (prob.sum() + truth.sum() + 1)
    giou = sum(overlap) / T
    return 2 * cost_class + 5 * cost_l1 - 2 * giou + 2 * cost_mask + 5 * cost_dice


def test_costs_equal_the_form_with_loops():
    predictions, targets = random_case()
    costs = SequenceMatcher().costs(predictions, targets)
    assert costs.shape == (D, B, Q)
    for d in range(D):
        for b in range(B):
            for q in range(Q):
                expected = slow_cost(
                    *(x[d, b, :, q] for x in predictions), *(x[b] for x in targets)
                )
                torch.testing.assert_close(costs[d, b, q], expected, rtol=1e-4, atol=1e-5)


def test_the_right_answer_is_chosen():
    predictions, targets = random_case()
    logits, boxes, masks = (x.clone() for x in predictions)
    right = torch.tensor([[4, 0, 2], [1, 1, 3]])
    for d in range(D):
        for b in range(B):
            q = right[d, b]
            logits[d, b, :, q, targets.labels[b]] = 5
            boxes[d, b, :, q] = targets.boxes[b]
            masks[d, b, :, q] = targets.masks[b] * 10.0 - 5
    assert torch.equal(SequenceMatcher()(Predictions(logits, boxes, masks), targets), right)


def test_scores_of_invisible_frames_do_not_count():
    predictions, targets = random_case()
    noisy = torch.where(
        targets.valid[None, :, :, None, None], predictions.logits, predictions.logits + 9
    )
    matcher = SequenceMatcher()
    changed = matcher.costs(predictions._replace(logits=noisy), targets)
    torch.testing.assert_close(changed, matcher.costs(predictions, targets))


def test_clips_do_not_influence_each_other():
    predictions, targets = random_case()
    matcher = SequenceMatcher()
    whole = matcher.costs(predictions, targets)
    for b in range(B):
        one = slice(b, b + 1)
        alone = matcher.costs(
            Predictions(*(x[:, one] for x in predictions)), Targets(*(x[one] for x in targets))
        )
        torch.testing.assert_close(alone[:, 0], whole[:, b])


def test_half_precision_is_matched_in_full_precision():
    predictions, targets = random_case()
    half = Predictions(*(x.bfloat16() for x in predictions))
    costs = SequenceMatcher().costs(half, targets)
    assert costs.dtype == torch.float32
    full = SequenceMatcher().costs(Predictions(*(x.float() for x in half)), targets)
    assert torch.equal(costs, full)


def test_no_gradient_flows_through_the_matching():
    predictions, targets = random_case()
    predictions = Predictions(*(x.requires_grad_() for x in predictions))
    assert not SequenceMatcher().costs(predictions, targets).requires_grad


def test_mask_cost_is_the_focal_loss_of_the_clip():
    predictions, targets = random_case()
    only = SequenceMatcher(0, 0, 0, 1, 0)
    logits = predictions.masks[0, 0, :, 0].flatten()
    truth = targets.masks[0].flatten().float()
    ce = F.binary_cross_entropy_with_logits(logits, truth, reduction='none')
    weight = torch.where(truth > 0, 0.25, 0.75)
    expected = (weight * ce * (1 - (-ce).exp()) ** 2).mean()
    torch.testing.assert_close(only.costs(predictions, targets)[0, 0, 0], expected)
