from .geometry import FilterVisible, RandomChoice, RandomCrop, RandomFlip, RandomResize, Resize
from .loading import LoadFrames, LoadMasks
from .packing import PackClip
from .photometric import PhotometricDistort
from .sampling import SampleFrames

__all__ = [
    'FilterVisible',
    'LoadFrames',
    'LoadMasks',
    'PackClip',
    'PhotometricDistort',
    'RandomChoice',
    'RandomCrop',
    'RandomFlip',
    'RandomResize',
    'Resize',
    'SampleFrames',
]
