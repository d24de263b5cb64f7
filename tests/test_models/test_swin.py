"""Swin and Video Swin: one code, two window shapes."""

import pytest
import torch
from mmengine.registry import init_default_scope

from referformer.models.backbones import Swin, VideoSwin
from referformer.models.backbones.swin import (
    ConvMerging,
    PatchMerging,
    WindowAttention,
    _merge,
    _relative_index,
    _shift_mask,
    _split,
)
from referformer.registry import MODELS

SMALL = {'embed_dim': 8, 'depths': (2, 2, 2, 1), 'num_heads': (1, 2, 2, 4), 'drop_path': 0.0}
EXACT = {'rtol': 0, 'atol': 1e-5}  # float32, numbers of order one


def randomise(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def clip(B=2, T=3, H=64, W=96, seed=0):
    return torch.randn(B, T, 3, H, W, generator=torch.Generator().manual_seed(seed))


def test_the_image_form_is_the_video_form_with_a_flat_window():
    image = randomise(Swin(window=2, **SMALL))
    video = randomise(VideoSwin(window=(1, 2, 2), **SMALL))
    video.out_norms = image.out_norms
    x = clip(H=96, W=128)  # the last map, 3x4, is larger than the window
    for a, b in zip(image(x.flatten(0, 1)), video(x)):
        torch.testing.assert_close(a, b, **EXACT)


def test_maps_have_the_stated_sizes_also_for_odd_inputs():
    model = VideoSwin(window=(2, 3, 3), **SMALL)
    maps = model(clip(1, 2, 90, 150))
    assert [tuple(x.shape) for x in maps] == [
        (2, 8, 23, 38),
        (2, 16, 12, 19),
        (2, 32, 6, 10),
        (2, 64, 3, 5),
    ]
    assert model.out_channels == [8, 16, 32, 64]


def test_frames_see_each_other_only_in_the_video_form():
    x = clip(1, 3)
    changed = x.clone()
    changed[:, 1] += 1
    image, video = (
        randomise(Swin(window=3, **SMALL)),
        randomise(VideoSwin(window=(2, 3, 3), **SMALL)),
    )
    a, b = image(x.flatten(0, 1))[-1], image(changed.flatten(0, 1))[-1]
    assert torch.equal(a[[0, 2]], b[[0, 2]]) and not torch.equal(a[1], b[1])
    a, b = video(x)[-1], video(changed)[-1]
    assert all(not torch.allclose(a[t], b[t]) for t in range(3))


def test_clips_do_not_see_each_other():
    model = randomise(VideoSwin(window=(2, 3, 3), **SMALL))
    x = clip(2)
    for whole, first, second in zip(model(x), model(x[:1]), model(x[1:])):
        torch.testing.assert_close(whole, torch.cat((first, second)), **EXACT)


def test_windows_come_back_where_they_were():
    x = torch.randn(2, 4, 6, 9, 5)
    windows = _split(x, (2, 3, 3))
    assert windows.shape == (2 * 2 * 2 * 3, 18, 5)
    assert torch.equal(windows[0, 0], x[0, 0, 0, 0]) and torch.equal(windows[1, 0], x[0, 0, 0, 3])
    assert torch.equal(_merge(windows, (2, 3, 3), (2, 4, 6, 9)), x)


def test_the_shift_mask_joins_what_was_near_before_the_roll():
    size, window, shift = (4, 6, 6), (2, 3, 3), (1, 1, 1)
    index = torch.stack(torch.meshgrid(*(torch.arange(s) for s in size), indexing='ij'), -1).float()
    rolled = _split(index[None].roll([-1] * 3, (1, 2, 3)), window)
    # Neighbours stay within a window's size; those the roll has brought together are further apart.
    apart = (rolled[:, :, None] - rolled[:, None, :]).abs()
    near = (apart < torch.tensor(window)).all(-1)
    mask = _shift_mask(size, window, shift, torch.device('cpu'))
    assert torch.equal(mask == 0, near) and set(mask.unique().tolist()) == {-100.0, 0.0}


def test_relative_positions_by_hand():
    index = _relative_index((1, 2, 2), torch.device('cpu'))
    # Tokens (0,0), (0,1), (1,0), (1,1); the table is 3x3, its middle 4.
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_attention_equals_the_form_with_explicit_weights():
    torch.manual_seed(0)
    attention = WindowAttention(8, (1, 2, 2), 2)
    torch.nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(6, 4, 8)
    mask = torch.randn(3, 4, 4)  # two clips of three windows
    q, k, v = attention.qkv(x).view(6, 4, 3, 2, 4).unbind(2)
    logits = torch.einsum('bihd,bjhd->bhij', q, k) / 2
    table = attention.relative_position_bias_table
    logits = logits + table[_relative_index((1, 2, 2), x.device)].permute(2, 0, 1)
    logits = logits + mask.repeat(2, 1, 1)[:, None]
    expected = torch.einsum('bhij,bjhd->bihd', logits.softmax(-1), v).reshape(6, 4, 8)
    torch.testing.assert_close(attention(x, mask), attention.proj(expected), **EXACT)


def test_merging_concatenates_rows_first():
    merge = PatchMerging(1)
    merge.norm, merge.reduction = torch.nn.Identity(), torch.nn.Identity()
    x = torch.arange(6.0).view(1, 1, 2, 3, 1)  # rows 0 1 2 and 3 4 5, one column of zeros is added
    assert merge(x)[0, 0, 0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]


def test_a_small_map_is_one_window_in_the_video_form_only():
    video, image = VideoSwin(window=(8, 7, 7), **SMALL), Swin(window=7, **SMALL)
    assert video._window((3, 5, 9)) == ((3, 5, 7), (0, 0, 3))
    assert video._window((8, 8, 7)) == ((8, 7, 7), (0, 3, 0))
    assert image._window((1, 5, 9)) == ((1, 7, 7), (0, 3, 3))


def test_patches_of_several_frames_see_exactly_their_neighbours():
    model = randomise(VideoSwin(window=(1, 3, 3), patch_frames=3, **SMALL))  # time only in patches
    x = clip(1, 6)
    changed = x.clone()
    changed[:, 3] += 1
    for a, b in zip(model(x), model(changed)):
        same = [torch.equal(a[t], b[t]) for t in range(6)]
        assert same == [True, True, False, False, False, True]


def test_the_ends_of_a_clip_are_repeated():
    model = VideoSwin(patch_frames=5, **SMALL)
    x = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(1, 3, 3, 4, 4)  # frame t is all t
    seen = model._with_neighbours(x)[0, :, ::3, 0, 0]
    assert seen.tolist() == [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2]]


