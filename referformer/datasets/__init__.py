from . import transforms
from .a2d_sentences import A2DSentences
from .base import RVOSDataset
from .instances import InstanceSentences
from .jhmdb_sentences import JHMDBSentences
from .long_rvos import LongRVOS
from .mevis import MeViS
from .object_attributes import ObjectAttributes
from .ref_coco import RefCOCO
from .ref_davis import RefDAVIS
from .ref_youtube_vos import RefYouTubeVOS
from .revos import ReVOS

__all__ = [
    'A2DSentences',
    'InstanceSentences',
    'JHMDBSentences',
    'LongRVOS',
    'MeViS',
    'ObjectAttributes',
    'RVOSDataset',
    'ReVOS',
    'RefCOCO',
    'RefDAVIS',
    'RefYouTubeVOS',
    'transforms',
]
