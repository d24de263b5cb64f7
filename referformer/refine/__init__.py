"""What happens to the model's masks afterwards: a key frame is chosen, and its mask propagated."""

from .flow import FlowPropagator
from .key_frame import KeyFrames
from .propagator import Propagator
from .refiner import Refiner
from .sam2 import Sam2Propagator
from .samples import refine_samples, refine_video

__all__ = [
    'FlowPropagator',
    'KeyFrames',
    'Propagator',
    'Refiner',
    'Sam2Propagator',
    'refine_samples',
    'refine_video',
]
