from .clips import DEFAULT_WINDOW, ClipInferencer, check_sizes, check_texts, segment_video
from .prediction import ClipPrediction, VideoPrediction
from .writer import ResultWriter, check_output

__all__ = [
    'DEFAULT_WINDOW',
    'ClipInferencer',
    'ClipPrediction',
    'ResultWriter',
    'VideoPrediction',
    'check_output',
    'check_sizes',
    'check_texts',
    'segment_video',
]
