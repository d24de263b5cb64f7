from .geometry import FilterVisible, RandomChoice, RandomCrop, RandomFlip, RandomResize, Resize
from .instances import LoadInstances, Stretch, WriteSentence
from .loading import LoadFrames, LoadMasks
from .loading_annotations import LoadH5Masks, LoadMatMasks, LoadVideoFrames
from .loading_coco import LoadCocoMask
from .moving_clip import MovingClip
from .object_masks import LoadObjectMasks
from .packing import PackClip
from .photometric import PhotometricDistort
from .pseudo_clip import PseudoClip
from .rle import LoadRLEMasks
from .sampling import SampleFrames

__all__ = [
    'FilterVisible',
    'LoadCocoMask',
    'LoadFrames',
    'LoadH5Masks',
    'LoadInstances',
    'LoadMasks',
    'LoadMatMasks',
    'LoadObjectMasks',
    'LoadRLEMasks',
    'LoadVideoFrames',
    'MovingClip',
    'PackClip',
    'PhotometricDistort',
    'PseudoClip',
    'RandomChoice',
    'RandomCrop',
    'RandomFlip',
    'RandomResize',
    'Resize',
    'SampleFrames',
    'Stretch',
    'WriteSentence',
]
