"""A model without a network that finds coloured objects, for the tests of what is around it."""

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import nn

from referformer.registry import MODELS

COLOURS = ('red', 'green', 'blue')


@MODELS.register_module()
class ColourSegmenter(BaseModel):
    """Segments the pixels whose channel of the colour in the sentence is the only bright one.

    Keeps the contract of ``ReferFormer.predict``: k = 2 queries, of which the second is right. It
    is sure that the object is in a frame where it finds pixels.
    """

    def __init__(self, width: int = 3):
        super().__init__({'type': 'ClipPreprocessor', 'mean': (0, 0, 0), 'std': (1, 1, 1)})
        self.scale = nn.Parameter(torch.ones(width))
        self.clip_lengths = []

    def forward(self, inputs, data_samples, mode='predict'):
        self.clip_lengths.append((inputs.shape[1], len(data_samples)))
        for i, sample in enumerate(data_samples):
            clip = inputs[min(i, len(inputs) - 1)] * self.scale[0]  # (T, 3, h, w)
            colour = next(c for c, name in enumerate(COLOURS) if name in sample.text)
            others = clip[:, [c for c in range(3) if c != colour]].amax(1)
            masks = (clip[:, colour] > 0.6) & (others < 0.4)
            masks = nn.functional.interpolate(masks[None].float(), sample.ori_shape)[0].bool()
            boxes = torch.stack([_box(mask) for mask in masks])
            points = (boxes[:, :2] + boxes[:, 2:]) / 2
            score = masks.float().mean().sqrt()
            sample.pred_instances = InstanceData(
                scores=torch.stack([score * 0 - 1, score]),
                masks=torch.stack([~masks, masks]),
                boxes=torch.stack([boxes * 0, boxes]),
                frame_scores=torch.stack(
                    [masks.any(-1).any(-1) * 0.0, masks.any(-1).any(-1) * 1.0]
                ),
                reference_points=torch.stack([points * 0, points]),
            )
        return data_samples


def _box(mask):
    ys, xs = mask.nonzero(as_tuple=True)
    if not len(ys):
        return torch.zeros(4)
    return torch.stack([xs.min(), ys.min(), xs.max(), ys.max()]).float()


CONFIG = """
default_scope = 'referformer'
custom_imports = dict(imports=['stub_segmenter'])
model = dict(type='ColourSegmenter')
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='SampleFrames', num_frames=None),
            dict(type='LoadFrames'),
            dict(type='LoadMasks', with_control=True),
            dict(type='Resize', shorter=48, resize_masks=False),
            dict(type='PackClip'),
        ]
    )
)
"""


def colour_video(num_frames, size=(48, 64)):
    """A red square that moves to the right and a blue bar, (T, H, W, 3), and the square's masks."""
    H, W = size
    frames = np.full((num_frames, H, W, 3), 90, np.uint8)
    masks = np.zeros((num_frames, H, W), bool)
    for t in range(num_frames):
        left = 4 + 2 * t % (W - 24)
        masks[t, 8:24, left : left + 16] = True
        frames[t, 32:40] = (0, 0, 255)
    frames[masks] = (255, 0, 0)
    return frames, masks
