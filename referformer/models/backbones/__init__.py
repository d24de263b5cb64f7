from .resnet import build_resnet
from .swin import Swin, VideoSwin

__all__ = ['Swin', 'VideoSwin', 'build_resnet']
