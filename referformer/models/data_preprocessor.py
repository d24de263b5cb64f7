"""uint8 clips to normalised, padded batches."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from referformer.registry import MODELS


@MODELS.register_module()
class ClipPreprocessor(BaseDataPreprocessor):
    """Normalise clips and pad them, with zeros at the right and bottom, to one size.

    Args:
        mean: Of the RGB channels, for pixels in [0, 1].
        std: Of the RGB channels, for pixels in [0, 1].
        train_divisor: In training the padded size is a multiple of this.
        test_divisor: The same in testing; 1 does not pad (Ref-YouTube-VOS and Ref-DAVIS17
            inference).
    """

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        train_divisor: int = 32,
        test_divisor: int = 1,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(3, 1, 1), persistent=False)
        self.train_divisor = train_divisor
        self.test_divisor = test_divisor

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Make one batch.

        Args:
            data: ``inputs``, B clips (T, 3, h, w) uint8 with equal T, and ``data_samples``.
            training: Chooses the divisor.

        Returns:
            ``inputs`` (B, T, 3, H, W) float and the same ``data_samples``, moved to the device.

        Raises:
            ValueError: The clips differ in their number of frames.
        """
        data = self.cast_data(data)
        clips, samples = data['inputs'], data.get('data_samples')
        if len({len(clip) for clip in clips}) > 1:
            raise ValueError(
                f'clips of {[len(clip) for clip in clips]} frames in one batch: '
                'use batch_size=1, or a sampler that gives clips of equal length'
            )
        divisor = self.train_divisor if training else self.test_divisor
        H, W = (
            -(-max(clip.shape[axis] for clip in clips) // divisor) * divisor for axis in (-2, -1)
        )
        return {
            'inputs': torch.stack([self._prepare(c, H, W) for c in clips]),
            'data_samples': samples,
        }

    def _prepare(self, clip: Tensor, height: int, width: int) -> Tensor:
        clip = clip.float().div_(255).sub_(self.mean).div_(self.std)
        return F.pad(clip, (0, width - clip.shape[-1], 0, height - clip.shape[-2]))
