"""ResNet: frozen, dilated as torchvision does it, and what happens without mmdet."""

import sys

import pytest
import torch
from mmengine.registry import init_default_scope

from referformer.models.backbones.resnet import FrozenBatchNorm2d, fold_norms
from referformer.registry import MODELS


def build(**options):
    pytest.importorskip('mmdet.models', reason='mmdet is not installed')
    init_default_scope('referformer')
    return MODELS.build({'type': 'ResNet', 'depth': 50, **options})


def test_frozen_norm_is_batch_norm_in_evaluation():
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(5).eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
        tensor.normal_()
    norm.running_var.uniform_(0.5, 2)
    frozen = FrozenBatchNorm2d(5)
    frozen.load_state_dict(norm.state_dict())  # its counter is left out
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(frozen.train()(x), norm(x))
    assert not list(frozen.parameters()) and frozen(x.bfloat16()).dtype == torch.bfloat16


def test_what_is_trained():
    model = build()
    model.train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith(('layer2', 'layer3', 'layer4')) for name in trained)
    assert all('bn' not in name and 'downsample.1' not in name for name in trained)
    assert (
        sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in model.buffers())
        == 23508032 + 2 * 26560
    )  # torchvision's parameters without fc, and its running statistics


def test_norms_without_pretrained_weights_let_signals_pass():
    model = build()
    model.init_weights()
    assert all(m.weight.eq(1).all() for m in model.modules() if isinstance(m, FrozenBatchNorm2d))


def test_dilation_keeps_stride_16_and_spares_the_first_block():
    model = build(dilation=True)
    assert [m.conv2.dilation for m in model.layer4] == [(1, 1), (2, 2), (2, 2)]
    assert [m.conv2.padding for m in model.layer4] == [(1, 1), (2, 2), (2, 2)]
    shapes = [tuple(x.shape[-2:]) for x in model(torch.zeros(1, 3, 64, 96))]
    assert shapes == [(16, 24), (8, 12), (4, 6), (4, 6)]


def test_without_mmdet_the_command_that_installs_it_is_named(monkeypatch):
    init_default_scope('referformer')
    monkeypatch.setitem(sys.modules, 'mmdet.models.backbones', None)
    with pytest.raises(ModuleNotFoundError, match=r'`bash tools/setup/install_mmcv\.sh`'):
        MODELS.build({'type': 'ResNet', 'depth': 50})


def test_other_depths_are_refused():
    init_default_scope('referformer')
    with pytest.raises(ValueError, match='depth must be 50, 101 or 152, not 18'):
        MODELS.build({'type': 'ResNet', 'depth': 18})


def randomise_norms(model):
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                tensor.normal_(0, 0.1)


@torch.no_grad()
def test_folded_norms_give_the_same_maps_and_follow_the_weights():
    model = build(dilation=True).eval()
    randomise_norms(model)
    x = torch.randn(2, 3, 64, 96)
    for _ in range(2):
        with torch.enable_grad():
            expected = model(x)
        for found, wanted in zip(model(x), expected):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max())
        model.layer4[2].conv3.weight.mul_(1.5)
        model.conv1.weight.neg_()
    model(x)
    folded = model._folded
    model(x)
    assert model._folded is folded  # nothing changed: not folded again
    model.train()
    assert model._folded is None


def test_folding_leaves_no_frozen_norm():
    folded = fold_norms(build())
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in folded.modules())
