"""Conditional dynamic convolution with relative coordinates (paper section 3.3, equation 2).

Letters: D layers, B clips, T frames, Q queries, C channels, h w the stride-4 grid, k dynamic
channels.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from referformer.registry import MODELS

from .deformable_transformer import MLP
from .precision import full_precision

# Stride of the mask grid: cell i has its centre at 4 i + 2 pixels.
_STRIDE = 4


@MODELS.register_module()
class DynamicMaskHead(BaseModule):
    """Every query makes the kernels of its own small mask network and runs it on the shared
    features.

    The network is three 1x1 convolutions on the mask features and the pixel's coordinates relative
    to the
    query's reference point. As the first one is linear, ``W [F; ref - loc] = W_f F + W_x (ref_x -
    x) + W_y (ref_y - y)``: nothing is repeated or concatenated per query.

    Args:
        embed_dim: C of queries and of the FPN.
        mask_dim: Channels of the mask features.
        num_channels: k.
        num_controller_layers: Layers of the MLP that makes the kernels.
        rel_coord: Use the relative coordinates.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        mask_dim: int = 256,
        num_channels: int = 8,
        num_controller_layers: int = 3,
        rel_coord: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.rel_coord = rel_coord
        self.mask_dim = mask_dim
        k = num_channels
        inputs = mask_dim + (2 if rel_coord else 0)
        self.kernel_sizes = [k * inputs, k * k, k, k, k, 1]  # three weights, three biases
        self.num_channels = k
        self.mask_features = nn.Conv2d(embed_dim, mask_dim, 3, padding=1)
        self.controller = MLP(embed_dim, embed_dim, sum(self.kernel_sizes), num_controller_layers)

    def init_weights(self) -> None:
        """Xavier initialisation."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                xavier_init(module, distribution='uniform')

    def forward(self, features: Tensor, hs: Tensor, references: Tensor) -> Tensor:
        """Predict the masks of all given layers and queries.

        Args:
            features: Output of the FPN, (B, T, C, h, w).
            hs: Decoder states, (D, B, T, Q, C).
            references: Reference points in pixels of the input, xy, (D, B, T, Q, 2).

        Returns:
            Mask logits, (D, B, T, Q, h, w).
        """
        D, B, T, Q, _ = hs.shape
        h, w = features.shape[-2:]
        w1, w2, w3, b1, b2, b3 = self._kernels(hs)
        frames = features.flatten(0, 1)  # (B*T, C, h, w)
        by_frame = w1[..., : self.mask_dim].permute(1, 2, 0, 3, 4, 5)  # (B, T, D, Q, k, mask_dim)
        kernels = by_frame.reshape(B * T, D * Q * self.num_channels, self.mask_dim)
        if not torch.is_grad_enabled() and kernels.shape[1] < self.mask_dim:
            x = self._fold(frames, kernels)
        else:
            x = kernels @ self.mask_features(frames).flatten(2)
        x = x.view(B, T, D, Q, self.num_channels, h * w)
        if self.rel_coord:
            x = x + self._coordinate_term(w1[..., self.mask_dim :], references, h, w)
        x = (x + b1.permute(1, 2, 0, 3, 4)[..., None]).relu_()
        x = x.flatten(0, 3)  # (B*T*D*Q, k, h*w)
        order = (1, 2, 0, 3, 4)
        w2 = w2.permute(*order, 5).flatten(0, 3)
        w3 = w3.permute(*order, 5).flatten(0, 3)
        x = torch.baddbmm(b2.permute(order).flatten(0, 3)[..., None], w2, x).relu_()
        x = torch.baddbmm(b3.permute(order).flatten(0, 3)[..., None], w3, x)
        return x.view(B, T, D, Q, h, w).permute(2, 0, 1, 3, 4, 5)

    def _kernels(self, hs: Tensor) -> list[Tensor]:
        """Weights (..., out, in), biases (..., out) of the three layers, from (D, B, T, Q, C)."""
        with full_precision(hs):  # coordinates reach hundreds of pixels
            parts = self.controller(hs).split(self.kernel_sizes, -1)
        w1, w2, w3 = (
            p.unflatten(-1, (out, -1)) for p, out in zip(parts, (self.num_channels,) * 2 + (1,))
        )
        return [w1, w2, w3, *parts[3:]]

    def _fold(self, frames: Tensor, kernels: Tensor) -> Tensor:
        """Join the first dynamic layer with the linear 3x3 convolution before it: C -> D*Q*k
        channels per frame.

        Args:
            frames: (B*T, C, h, w).
            kernels: (B*T, D*Q*k, mask_dim).

        Returns:
            (B*T, D*Q*k, h*w).
        """
        BT, out, _ = kernels.shape
        weight = self.mask_features.weight
        folded = (kernels @ weight.flatten(1)).view(BT * out, *weight.shape[1:])
        x = F.conv2d(frames.reshape(1, -1, *frames.shape[-2:]), folded, padding=1, groups=BT)
        bias = kernels @ self.mask_features.bias[:, None]
        return x.view(BT, out, -1) + bias

    @staticmethod
    def _coordinate_term(weight: Tensor, references: Tensor, h: int, w: int) -> Tensor:
        """``W_x (ref_x - x) + W_y (ref_y - y)``, (D, B, T, Q, k, 2) -> (B, T, D, Q, k, h*w)."""
        x = torch.arange(w, device=weight.device, dtype=torch.float32) * _STRIDE + _STRIDE // 2
        y = torch.arange(h, device=weight.device, dtype=torch.float32) * _STRIDE + _STRIDE // 2
        weight = weight.permute(1, 2, 0, 3, 4, 5)
        ref_x, ref_y = references.permute(1, 2, 0, 3, 4)[..., None, :].unbind(-1)  # (B, T, D, Q, 1)
        along_x = weight[..., 0, None] * (ref_x[..., None] - x)
        along_y = weight[..., 1, None] * (ref_y[..., None] - y)
        return (along_y[..., :, None] + along_x[..., None, :]).flatten(-2)
