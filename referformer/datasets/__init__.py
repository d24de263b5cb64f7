from . import transforms
from .a2d_sentences import A2DSentences
from .base import RVOSDataset
from .jhmdb_sentences import JHMDBSentences
from .mevis import MeViS
from .ref_coco import RefCOCO
from .ref_davis import RefDAVIS
from .ref_youtube_vos import RefYouTubeVOS

__all__ = [
    'A2DSentences',
    'JHMDBSentences',
    'MeViS',
    'RVOSDataset',
    'RefCOCO',
    'RefDAVIS',
    'RefYouTubeVOS',
    'transforms',
]
