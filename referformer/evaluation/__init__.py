from .measures.region_boundary import (
    Boundary,
    boundary_map,
    boundary_measure,
    boundary_radius,
    boundary_score,
    find_boundary,
    region_similarity,
    statistics,
)
from .metrics.found_metric import FoundMetric
from .metrics.ref_davis_metric import RefDAVISMetric
from .metrics.referring_metric import FrameScore, ReferringMetric
from .metrics.submission import SubmissionMetric
from .metrics.vos_metric import ExpressionScore, VOSMetric

__all__ = [
    'Boundary',
    'ExpressionScore',
    'FoundMetric',
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
