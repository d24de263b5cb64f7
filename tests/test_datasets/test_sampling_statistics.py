"""The frames that training draws follow the rule of the paper's code, in distribution.

For small videos all clips and their probabilities can be listed. 10 000 draws are compared with the
list by the chi-square test; a correct sampler fails a case with probability 1e-4 (the seed is
fixed, so it fails always or never).
"""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import chisquare

from referformer.datasets.transforms.sampling import sample_local_global

DRAWS = 10_000
SIGNIFICANCE = 1e-4


def clips_of_the_rule(centre, length, num_frames, reach=3):
    """Every sorted clip and its probability: the frame; one 1 to 3 before and one 1 to 3 after,
    clamped; the others without repetition from outside that span, from all frames where these are
    too few, and as often all frames as they fit where those are too few as well."""
    probability = Counter()
    distances = range(1, reach + 1)
    for before, after in product(distances, distances):
        close = (max(centre - before, 0), min(centre + after, length - 1))
        choices = list(combinations(close, min(num_frames - 1, 2)))
        for chosen in choices:
            chosen = (centre, *chosen)
            rest = num_frames - len(chosen)
            pool = [f for f in range(length) if not min(chosen) <= f <= max(chosen)]
            if len(pool) < rest:
                pool = list(range(length))
            repeated = pool * (rest // len(pool)) if pool else []
            others = list(combinations(pool, rest - len(repeated)))
            for drawn in others:
                clip = tuple(sorted((*chosen, *repeated, *drawn)))
                probability[clip] += 1 / (reach**2 * len(choices) * len(others))
    return probability


def p_value(probability, draws):
    """Of the chi-square test; clips that are expected fewer than 5 times count as one."""
    counts = Counter(map(tuple, draws))
    assert not set(counts) - set(probability), 'a clip that the rule does not allow'
    rare = {clip for clip, p in probability.items() if p * len(draws) < 5}
    expected = [p * len(draws) for clip, p in probability.items() if clip not in rare]
    observed = [counts[clip] for clip in probability if clip not in rare]
    if rare:
        expected.append(len(draws) * sum(probability[clip] for clip in rare))
        observed.append(sum(counts[clip] for clip in rare))
    return chisquare(observed, expected).pvalue if len(expected) > 1 else 1.0


def draw(centre, length, num_frames, **kwargs):
    np.random.seed(0)
    return [
        sample_local_global(centre, length, num_frames, **kwargs).tolist() for _ in range(DRAWS)
    ]


@pytest.mark.parametrize(
    'centre, length, num_frames',
    [
        (4, 10, 1),
        (4, 10, 2),
        (4, 10, 3),
        (10, 24, 4),
        (5, 12, 5),  # the recipe's T; about 100 different clips
        (0, 10, 5),  # clamped: the first frame is its own neighbour
        (9, 10, 5),
        (1, 10, 6),
        (3, 7, 5),  # sometimes too few frames outside the span: from all frames
        (2, 5, 5),
        (0, 2, 7),  # fewer frames than the clip: all of them twice
        (0, 1, 5),
    ],
)
def test_draws_follow_the_rule(centre, length, num_frames):
    probability = clips_of_the_rule(centre, length, num_frames)
    assert sum(probability.values()) == pytest.approx(1)
    assert p_value(probability, draw(centre, length, num_frames)) > SIGNIFICANCE


def test_another_rule_would_be_noticed():
    draws = draw(4, 12, 5)
    biased = [clip if i % 10 else draws[0] for i, clip in enumerate(draws)]
    assert p_value(clips_of_the_rule(4, 12, 5), biased) < SIGNIFICANCE
    nearer = draw(10, 24, 4, reach=2)
    assert p_value(clips_of_the_rule(10, 24, 4), nearer) < SIGNIFICANCE
