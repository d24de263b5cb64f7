"""Sine encodings."""

import math

import numpy as np
import torch

from referformer.models.position_encoding import sine_encoding_1d, sine_encoding_2d

CPU = torch.device('cpu')


def test_official_numbers(shared_dir):
    arrays = np.load(shared_dir / 'parity' / 'units' / 'position_encoding.npz')
    mask = torch.from_numpy(arrays['mask2d'])
    expected = torch.from_numpy(arrays['sine2d'])
    found = sine_encoding_2d(mask.shape[1:], expected.shape[1], CPU, mask)
    # Fully padded rows hold the sine of about -3e6, where one bit is a quarter of a turn.
    seen = ~mask.all(2)[:, :, None] & ~mask.all(1)[:, None, :]
    seen = seen[:, None].expand_as(expected)
    torch.testing.assert_close(found[seen], expected[seen], rtol=0, atol=1e-5)
    assert torch.equal(found, expected)
    words = sine_encoding_1d(torch.from_numpy(arrays['mask1d']), arrays['sine1d'].shape[1])
    torch.testing.assert_close(
        words.transpose(1, 2), torch.from_numpy(arrays['sine1d']), rtol=0, atol=1e-6
    )


def test_by_hand():
    encoding = sine_encoding_2d((2, 4), 4, CPU)[0]
    # Rows lie at 1/4 and 3/4 of a turn, columns at 1/8, 3/8, ...; y first, sine before cosine.
    rows = torch.tensor([0.25, 0.75]) * 2 * math.pi
    columns = torch.tensor([1, 3, 5, 7]) / 8 * 2 * math.pi
    torch.testing.assert_close(encoding[0, :, 0], rows.sin(), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoding[1, :, 0], rows.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoding[2, 0], columns.sin(), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoding[3, 0], columns.cos(), rtol=0, atol=1e-5)


def test_without_padding_both_ways_agree():
    nothing = torch.zeros(3, 5, 7, dtype=torch.bool)
    masked = sine_encoding_2d((5, 7), 16, CPU, nothing)
    assert torch.equal(masked, sine_encoding_2d((5, 7), 16, CPU).expand(3, -1, -1, -1))


def test_padding_does_not_move_what_is_seen():
    mask = torch.ones(1, 8, 9, dtype=torch.bool)
    mask[:, :5, :7] = False
    padded = sine_encoding_2d((8, 9), 16, CPU, mask)
    torch.testing.assert_close(padded[..., :5, :7], sine_encoding_2d((5, 7), 16, CPU))


def test_words_are_counted_up_to_the_last_one():
    mask = torch.tensor([[False, False, False, True], [False] * 4])
    encoding = sine_encoding_1d(mask, 8)
    alone = sine_encoding_1d(mask[:1, :3], 8)
    torch.testing.assert_close(encoding[:1, :3], alone)
    torch.testing.assert_close(encoding[0, 2], encoding[1, 3])  # both the last: 2 pi


def test_an_encoding_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        first = sine_encoding_2d((3, 11), 8, CPU)
    assert first is sine_encoding_2d((3, 11), 8, CPU) and not first.is_inference()
    weight = torch.ones((), requires_grad=True)
    (weight * first).sum().backward()
