"""Masks of objects that each have a folder of files, on the frames that show them (Long-RVOS)."""

import os
from pathlib import Path

import numpy as np

from referformer.registry import TRANSFORMS

from .loading import boxes_of_masks, read_index_map


@TRANSFORMS.register_module()
class LoadObjectMasks:
    """Read the masks of the referred object on the annotated frames.

    They are ``<mask_dir>/<obj_id>/<frame>.png``, any value but 0 the object; a frame without a file
    does not show it. Adds what ``LoadMasks`` adds, N = 1. Items without ground truth (``mask_dir``
    None) pass as they are.

    Args:
        with_control: Add ``control_masks (1, T', H0, W0)``, those of ``control_obj_id``, where
            there is one.

    Raises:
        FileNotFoundError: Naming the folder of an object that is not there, or holds no mask of any
            frame of the video.
        ValueError: Naming a mask file that cannot be decoded, or differs in size from its frame.
    """

    def __init__(self, with_control: bool = False) -> None:
        self.with_control = with_control

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``, where there is ground truth."""
        if results['mask_dir'] is None:
            return results
        results['masks'] = _read_object(results, results['obj_id'])
        results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
        if self.with_control and results.get('control_obj_id') is not None:
            results['control_masks'] = _read_object(results, results['control_obj_id'])
        return results


def _read_object(results: dict, obj_id: int) -> np.ndarray:
    """Masks of one object on the annotated frames, bool (1, T', H0, W0)."""
    folder, suffix = Path(results['mask_dir'], str(obj_id)), results['mask_suffix']
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    files = [name + suffix for name in results['frame_names']]
    if not there.intersection(files):
        raise FileNotFoundError(
            f'{folder} holds no mask of any frame, but a sentence of the video is about this '
            'object. Extract the archive again.'
        )
    inds = results['frame_inds'][results['key_frames']]
    masks = np.zeros((1, len(inds), *results['ori_shape']), bool)
    for mask, index in zip(masks[0], inds):
        if files[index] in there:
            values = read_index_map(folder / files[index])
            if values.shape != mask.shape:
                raise ValueError(
                    f'{folder / files[index]} has height and width {values.shape}, but its frame '
                    f'in {results["img_dir"]} has {mask.shape}. Masks must have the size of their '
                    'frames.'
                )
            np.not_equal(values, 0, out=mask)
    return masks
