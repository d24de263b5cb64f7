"""What travels between the parts: samples, encoded text, predictions, padding masks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

# The obj_id of a sentence about an object that its video does not show.
ABSENT = -1


def control_of(sample: Mapping[str, Any] | BaseDataElement) -> str | None:
    """What a sentence is a control of: 'absent', 'shuffled' (the order of its frames), or None."""
    return 'absent' if sample.get('obj_id') == ABSENT else sample.get('frame_order')


def is_absent(obj_id: Any) -> bool:
    """Whether a sentence is about nothing in its video: ``ABSENT``, or a list of no objects."""
    return obj_id == ABSENT or obj_id == ()


class RVOSDataSample(BaseDataElement):
    """One clip with one expression.

    Meta: ``text``, ``video_id``, ``exp_id``, ``frame_names``, ``key_frames`` (indices of the T'
    annotated
    frames in the clip), ``ori_shape`` (h, w) on disk, ``img_shape`` (h, w) of the unpadded input.

    ``gt_instances`` (N referred objects): ``labels (N,)``, ``boxes (N, T', 4)`` cxcywh in [0, 1],
    ``masks (N, T', h, w)`` bool, ``valid (N, T')`` bool, True where the object is visible.

    ``pred_instances`` (k kept queries): ``scores (k,)``, their ``frame_scores (k, T')``, of which
    they are the means, ``boxes (k, T', 4)`` xyxy in pixels of ``ori_shape``, ``masks (k, T', H0,
    W0)`` bool.
    """

    @property
    def gt_instances(self) -> InstanceData:
        """The referred objects."""
        return self._gt_instances

    @gt_instances.setter
    def gt_instances(self, value: InstanceData) -> None:
        self.set_field(value, '_gt_instances', dtype=InstanceData)

    @gt_instances.deleter
    def gt_instances(self) -> None:
        del self._gt_instances

    @property
    def pred_instances(self) -> InstanceData:
        """The kept queries."""
        return self._pred_instances

    @pred_instances.setter
    def pred_instances(self, value: InstanceData) -> None:
        self.set_field(value, '_pred_instances', dtype=InstanceData)

    @pred_instances.deleter
    def pred_instances(self) -> None:
        del self._pred_instances


class TextFeatures(NamedTuple):
    """Encoded sentences of a batch."""

    words: Tensor  # (B, L, C)
    mask: Tensor  # (B, L), True = padded word
    sentence: Tensor  # (B, C)
    padded: bool = True  # False where no word is; known without a look at the mask

    def select(self, part: slice) -> 'TextFeatures':
        """Those of some sentences."""
        fields = (self.words, self.mask, self.sentence)
        return TextFeatures(*(x[part] for x in fields), self.padded)


class Predictions(NamedTuple):
    """Raw outputs of all decoder layers, the last one last."""

    logits: Tensor  # (D, B, T', Q, K)
    boxes: Tensor  # (D, B, T', Q, 4), cxcywh in [0, 1]
    masks: Tensor  # (D, B, T', Q, h, w), logits at stride 4


def padding_mask(
    sizes: Sequence[tuple[int, int]], height: int, width: int, device: torch.device
) -> Tensor:
    """Mask of padded pixels, True = padded.

    Args:
        sizes: (h, w) of the B unpadded inputs, which lie at the top left.
        height: Padded height H.
        width: Padded width W.

    Returns:
        Bool tensor (B, H, W).
    """
    h, w = torch.tensor(sizes, device=device).unbind(-1)
    below = torch.arange(height, device=device)[None, :, None] >= h[:, None, None]
    beside = torch.arange(width, device=device)[None, None, :] >= w[:, None, None]
    return below | beside
