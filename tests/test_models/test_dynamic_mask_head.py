"""Dynamic convolution: official numbers, an independent form, the folded form."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from referformer.models.dynamic_mask_head import DynamicMaskHead

D, B, T, Q, C = 2, 2, 3, 4, 16
H, W = 5, 7


def make_head(**options) -> DynamicMaskHead:
    torch.manual_seed(0)
    head = DynamicMaskHead(embed_dim=C, mask_dim=12, num_channels=4, **options)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0, 0.3)
    return head


def random_inputs():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(B, T, C, H, W, generator=generator)
    hs = torch.randn(D, B, T, Q, C, generator=generator)
    references = torch.rand(D, B, T, Q, 2, generator=generator) * torch.tensor([4.0 * W, 4.0 * H])
    return features, hs, references


def slow_masks(head: DynamicMaskHead, features, hs, references):
    """One query at a time, as the paper says: concatenate coordinates, convolve three times."""
    out = torch.empty(D, B, T, Q, H, W)
    k = head.num_channels
    for d, b, t, q in np.ndindex(D, B, T, Q):
        x = F.conv2d(
            features[b, t][None], head.mask_features.weight, head.mask_features.bias, padding=1
        )
        if head.rel_coord:
            ys, xs = torch.meshgrid(
                torch.arange(H) * 4.0 + 2, torch.arange(W) * 4.0 + 2, indexing='ij'
            )
            relative = references[d, b, t, q][:, None, None] - torch.stack((xs, ys))
            x = torch.cat((x, relative[None]), 1)
        numbers = head.controller(hs[d, b, t, q])
        sizes = [k * x.shape[1], k * k, k, k, k, 1]
        w1, w2, w3, b1, b2, b3 = numbers.split(sizes)
        x = F.conv2d(x, w1.view(k, -1, 1, 1), b1).relu()
        x = F.conv2d(x, w2.view(k, k, 1, 1), b2).relu()
        out[d, b, t, q] = F.conv2d(x, w3.view(1, k, 1, 1), b3)[0, 0]
    return out


@pytest.mark.parametrize('rel_coord', [True, False])
@pytest.mark.parametrize('grad', [True, False], ids=['shared', 'folded'])
def test_masks_equal_the_form_of_the_paper(rel_coord, grad):
    head = make_head(rel_coord=rel_coord)
    inputs = random_inputs()
    with torch.set_grad_enabled(grad):
        masks = (
            head(*inputs)
            if grad
            else torch.cat([head(inputs[0], h[None], r[None]) for h, r in zip(*inputs[1:])])
        )
    # Coordinates reach 28 pixels and pass through three layers.
    torch.testing.assert_close(masks, slow_masks(head, *inputs), rtol=1e-4, atol=1e-3)


def test_folding_is_used_where_it_saves_work(monkeypatch):
    head = make_head()
    folded = []
    monkeypatch.setattr(
        head, '_fold', lambda *args: folded.append(1) or DynamicMaskHead._fold(head, *args)
    )
    features, hs, references = random_inputs()
    with torch.no_grad():
        head(features, hs[-1:, ..., :1, :], references[-1:, ..., :1, :])  # 4 channels for 12
        head(features, hs, references)  # 32 channels for 12
    head(features, hs[-1:, ..., :1, :], references[-1:, ..., :1, :])
    assert len(folded) == 1


def test_gradients_are_derivatives():
    head = make_head().double()
    inputs = [x[:1, :1, :, :2].double() for x in random_inputs()[1:]]
    features = random_inputs()[0][:1, :, :, :2, :2].double()
    tensors = [x.requires_grad_() for x in (features, *inputs)]
    assert torch.autograd.gradcheck(lambda *x: head(*x), tensors, atol=1e-4)


@pytest.mark.parametrize('rel_coord', [True, False])
def test_official_numbers(shared_dir, rel_coord):
    arrays = np.load(shared_dir / 'parity' / 'units' / 'dynamic_mask_head.npz')
    features = torch.from_numpy(arrays['mask_features'])  # (2, 3, 6, 5, 7)
    params = torch.from_numpy(arrays['params'])  # (2, 12, 153): frames and queries in one axis
    points = torch.from_numpy(arrays['reference_points'])
    _, t, channels = features.shape[:3]
    k = 8
    params = params if rel_coord else params[..., :137]
    head = DynamicMaskHead(channels, channels, k, rel_coord=rel_coord)
    assert sum(head.kernel_sizes) == params.shape[-1]
    with torch.no_grad():  # the features are those after the 3x3 convolution
        head.mask_features.weight.copy_(
            torch.eye(channels)[..., None, None] * F.pad(torch.ones(1, 1), (1, 1, 1, 1))
        )
        head.mask_features.bias.zero_()
    head.controller = nn.Identity()
    sizes = torch.from_numpy(arrays['sizes']).flip(-1)  # w, h
    references = (points * sizes[:, None]).unflatten(1, (t, -1))[None]
    masks = head(features, params.unflatten(1, (t, -1))[None], references)
    expected = torch.from_numpy(arrays['out' if rel_coord else 'out_no_rel_coord'])
    torch.testing.assert_close(masks[0].flatten(1, 2), expected, rtol=1e-4, atol=1e-3)
