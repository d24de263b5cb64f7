"""Masks from COCO annotations: polygons or run lengths."""

import numpy as np

from referformer.registry import TRANSFORMS
from referformer.structures.run_lengths import decode_mask


@TRANSFORMS.register_module()
class LoadCocoMask:
    """Draw the mask of the referred object in an image.

    Adds ``masks (1, 1, H0, W0)`` bool, ``boxes (1, 1, 4)`` float32 xyxy px and ``valid (1, 1)``
    bool. The box is the annotated one, cut to the image, as in the reference: its right and bottom
    are not those of the last pixel of the mask, as they are elsewhere.

    The item's ``annotation`` holds ``size`` (height, width), ``bbox`` (x, y, width, height) and
    ``segmentation``, see :func:`structures.run_lengths.as_run_lengths`.

    Raises:
        ValueError: The image has another size than the annotation says, or the mask is malformed.
    """

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``."""
        annotation = results['annotation']
        height, width = annotation['size']
        image = f'{results["img_dir"]}/{results["frame_names"][0]}{results["img_suffix"]}'
        if tuple(results['ori_shape']) != (height, width):
            raise ValueError(
                f'{image} has height and width {tuple(results["ori_shape"])}, but the annotation '
                f'file says {(height, width)}. Get the image again: it is not the one that was '
                'annotated.'
            )
        x, y, box_width, box_height = annotation['bbox']
        corners = np.float32([x, y, x + box_width, y + box_height])
        box = np.clip(corners, 0, np.float32([width, height, width, height]))
        try:
            mask = decode_mask(annotation['segmentation'], (height, width))
        except ValueError as error:
            raise ValueError(f'the mask of {image} in the annotation file: {error}') from None
        results['masks'] = mask[None, None]
        results['boxes'] = box[None, None]
        results['valid'] = (box[2:] > box[:2]).all()[None, None]
        return results
