from . import transforms
from .base import RVOSDataset
from .ref_youtube_vos import RefYouTubeVOS

__all__ = ['RVOSDataset', 'RefYouTubeVOS', 'transforms']
