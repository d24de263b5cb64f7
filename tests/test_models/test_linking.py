"""One object over windows whose queries have nothing to do with each other."""

import torch
from mmengine.structures import InstanceData

from referformer.models.linking import QueryLink


def found(scores, columns, num_frames=6):
    """Queries whose masks are one column of a 4 x 4 frame."""
    masks = torch.zeros(len(columns), num_frames, 4, 4, dtype=torch.bool)
    for mask, column in zip(masks, columns):
        if column is not None:
            mask[..., column] = True
    scores = torch.tensor(scores)
    return InstanceData(scores=scores, masks=masks, boxes=torch.zeros(len(columns), num_frames, 4))


def test_the_object_goes_on_under_another_number_although_another_scores_a_bit_more():
    link = QueryLink()
    first, relocked = link.follow(found([0.9, 0.2], [0, 3]), 0)
    assert first.masks.shape == (1, 6, 4, 4) and first.masks[..., 0].all() and not relocked
    second, relocked = link.follow(found([0.8, 0.6], [3, 0]), 4)
    assert second.masks.shape == (1, 4, 4, 4), 'only frames that are new'
    assert second.masks[..., 0].all() and not relocked
    assert second.boxes.shape == (1, 4, 4) and second.scores.tolist() == [torch.tensor(0.6)]


def test_a_much_better_query_takes_over_and_that_is_said():
    link = QueryLink()
    link.follow(found([0.5, 0.2], [0, 3]), 0)
    second, relocked = link.follow(found([0.95, 0.1], [3, 0]), 4)
    assert second.masks[..., 3].all() and relocked


def test_an_object_that_was_away_is_found_by_its_score_alone():
    link = QueryLink()
    link.follow(found([0.5, 0.2], [None, None]), 0)
    second, relocked = link.follow(found([0.3, 0.4], [0, 3]), 5)
    assert second.masks[..., 3].all() and not relocked
