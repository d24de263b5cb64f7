"""What happens to the model's masks afterwards: a key frame is chosen, and its mask propagated."""

from .flow import FlowPropagator
from .propagator import Propagator

__all__ = ['FlowPropagator', 'Propagator']
