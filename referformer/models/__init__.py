"""The parts of ReferFormer, each in a file of its name."""

from .backbone_pretraining import BackbonePretraining
from .backbones import EfficientNetLite, Swin, TransformersBackbone, VideoSwin
from .criterion import ReferFormerCriterion
from .cross_modal_fpn import CrossModalFPN
from .data_preprocessor import ClipPreprocessor
from .deformable_transformer import DeformableTransformer
from .dynamic_mask_head import DynamicMaskHead
from .losses import BoxGIoULoss, BoxL1Loss, DiceLoss, FocalLoss
from .matcher import SequenceMatcher
from .ms_deform_attn import MSDeformAttn
from .projection import VisualProjection
from .referformer import ReferFormer
from .text_encoder import RobertaTextEncoder, TransformersTextEncoder
from .vision_language import VisionLanguageFusion

__all__ = [
    'BackbonePretraining',
    'BoxGIoULoss',
    'BoxL1Loss',
    'ClipPreprocessor',
    'CrossModalFPN',
    'DeformableTransformer',
    'DiceLoss',
    'DynamicMaskHead',
    'EfficientNetLite',
    'FocalLoss',
    'MSDeformAttn',
    'ReferFormer',
    'ReferFormerCriterion',
    'RobertaTextEncoder',
    'SequenceMatcher',
    'Swin',
    'TransformersBackbone',
    'TransformersTextEncoder',
    'VideoSwin',
    'VisionLanguageFusion',
    'VisualProjection',
]