def test_a_patch_needs_a_frame_in_its_middle():
    for wrong in (2, 0, -1):
        with pytest.raises(ValueError, match=f'patch_frames must be odd and positive, not {wrong}'):
            VideoSwin(patch_frames=wrong, **SMALL)


def test_the_image_form_has_no_neighbours():
    with pytest.raises(ValueError, match='Swin sees each frame alone; use VideoSwin'):
        Swin(patch_frames=3, **SMALL)


def test_convolutions_give_maps_of_the_same_sizes():
    options = dict(SMALL, depths=(0, 1, 1, 1), window=(2, 3, 3))
    plain, convolved = VideoSwin(**options), VideoSwin(conv_channels=8, **options)
    assert all(isinstance(merge, ConvMerging) for merge in convolved.downsamples)
    x = clip(1, 2, 90, 150)
    assert [m.shape for m in convolved(x)] == [m.shape for m in plain(x)]


def test_merging_by_convolution_keeps_frames_apart():
    merge = randomise(ConvMerging(8))
    x = torch.randn(2, 3, 5, 6, 8)
    together = merge(x)
    assert together.shape == (2, 3, 3, 3, 16)
    torch.testing.assert_close(together[1, 2], merge(x[1:, 2:])[0, 0], **EXACT)


@pytest.mark.parametrize('make', [Swin, VideoSwin])
def test_recomputing_changes_neither_outputs_nor_gradients(make):
    results = []
    for with_cp in (False, True):
        options = {'window': 3} if make is Swin else {'window': (2, 3, 3)}
        model = randomise(make(with_cp=with_cp, **SMALL, **options)).train()
        x = clip(1, 2)
        outputs = model(x.flatten(0, 1) if make is Swin else x)
        sum(o.square().sum() for o in outputs).backward()
        results.append((*outputs, *(p.grad for p in model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_dropped_paths_leave_the_expectation():
    torch.manual_seed(0)
    model = VideoSwin(window=(2, 3, 3), **{**SMALL, 'drop_path': 0.4})
    rates = [block.drop_path.prob for blocks in model.stages for block in blocks]
    assert rates == pytest.approx([0.4 * i / 6 for i in range(7)])
    drop = model.stages[-1][-1].drop_path.train()
    kept = drop(torch.ones(4000, 1))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert kept.mean().item() == pytest.approx(1, abs=0.05)  # five standard deviations
    assert torch.equal(drop.eval()(torch.ones(3)), torch.ones(3))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_weights_come_from_init_cfg(tmp_path, suffix):
    init_default_scope('referformer')
    source = randomise(VideoSwin(window=(2, 3, 3), **SMALL))
    path = tmp_path / f'weights{suffix}'
    if suffix == '.pth':
        torch.save(source.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(source.state_dict(), path)
    model = MODELS.build(
        {
            'type': 'VideoSwin',
            'window': (2, 3, 3),
            'init_cfg': {'type': 'Pretrained', 'checkpoint': str(path)},
            **SMALL,
        }
    )
    model.init_weights()
    found = model.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in source.state_dict().items())
