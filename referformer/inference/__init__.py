from .clips import ClipInferencer, check_sizes, check_texts, segment_video
from .modes import DEFAULT_WINDOW, MODES, Mode, choose_mode
from .prediction import ClipPrediction, VideoPrediction
from .writer import ResultWriter, check_output

__all__ = [
    'DEFAULT_WINDOW',
    'MODES',
    'ClipInferencer',
    'ClipPrediction',
    'Mode',
    'ResultWriter',
    'VideoPrediction',
    'check_output',
    'check_sizes',
    'check_texts',
    'choose_mode',
    'segment_video',
]
