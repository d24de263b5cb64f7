"""Run lengths and polygons: a clear error, or the mask that they mean."""

import random

import numpy as np
from fuzzing import JUNK, Child, Tally
from pycocotools import mask as coco_mask

from referformer.structures.run_lengths import decode_mask

SIZE = (24, 20)


def read(segmentation, size) -> np.ndarray:
    return decode_mask(segmentation, size)


def meaning(counts: list[int]) -> np.ndarray:
    """Runs of 0 and 1 by turns, down the columns."""
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    return flat.reshape(SIZE[::-1]).T.astype(bool)


def numbers_of(code: str) -> list[int] | None:
    """The lengths in a compressed string, character by character; None where it is none."""
    numbers, at = [], 0
    while at < len(code):
        value = place = 0
        while True:
            if at == len(code) or not 48 <= ord(code[at]) < 112:
                return None
            char = ord(code[at]) - 48
            at += 1
            value |= (char & 31) << place
            place += 5
            if not char & 32:
                if char & 16:
                    value -= 1 << place
                break
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    return numbers


def polygon(rng: random.Random) -> list:
    numbers = [rng.uniform(-30, 60) for _ in range(2 * rng.choice((2, 3, 3, 4, 9)))]
    for _ in range(rng.choice((0, 0, 1, 2))):
        values = (1e8, -1e8, 1e30, 2**70, float('nan'), float('inf'), None, '3', True, [], 0)
        numbers[rng.randrange(len(numbers))] = rng.choice(values)
    return numbers


def segmentation(rng: random.Random):
    mask = np.random.default_rng(rng.randrange(2**32)).random(SIZE) < rng.random()
    runs = np.diff([0, *np.flatnonzero(np.diff(mask.T.ravel())) + 1, mask.size])
    counts = [0] * int(mask[0, 0]) + runs.tolist()
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))['counts'].decode()
    kind = rng.randrange(5)
    if kind == 0:
        return [polygon(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    if kind == 1:  # a list of lengths
        for _ in range(rng.choice((0, 1, 2))):
            at = rng.randrange(len(counts))
            counts[at] = rng.choice((0, 1, -1, 2**31, 2**32, 2**63, 2**64, 480, counts[at] + 1))
        return {'size': list(SIZE), 'counts': counts}
    if kind == 2:  # a code
        chars = list(code)
        for _ in range(rng.choice((0, 1, 2, 8))):
            at = rng.randrange(len(chars))
            chars[at : at + rng.randrange(3)] = [chr(rng.choice((*range(40, 120), 233)))]
        return {'size': list(SIZE), 'counts': ''.join(chars)}
    values = [value() if callable(value) else value for value in rng.choices(JUNK, k=3)]
    if kind == 3:
        return {'size': rng.choice((list(SIZE), values[0])), 'counts': values[1]}
    return values[2]


def test_run_lengths_and_polygons(fuzz):
    rng, tally = random.Random(fuzz.seed), Tally()
    with Child(read) as child:
        for number in range(fuzz.count(500)):
            code = segmentation(rng)
            size = SIZE
            if rng.random() < 0.1:
                sides = (0, -1, 1, 24, 2**31, 2**40, 10**9)
                size = (rng.choice(sides), rng.choice(sides))
                if isinstance(code, dict) and rng.random() < 0.7:
                    code['size'] = list(size)
            outcome = child(code, size)
            tally.add(outcome, f'segmentation {number}: {str(code)[:200]} of {size}')
            if outcome.kind == 'accepted' and isinstance(code, dict) and size == SIZE:
                counts = code['counts']
                counts = counts if isinstance(counts, list) else numbers_of(counts)
                np.testing.assert_array_equal(outcome.detail, meaning(counts))
    tally.check()
