"""The model as two graphs to export, with deformable attention of standard operators.

Letters: T frames, L words, H W size of the input.
"""

from copy import deepcopy

from torch import Tensor, nn

from referformer.structures import cxcywh_to_xyxy

from .ms_deform_attn import MSDeformAttn
from .position_encoding import sine_encoding_2d
from .postprocess import choose_queries
from .referformer import VisualFeatures


class ImageGraph(nn.Module):
    """Frames to all that does not depend on the sentence; for clips of one size without padding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = for_export(model)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """RGB in [0, 255], (T, 3, H, W) -> the map of stride 4 and those of strides 8 to 64."""
        model, prepare = self.model, self.model.data_preprocessor
        x = (frames / 255 - prepare.mean) / prepare.std
        takes_clips = getattr(model.backbone, 'takes_clips', False)
        maps = model.backbone(x[None] if takes_clips else x)
        return tuple(model._enter(*maps))


class SentenceGraph(nn.Module):
    """Maps of a clip and the tokens of one sentence to its object: the best query of the clip."""

    def __init__(self, model: nn.Module, shape: tuple[int, int]) -> None:
        super().__init__()
        self.model = for_export(model)
        self.shape = shape

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *maps: Tensor
    ) -> tuple[Tensor, ...]:
        """Find the object.

        Args:
            input_ids: (1, L), padded.
            attention_mask: (1, L), 1 = token, 0 = padding.
            maps: What ``ImageGraph`` gives.

        Returns:
            Score (1,); scores of the frames (T,); boxes xyxy in [0, 1], (T, 4); mask logits at
            stride 4, (T, h, w).
        """
        model = self.model
        grids = [tuple(x.shape[-2:]) for x in maps]
        width = model.transformer.embed_dim
        positions = [sine_encoding_2d(grid, width, maps[0].device) for grid in grids]
        sizes = maps[0].new_tensor([self.shape[::-1]])
        visual = VisualFeatures(maps[0], list(maps[1:]), positions, None, sizes)
        found = model.find(visual, model.text_encoder.encode(input_ids, attention_mask))
        score, keep, frame_scores = choose_queries(found.logits[-1], 'best')
        found = found.keep_queries(keep)
        points = found.references[-1:] * sizes[:, None, None]
        masks = model.mask_head(found.features, found.hs[-1:], points)
        boxes = cxcywh_to_xyxy(found.boxes[-1])
        return score[0], frame_scores[0, 0], boxes[0, :, 0], masks[0, 0, :, 0]


def for_export(model: nn.Module) -> nn.Module:
    """A copy whose deformable attention is of standard operators."""
    model = deepcopy(model).eval().requires_grad_(False)
    for attention in (m for m in model.modules() if isinstance(m, MSDeformAttn)):
        attention.backend = 'torch'
    return model
