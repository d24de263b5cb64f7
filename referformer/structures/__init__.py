from .boxes import box_area, box_iou, cxcywh_to_xyxy, generalized_box_iou, xyxy_to_cxcywh
from .data_sample import (
    ABSENT,
    Predictions,
    RVOSDataSample,
    TextFeatures,
    control_of,
    is_absent,
    padding_mask,
)

__all__ = [
    'ABSENT',
    'Predictions',
    'RVOSDataSample',
    'TextFeatures',
    'box_area',
    'box_iou',
    'control_of',
    'cxcywh_to_xyxy',
    'generalized_box_iou',
    'is_absent',
    'padding_mask',
    'xyxy_to_cxcywh',
]
