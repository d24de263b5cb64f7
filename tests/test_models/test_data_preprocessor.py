"""uint8 clips to normalised, padded batches."""

import pytest
import torch

from referformer.models import ClipPreprocessor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def clip(h, w, T=2):
    generator = torch.Generator().manual_seed(h)
    return torch.randint(0, 256, (T, 3, h, w), dtype=torch.uint8, generator=generator)


def test_pixels_are_normalised_and_zeros_fill_the_right_and_the_bottom():
    clips = [clip(40, 50), clip(36, 70)]
    batch = ClipPreprocessor()({'inputs': clips, 'data_samples': ['a', 'b']}, training=True)
    x = batch['inputs']
    assert x.shape == (2, 2, 3, 64, 96) and x.dtype == torch.float32
    assert batch['data_samples'] == ['a', 'b']
    for i, (h, w) in enumerate([(40, 50), (36, 70)]):
        for c in range(3):
            expected = (clips[i][:, c].double() / 255 - MEAN[c]) / STD[c]
            torch.testing.assert_close(x[i, :, c, :h, :w].double(), expected, rtol=0, atol=1e-6)
        assert x[i, ..., h:, :].eq(0).all() and x[i, ..., w:].eq(0).all()


def test_testing_does_not_pad():
    batch = ClipPreprocessor()({'inputs': [clip(90, 150)], 'data_samples': None})
    assert batch['inputs'].shape[-2:] == (90, 150)


def test_clips_of_other_lengths_are_named():
    with pytest.raises(ValueError, match=r'clips of \[2, 3\] frames in one batch'):
        ClipPreprocessor()({'inputs': [clip(8, 8), clip(8, 8, T=3)], 'data_samples': None})


def test_the_official_normalisation_is_equal_to_the_bit(shared_dir):
    import numpy as np

    arrays = np.load(shared_dir / 'parity' / 'units' / 'preprocess.npz')
    for i in range(4):
        pixels = torch.from_numpy(arrays[f'{i}.resized_rgb']).permute(2, 0, 1)[None]
        found = ClipPreprocessor()({'inputs': [pixels], 'data_samples': None})['inputs']
        assert torch.equal(found[0, 0], torch.from_numpy(arrays[f'{i}.normalized']))
