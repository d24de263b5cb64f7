"""Projection of the backbone's maps to the Transformer's width (paper section 3.2)."""

from collections.abc import Sequence

from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from referformer.registry import MODELS


@MODELS.register_module()
class VisualProjection(BaseModule):
    """1x1 convolutions on the given maps and stride-2 convolutions for coarser levels.

    Args:
        in_channels: Channels of the maps to project, fine to coarse (strides 8, 16, 32).
        out_channels: C.
        num_levels: Levels to give; those beyond ``in_channels`` come from the *raw* last map.
        num_groups: Groups of the GroupNorm.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_levels: int = 4,
        num_groups: int = 32,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_levels < len(in_channels):
            raise ValueError(
                f'num_levels={num_levels} is less than the {len(in_channels)} maps of the backbone'
            )
        convs = [nn.Conv2d(channels, out_channels, 1) for channels in in_channels]
        channels = in_channels[-1]
        for _ in range(num_levels - len(in_channels)):
            convs.append(nn.Conv2d(channels, out_channels, 3, stride=2, padding=1))
            channels = out_channels
        self.levels = nn.ModuleList(
            nn.Sequential(conv, nn.GroupNorm(num_groups, out_channels)) for conv in convs
        )

    def init_weights(self) -> None:
        """Xavier initialisation."""
        super().init_weights()
        for conv, _ in self.levels:
            xavier_init(conv, distribution='uniform')

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Project the maps, [(B*T, C_l, h_l, w_l)] -> [(B*T, C, h_l, w_l)], one per level."""
        levels = [project(x) for project, x in zip(self.levels, maps)]
        coarsest = maps[-1]
        for project in self.levels[len(maps) :]:
            levels.append(project(coarsest))
            coarsest = levels[-1]
        return levels
