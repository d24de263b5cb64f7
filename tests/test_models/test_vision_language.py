"""Where pixels meet words."""

import pytest
import torch
import torch.nn.functional as F

from referformer.models import frame_chunks
from referformer.models.vision_language import (
    FeedForward,
    VisionLanguageBlock,
    VisionLanguageFusion,
    WordTokens,
    to_maps,
    to_tokens,
)

B, T, C, L, H, W = 2, 3, 16, 5, 6, 9


def random_words(padded=0):
    torch.manual_seed(1)
    words = torch.randn(B, L, C)
    mask = torch.zeros(B, L, dtype=torch.bool)
    mask[0, L - padded :] = True
    return WordTokens(words, words + torch.randn(B, L, C), mask if padded else None)


def attend(attn: torch.nn.MultiheadAttention, query, key, value, mask=None):
    """Multi-head attention with explicit weights."""
    wq, wk, wv = attn.in_proj_weight.chunk(3)
    bq, bk, bv = attn.in_proj_bias.chunk(3)
    split = lambda x: x.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)  # noqa: E731
    q, k, v = (
        split(F.linear(query, wq, bq)),
        split(F.linear(key, wk, bk)),
        split(F.linear(value, wv, bv)),
    )
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits.masked_fill(mask[:, None, None], -torch.inf)
    return attn.out_proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_tokens_are_in_the_order_of_time_rows_columns():
    maps = torch.arange(B * T * H * W).view(B * T, 1, H, W)
    tokens = to_tokens(maps, B)
    assert torch.equal(tokens[..., 0], torch.arange(B * T * H * W).view(B, T * H * W))
    assert torch.equal(to_maps(tokens, (H, W)), maps)


@pytest.mark.parametrize('padded', [0, 2])
def test_fusion_multiplies_pixels_with_what_they_read(padded):
    torch.manual_seed(0)
    fusion = VisionLanguageFusion(C, 4)
    maps, text = torch.randn(B * T, C, H, W), random_words(padded)
    read = attend(fusion.attn, to_tokens(maps, B), text.keys, text.words, text.mask)
    torch.testing.assert_close(fusion(maps, text), maps * to_maps(read, (H, W)))


def test_padded_words_are_not_read():
    torch.manual_seed(0)
    fusion = VisionLanguageFusion(C, 4)
    maps, text = torch.randn(B * T, C, H, W), random_words(padded=2)
    other = text._replace(words=text.words.clone(), keys=text.keys.clone())
    other.words[0, -2:], other.keys[0, -2:] = 7, -3
    assert torch.equal(fusion(maps, text), fusion(maps, other))


def test_feed_forward_in_chunks_equals_the_whole(monkeypatch):
    torch.manual_seed(0)
    ffn = FeedForward(C, 32, 0.0)
    x = torch.randn(2, 25, C)
    whole = ffn(x)
    seen = []

    def part(y):
        seen.append(y.shape[1])
        return ffn(y)

    monkeypatch.setattr(frame_chunks, '_TOKENS', 24)
    with torch.no_grad():
        torch.testing.assert_close(frame_chunks.by_tokens(part, x), whole)
    assert seen == [12, 12, 1]
    frame_chunks.by_tokens(part, x)
    assert seen[3:] == [25]  # whole where a gradient is needed


@pytest.mark.parametrize('shrink', [1, 2])
@pytest.mark.parametrize('padded', [False, True])
def test_block_equals_the_form_of_the_paper(shrink, padded):
    torch.manual_seed(0)
    block = VisionLanguageBlock(C, 4, 32, 0.0, shrink).eval()
    maps, pos, text = torch.randn(B * T, C, H, W), torch.randn(1, C, H, W), random_words(2)
    mask = torch.zeros(B, H, W, dtype=torch.bool)
    mask[1, 4:] = padded
    mixed = block.mix_frames(maps, pos, mask if padded else None, B)
    found = block(maps, mixed, pos, text.repeat_frames(T))

    x = to_tokens(maps, B)
    p = to_tokens(pos.expand(B * T, -1, -1, -1), B)
    rows, columns = torch.arange(0, H // shrink) * shrink, torch.arange(W // shrink)
    columns = (columns * (W / (W // shrink))).long()  # nearest, as F.interpolate chooses
    small = lambda y: y[..., rows, :][..., columns]  # noqa: E731
    values = to_tokens(small(maps), B)
    queries = values + to_tokens(small(pos.expand(B * T, -1, -1, -1)), B)
    small_mask = small(mask)[:, None].expand(-1, T, -1, -1).flatten(1)
    mixed = attend(block.self_attn, queries, queries, values, small_mask)
    if shrink > 1:
        mixed = to_maps(mixed, (H // shrink, W // shrink))
        mixed = to_tokens(F.interpolate(mixed, (H, W), mode='bilinear'), B)
    x = block.norm_self(x + mixed)
    x = block.norm_word(x + attend(block.word_attn, x + p, text.keys, text.words, text.mask))
    x = block.norm_ffn(x + block.ffn.linear2(block.ffn.linear1(x).relu()))
    torch.testing.assert_close(found, to_maps(x, (H, W)), rtol=1e-4, atol=1e-5)


def test_a_map_that_is_too_small_is_named():
    block = VisionLanguageBlock(C, 4, 32, 0.0, 8)
    with pytest.raises(ValueError, match='a map of 6x9 is too small to be shrunk by 8'):
        block.mix_frames(torch.randn(B, C, 6, 9), torch.randn(1, C, 6, 9), None, B)
