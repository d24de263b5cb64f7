"""Muon: steps of equal size in all directions, for models that start from nothing."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..registry import OPTIMIZERS

# Of the polynomial a x + b x^3 + c x^5 that brings singular values near 1 within 5 rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


@OPTIMIZERS.register_module()
class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for matrices and convolution kernels, AdamW for all else.

    Muon replaces the momentum of a matrix by the nearest orthogonal one, so that rare directions of
    the gradient move as far as common ones. Its steps are scaled to the size of AdamW's (Liu et
    al., 2025, "Muon is scalable for LLM training"), so one learning rate and weight decay serve
    both. ``torch.optim.Muon`` takes neither kernels nor other parameters, and matrices one by one;
    here those of one shape are done together.

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        weight_decay: Decoupled, of all parameters.
        momentum: Of Muon.
        betas: Of AdamW.
        eps: Of AdamW.
        min_dim: A matrix with fewer rows or columns is AdamW's: embeddings of a few queries or
            levels, the last layers of heads.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        min_dim: int = 16,
    ) -> None:
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            raise ValueError(
                'lr and weight_decay must not be negative and momentum lie in [0, 1), not '
                f'{lr}, {weight_decay} and {momentum}'
            )
        defaults = {
            'lr': lr,
            'weight_decay': weight_decay,
            'momentum': momentum,
            'betas': tuple(betas),
            'eps': eps,
            'min_dim': min_dim,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices: dict[tuple[int, int], list[Tensor]] = {}
            others = []
            for p in group['params']:
                if p.grad is None:
                    continue
                shape = (p.shape[0], p[0].numel()) if p.dim() > 1 else (1, p.numel())
                if min(shape) < group['min_dim']:
                    others.append(p)
                else:
                    matrices.setdefault(shape, []).append(p)
            for shape, params in matrices.items():
                self._step_muon(group, params, shape)
            if others:
                self._step_adamw(group, others)
        return loss

    def _step_muon(self, group: dict, params: list[Tensor], shape: tuple[int, int]) -> None:
        """One step of matrices of one shape."""
        for p in params:
            if not self.state[p]:
                self.state[p]['momentum'] = torch.zeros_like(p)
        grads = [p.grad for p in params]
        moments = [self.state[p]['momentum'] for p in params]
        torch._foreach_lerp_(moments, grads, 1 - group['momentum'])
        ahead = torch._foreach_lerp(grads, moments, group['momentum'])  # Nesterov
        stacked = torch.stack([x.reshape(shape) for x in ahead])
        scale = 0.2 * math.sqrt(max(shape))
        torch._foreach_mul_(params, 1 - group['lr'] * group['weight_decay'])
        for p, update in zip(params, orthogonalise(stacked)):
            p.add_(update.view_as(p), alpha=-group['lr'] * scale)

    def _step_adamw(self, group: dict, params: list[Tensor]) -> None:
        """One step of all other parameters."""
        beta1, beta2 = group['betas']
        for p in params:
            if not self.state[p]:
                self.state[p].update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
            self.state[p]['step'] += 1
        grads = [p.grad for p in params]
        means = [self.state[p]['mean'] for p in params]
        squares = [self.state[p]['square'] for p in params]
        steps = [self.state[p]['step'] for p in params]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        sizes = torch._foreach_sqrt(squares)
        torch._foreach_div_(sizes, [math.sqrt(1 - beta2**t) for t in steps])
        torch._foreach_add_(sizes, group['eps'])
        torch._foreach_mul_(params, 1 - group['lr'] * group['weight_decay'])
        factors = [-group['lr'] / (1 - beta1**t) for t in steps]
        torch._foreach_addcdiv_(params, means, sizes, factors)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of each of (n, rows, columns) near 1, by Newton-Schulz in bfloat16.

    The polynomial leaves them between about 0.7 and 1.2, which serves as well as 1.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
