"""From raw outputs to scored queries and masks; the official numbers are in test_parity.py."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from referformer.models import postprocess
from referformer.models.postprocess import (
    choose_queries,
    empty_absent,
    join_clips,
    masks_at_original_size,
    merge_objects,
)


def logit(*probabilities):
    return torch.tensor(probabilities).logit()


def test_the_best_query_has_the_highest_mean_over_frames():
    # Query 0: 0.9 and 0.1; query 1: 0.6 and 0.6, over two frames, one class.
    logits = torch.stack((logit(0.9, 0.6), logit(0.1, 0.6)))[None, ..., None]
    scores, queries, _ = choose_queries(logits, 'best')
    assert queries.tolist() == [[1]] and scores.item() == pytest.approx(0.6)
    scores, queries, _ = choose_queries(logits, 'all')
    assert queries.tolist() == [[0, 1]] and scores[0].tolist() == pytest.approx([0.5, 0.6])


def test_the_mean_is_taken_before_the_maximum_over_classes():
    # One query, two frames, two classes: (0.9, 0.5) and (0.1, 0.6).
    logits = torch.stack((logit(0.9, 0.5), logit(0.1, 0.6)))[None, :, None]
    assert choose_queries(logits, 'best')[0].item() == pytest.approx(0.55)


def test_pairs_may_name_a_query_twice():
    logits = torch.stack((logit(0.9, 0.8), logit(0.1, 0.3)))[None, None]  # two queries, two classes
    scores, queries, by_frame = choose_queries(logits, 'pairs')
    torch.testing.assert_close(by_frame.mean(-1), scores)
    assert queries.tolist() == [[0, 0]] and scores[0].tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize('keep', ['best', 'all', 'pairs'])
@pytest.mark.parametrize('K', [1, 4])
def test_scores_are_the_means_of_those_of_the_frames(keep, K):
    logits = torch.randn(3, 7, 5, K, generator=torch.Generator().manual_seed(0))
    scores, queries, by_frame = choose_queries(logits, keep)
    assert by_frame.shape == (*queries.shape, 7)
    torch.testing.assert_close(by_frame.mean(-1), scores)
    given = logits.sigmoid()[1, :, queries[1, 0]]  # (T, K)
    assert any(torch.equal(by_frame[1, 0], given[:, k]) for k in range(K))


@pytest.mark.parametrize('resize', ['logits', 'probabilities', 'masks'])
def test_frames_below_the_presence_threshold_are_empty_and_others_unchanged(resize):
    logits = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    kept = empty_absent(logits, torch.tensor([[0.5, 0.49, 0.9]]), 0.5)
    masks, expected = (
        masks_at_original_size(x, (16, 24), (31, 47), resize=resize) for x in (kept, logits)
    )
    assert expected[0].flatten(1).any(1).all()
    assert masks[0].flatten(1).any(1).tolist() == [True, False, True]
    assert torch.equal(masks[:, ::2], expected[:, ::2])
    assert torch.equal(empty_absent(logits, torch.zeros(1, 3), 0.0), logits)


def test_unknown_rules_are_named():
    with pytest.raises(ValueError, match="keep must be 'best', 'all' or 'pairs', not 'most'"):
        choose_queries(torch.zeros(1, 1, 1, 1), 'most')
    with pytest.raises(ValueError, match=r"resize must be 'logits', .*, not 'no'"):
        masks_at_original_size(torch.zeros(1, 1, 2, 2), (8, 8), (8, 8), resize='no')


def test_logits_are_resized_before_the_threshold():
    logits = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    masks = masks_at_original_size(logits, (15, 23), (31, 47), threshold=0.3)
    expected = F.interpolate(logits, (31, 47), mode='bilinear').sigmoid() > 0.3
    assert masks.dtype == torch.bool and torch.equal(masks, expected)


def test_large_logits_outside_do_not_shrink_probabilities():
    logits = torch.full((1, 1, 3, 3), -30.0)
    logits[..., 1, 1] = 3.0
    area = {
        resize: masks_at_original_size(logits, (12, 12), (12, 12), resize=resize).sum().item()
        for resize in ('logits', 'probabilities')
    }
    assert area['logits'] < area['probabilities'] <= 16


def test_masks_are_cut_to_the_unpadded_size_before_the_last_resize():
    logits = torch.full((1, 1, 4, 4), -5.0)
    logits[..., 3] = 5  # columns 12 to 15 of 16, of which 14 and 15 are padding
    masks = masks_at_original_size(logits, (16, 14), (32, 28), resize='masks')
    assert masks.shape == (1, 1, 32, 28)
    assert masks[0, 0, 0].tolist() == [False] * 24 + [True] * 4


def test_chunks_change_nothing(monkeypatch):
    logits = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    whole = masks_at_original_size(logits, (16, 24), (32, 48))
    monkeypatch.setattr(postprocess, '_CHUNK', 32 * 48 * 2)
    assert torch.equal(masks_at_original_size(logits, (16, 24), (32, 48)), whole)


def test_objects_are_merged_by_the_surer_one():
    # Pixels: neither, only the first, both (second surer), both equal, both below one half.
    first = logit(0.05, 0.7, 0.6, 0.8, 0.4).view(1, 1, 5)
    second = logit(0.05, 0.2, 0.9, 0.8, 0.49).view(1, 1, 5)
    labels = merge_objects(torch.stack((first, second)), (1, 5))
    assert labels.dtype == torch.uint8 and labels.tolist() == [[[0, 1, 2, 1, 0]]]


def test_merging_is_an_argmax_of_which_the_first_maximum_wins():
    logits = torch.randn(4, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 30
    logits[2] = logits[0]  # and large ones have the same probability, 1
    prob = F.interpolate(logits.transpose(0, 1), (19, 26), mode='bilinear').sigmoid()
    prob = torch.cat((torch.full_like(prob[:, :1], 0.1), prob.masked_fill(prob < 0.5, 0)), 1)
    labels = merge_objects(logits, (19, 26))
    assert torch.equal(labels, prob.argmax(1).byte())
    assert labels.unique().tolist() == [0, 1, 2, 4]


def test_a_video_has_the_mean_score_of_its_frames():
    clips = [
        InstanceData(scores=torch.tensor([score]), boxes=torch.full((1, n, 4), float(n)))
        for n, score in ((3, 0.2), (1, 0.6))
    ]
    joined = join_clips(clips)
    assert joined.scores.tolist() == pytest.approx([0.3])
    assert joined.boxes[0, :, 0].tolist() == [3, 3, 3, 1]
    assert join_clips(clips[:1]) is clips[0]
