from .efficientnet_lite import EfficientNetLite
from .resnet import build_resnet
from .swin import Swin, VideoSwin
from .transformers_backbone import TransformersBackbone

__all__ = ['EfficientNetLite', 'Swin', 'TransformersBackbone', 'VideoSwin', 'build_resnet']
