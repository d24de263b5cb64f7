from .swin import Swin, VideoSwin

__all__ = ['Swin', 'VideoSwin']
