"""Masks in COCO's run-length code, one big JSON file of them for a whole split (MeViS)."""

import json
import mmap
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from referformer.registry import TRANSFORMS
from referformer.structures.run_lengths import decode_mask

from .loading import boxes_of_masks

# Matches keys only: run-length codes have no quotation mark in them, their letters end at o.
_KEY = re.compile(rb'"(\d{1,18})"\s*:\s*\[')


@TRANSFORMS.register_module()
class LoadRLEMasks:
    """Decode the masks of all objects of an expression on the annotated frames: their union
    (MeViS, ReVOS).

    Takes ``rle_file`` and ``rle_spans`` of the item, see ``MeViS``. Adds what ``LoadMasks`` adds,
    N = 1: ``masks``, ``boxes`` and ``valid``. Items without ground truth (``rle_spans`` None) pass
    as they are. Those with ``foreground_spans`` (see ``ReVOS``) also get ``foreground (1, T', H0,
    W0)``, the union of all objects of the video.

    Raises:
        ValueError: Naming the file and the object, where masks are malformed, have another size
            than the frames, or are not one for each frame.
    """

    def __call__(self, results: dict) -> dict:
        """Add ``masks``, ``boxes`` and ``valid``, where there is ground truth."""
        if results['rle_spans'] is None:
            return results
        results['masks'] = _union(results, zip(results['obj_id'], results['rle_spans']))
        results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
        if 'foreground_spans' in results:
            results['foreground'] = _union(results, results['foreground_spans'].items())
        return results


def _union(results: dict, spans: Iterable[tuple[int, tuple[int, int]]]) -> np.ndarray:
    """Masks of these objects on the annotated frames, (1, T', H0, W0)."""
    inds = results['frame_inds'][results['key_frames']]
    masks = np.zeros((len(inds), *results['ori_shape']), bool)
    for anno_id, span in spans:
        where = f'{results["rle_file"]}: object {anno_id} of video {results["video_id"]}'
        _add_object(masks, _read(results, span, where), inds, where)
    return masks[None]


def _read(results: dict, span: tuple[int, int], where: str) -> list[dict | None]:
    frames = read_masks(results['rle_file'], span)
    if len(frames) != len(results['frame_names']):
        raise ValueError(
            f'{where} has masks for {len(frames)} frames, but the video has '
            f'{len(results["frame_names"])}. Get the mask and the expression file of one version.'
        )
    return frames


def _add_object(masks: np.ndarray, frames: list[dict | None], inds: np.ndarray, where: str) -> None:
    """Add the masks of one object to the union, (T', H, W)."""
    for mask, t in zip(masks, inds):
        code = frames[t]
        if code is None:
            continue
        try:
            mask |= decode_mask(code, mask.shape)
        except ValueError as error:
            raise ValueError(f'{where} has no valid mask on frame {t}: {error}') from None


def find_masks(path: str | Path) -> dict[int, tuple[int, int]]:
    """Where the masks of each object stand in a ``mask_dict.json``: (first, last + 1) byte.

    The file is searched for its keys, not parsed: that takes a fraction of the time, and no memory.

    Raises:
        ValueError: The file has no masks, or ends early.
    """
    with open(path, 'rb') as file:
        if Path(path).stat().st_size == 0:
            raise ValueError(f'{path} is empty. Get it again.')
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            keys = [(int(m[1]), m.start(), m.end() - 1) for m in _KEY.finditer(content)]
            end = content.rfind(b'}')
            complete = not content[max(end, 0) + 1 :].strip()
    if not keys or end < keys[-1][2] or not complete:
        raise ValueError(
            f'{path} is not a complete file of masks, {{<anno_id>: [...], ...}}: it may have been '
            'copied in part. Get it again.'
        )
    starts = [start for _, start, _ in keys[1:]] + [end]
    spans = {anno_id: (first, last) for (anno_id, _, first), last in zip(keys, starts)}
    read_masks(path, spans[keys[-1][0]])  # a file that is cut off ends in the middle of a mask
    return spans


def read_masks(path: str | Path, span: tuple[int, int]) -> list[dict | None]:
    """The masks of one object: COCO run lengths for each frame, None where it is absent.

    Args:
        path: ``mask_dict.json``.
        span: From ``find_masks``.

    Raises:
        ValueError: This part of the file is broken.
    """
    first, last = span
    with open(path, 'rb') as file:
        file.seek(first)
        content = file.read(last - first)
    try:
        return json.loads(content.rstrip().removesuffix(b','))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{path} is not valid JSON between the bytes {first} and {last}: {error}. Get it again.'
        ) from error
