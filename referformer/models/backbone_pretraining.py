"""Teach a backbone what objects are like, pixel by pixel, before it hears a sentence.

Letters: B clips, T frames, N objects of a clip, A attributes, V values, C channels, h w at stride
4.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from referformer.registry import MODELS, build
from referformer.structures import RVOSDataSample
from referformer.structures.targets import sample_masks


@MODELS.register_module()
class BackbonePretraining(BaseModel):
    """Every pixel is told from background, and every pixel of an object which colour, shape, motion
    ... the object has.

    Stands in for the pre-training on images and Kinetics that the paper's backbones have had, where
    there is nothing to download. A later model takes the backbone by
    ``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.')``.

    Args:
        backbone: That of the later model, or its config; with ``out_channels`` and
            ``takes_clips``.
        attributes: Names of A attributes, each with its values, as in ``ObjectAttributes``.
        channels: C of the head, which adds all maps at stride 4.
        data_preprocessor: Usually ``ClipPreprocessor``.

    Raises:
        ValueError: Attributes are missing or have the name of another loss; the backbone takes
            single frames.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        attributes: Mapping[str, Sequence[str]],
        channels: int = 64,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        reserved = [name for name in attributes if name == 'object' or 'loss' in name]
        if not attributes or reserved:
            raise ValueError(
                'attributes must be at least one, none of them named "object" or with "loss" in '
                f'its name, not {list(attributes)}'
            )
        self.backbone = build(backbone)
        if not getattr(self.backbone, 'takes_clips', False):
            raise ValueError(
                f'{type(self.backbone).__name__} takes single frames: pre-training needs a '
                'backbone that takes clips, such as VideoSwin'
            )
        self.num_values = {name: len(values) for name, values in attributes.items()}
        self.laterals = nn.ModuleList(
            nn.Conv2d(width, channels, 1) for width in self.backbone.out_channels
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1 + sum(self.num_values.values()), 1),
        )

    def forward(
        self, inputs: Tensor, data_samples: list[RVOSDataSample], mode: str = 'tensor'
    ) -> dict[str, Tensor] | Tensor:
        """MMEngine's entry.

        Args:
            inputs: Clips (B, T, 3, H, W).
            data_samples: With ``gt_instances`` of all objects: ``masks`` (N, T, H, W) and
                ``labels`` (N, A).
            mode: 'loss' (see :meth:`loss`) or 'tensor' (logits (B*T, 1 + V of all attributes, h,
                w)).
        """
        if mode == 'tensor':
            return self.predict_pixels(inputs)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise ValueError(f"mode must be 'loss' or 'tensor', not {mode!r}")

    def predict_pixels(self, inputs: Tensor) -> Tensor:
        """(B, T, 3, H, W) -> logits (B*T, 1 + V of all attributes, h, w)."""
        maps = self.backbone(inputs)
        size = maps[0].shape[-2:]
        return self.head(
            sum(
                F.interpolate(lateral(x), size, mode='bilinear', align_corners=False)
                for lateral, x in zip(self.laterals, maps)
            )
        )

    def loss(self, inputs: Tensor, data_samples: list[RVOSDataSample]) -> dict[str, Tensor]:
        """Cross-entropy of each attribute over the pixels of objects, of objects against
        background over all, and the share of pixels that are right."""
        logits = self.predict_pixels(inputs)
        truth = torch.cat([_label_map(sample, inputs.shape[-2:]) for sample in data_samples])
        inside = truth[:, 0] >= 0
        is_object = logits[:, 0] > 0
        results = {
            'loss_object': F.binary_cross_entropy_with_logits(logits[:, 0], inside.float()),
            'right_object': (is_object == inside).float().mean(),
        }
        parts = logits[:, 1:].split(list(self.num_values.values()), 1)
        for name, part, labels in zip(self.num_values, parts, truth.unbind(1)):
            scores = part.permute(0, 2, 3, 1)[inside]
            labels = labels[inside]
            # A sum over nothing is 0, its mean is not a number.
            total = F.cross_entropy(scores, labels, reduction='sum')
            results[f'loss_{name}'] = total / max(len(labels), 1)
            results[f'right_{name}'] = (scores.argmax(-1) == labels).sum() / max(len(labels), 1)
        return results


def _label_map(sample: RVOSDataSample, size: tuple[int, int]) -> Tensor:
    """The label of each pixel at stride 4, (T, A, h, w); -1 on the background."""
    values_of = sample.gt_instances.labels
    masks = sample_masks(sample, size, 4)
    labels = values_of.new_full((masks.shape[1], values_of.shape[1], *masks.shape[2:]), -1)
    for mask, values in zip(masks, values_of):
        labels = torch.where(mask[:, None], values[:, None, None], labels)
    return labels
