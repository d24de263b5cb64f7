"""A few frames at a time give what all frames give."""

import pytest
import torch

from referformer.models import frame_chunks
from referformer.models.frame_chunks import by_frames
from referformer.structures import RVOSDataSample

T = 7


@pytest.fixture(autouse=True)
def three_frames(monkeypatch):
    monkeypatch.setattr(frame_chunks, 'FRAMES', 3)


def test_frames_are_divided_with_all_that_belongs_to_them():
    x, y, whole = torch.randn(T, 2, 4), torch.randn(T, 4), torch.randn(1, 4)
    seen = []

    def function(x, y, whole, nothing, word):
        seen.append((len(x), len(y), len(whole), nothing, word))
        return x * y[:, None] + whole

    expected = x * y[:, None] + whole
    with torch.no_grad():
        assert torch.equal(by_frames(function, x, y, whole, None, 'a'), expected)
    assert seen == [(n, n, 1, None, 'a') for n in (3, 3, 1)]
    assert torch.equal(by_frames(function, x, y, whole, None, 'a'), expected)
    assert seen[3:] == [(T, T, 1, None, 'a')]  # whole where a gradient is needed


@torch.no_grad()
def test_several_results_keep_their_shapes_and_types():
    x = torch.randn(T, 4)
    first, second = by_frames(lambda x: [x[:, :2] + 1, x.bool()[..., None]], x)
    assert torch.equal(first, x[:, :2] + 1)
    assert second.dtype == torch.bool and second.shape == (T, 4, 1)


@torch.no_grad()
def test_a_result_may_replace_its_input():
    x = torch.randn(T, 4)
    expected = x + 1
    assert by_frames(lambda x: x + 1, x, out=x) is x
    assert torch.equal(x, expected)
    half = by_frames(lambda x: x.bfloat16(), x, out=x)
    assert half.dtype == torch.bfloat16 and torch.equal(x, expected)


@pytest.mark.parametrize('num_clips', [1, 2])
def test_the_model_predicts_the_same(tiny_model, num_clips):
    model = tiny_model().eval()
    torch.manual_seed(0)
    clips = torch.randn(num_clips, T, 3, 64, 96)
    samples = [RVOSDataSample() for _ in range(num_clips)]
    for sample in samples:
        sample.set_metainfo({'text': 'the dog', 'img_shape': (64, 80), 'ori_shape': (64, 80)})
    whole = model(clips, samples)
    with torch.no_grad():
        divided = model(clips, samples)
    for a, b in zip(whole, divided):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
