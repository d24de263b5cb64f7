from .functional import (
    Boundary,
    boundary_map,
    boundary_measure,
    boundary_radius,
    boundary_score,
    find_boundary,
    region_similarity,
    statistics,
)
from .ref_davis_metric import RefDAVISMetric
from .referring_metric import FrameScore, ReferringMetric
from .submission import SubmissionMetric
from .vos_metric import ExpressionScore, VOSMetric

__all__ = [
    'Boundary',
    'ExpressionScore',
    'FrameScore',
    'RefDAVISMetric',
    'ReferringMetric',
    'SubmissionMetric',
    'VOSMetric',
    'boundary_map',
    'boundary_measure',
    'boundary_radius',
    'boundary_score',
    'find_boundary',
    'region_similarity',
    'statistics',
]
