"""MuonAdamW against PyTorch's own optimisers."""

import pytest
import torch
from torch import nn

from referformer.engine.muon import MuonAdamW, orthogonalise


def gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    for shape in ((3, 24, 40), (2, 64, 20)):
        matrices = torch.randn(shape) * torch.tensor([1e-3, 1.0, 1e3])[: shape[0], None, None]
        values = torch.linalg.svdvals(orthogonalise(matrices))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_small_parameters_move_as_adamw_moves_them():
    torch.manual_seed(0)
    ours = [
        nn.Parameter(torch.randn(5)),
        nn.Parameter(torch.randn(4, 64)),
        nn.Parameter(torch.ones(())),
    ]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    a = MuonAdamW(ours, lr=0.01, weight_decay=0.1)
    b = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    for seed in range(5):
        gradients(ours, seed)
        gradients(theirs, seed)
        a.step()
        b.step()
    for p, q in zip(ours, theirs):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not hasattr(torch.optim, 'Muon'), reason='this PyTorch has no torch.optim.Muon')
def test_matrices_move_as_pytorchs_muon_moves_them():
    torch.manual_seed(0)
    ours = [
        nn.Parameter(torch.randn(20, 30)),
        nn.Parameter(torch.randn(20, 30)),
        nn.Parameter(torch.randn(40, 16)),
    ]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    a = MuonAdamW(ours, lr=0.01, weight_decay=0.1)
    b = torch.optim.Muon(
        theirs, lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn='match_rms_adamw'
    )
    start = [p.detach().clone() for p in ours]
    for seed in range(3):
        gradients(ours, seed)
        gradients(theirs, seed)
        a.step()
        b.step()
    for p, q, s in zip(ours, theirs, start):
        assert (p - q).norm() < 0.03 * (p - s).norm()  # bfloat16 inside


def test_kernels_count_as_matrices_and_training_resumes_exactly():
    def train(model, optimizer, seeds):
        for seed in seeds:
            gradients(model.parameters(), seed)
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Linear(32, 32), nn.LayerNorm(32))
    optimizer = MuonAdamW(model.parameters())
    train(model, optimizer, range(3))
    assert set(optimizer.state[model[0].weight]) == {'momentum'}
    assert set(optimizer.state[model[2].weight]) == {'step', 'mean', 'square'}
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.utils._pytree.tree_map(
        lambda x: x.clone() if torch.is_tensor(x) else x, optimizer.state_dict()
    )
    straight = train(model, optimizer, range(3, 6))
    model.load_state_dict(weights)
    fresh = MuonAdamW(model.parameters())
    fresh.load_state_dict(state)
    assert all(map(torch.equal, straight, train(model, fresh, range(3, 6))))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match='momentum'):
        MuonAdamW([nn.Parameter(torch.ones(2, 2))], momentum=1.0)
