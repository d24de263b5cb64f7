"""Masks from COCO annotations: polygons or run lengths."""

from typing import Any

import numpy as np

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadCocoMask:
    """Draw the mask of the referred object in an image.

    Adds ``masks (1, 1, H0, W0)`` bool, ``boxes (1, 1, 4)`` float32 xyxy px and ``valid (1, 1)``
    bool. The box is the annotated one, cut to the image, as in the reference: its right and bottom
    are not those of the last pixel of the mask, as they are elsewhere.

    The item's ``annotation`` holds ``size`` (height, width), ``bbox`` (x, y, width, height) and
    ``segmentation``, see :func:`draw_segmentation`.

    Raises:
        ValueError: The image has another size than the annotation says.
    """

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``."""
        annotation = results['annotation']
        height, width = annotation['size']
        if tuple(results['ori_shape']) != (height, width):
            raise ValueError(
                f'{results["img_dir"]}/{results["frame_names"][0]}{results["img_suffix"]} has '
                f'height and width {tuple(results["ori_shape"])}, but the annotation file says '
                f'{(height, width)}. Get the image again: it is not the one that was annotated.'
            )
        x, y, box_width, box_height = annotation['bbox']
        corners = np.float32([x, y, x + box_width, y + box_height])
        box = np.clip(corners, 0, np.float32([width, height, width, height]))
        results['masks'] = draw_segmentation(annotation['segmentation'], height, width)[None, None]
        results['boxes'] = box[None, None]
        results['valid'] = (box[2:] > box[:2]).all()[None, None]
        return results


def draw_segmentation(segmentation: list | dict[str, Any], height: int, width: int) -> np.ndarray:
    """Mask of an object, bool (H, W).

    Args:
        segmentation: Polygons, each a flat list x, y, x, y, ... in px, of which the union counts;
            or COCO run lengths, compressed (``counts`` a string) or not (a list).
        height: H.
        width: W.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], (str, bytes)):
        runs = segmentation
    else:
        runs = coco_mask.frPyObjects(segmentation, height, width)
    if isinstance(runs, list):
        runs = coco_mask.merge(runs)
    return coco_mask.decode(runs).astype(bool)
