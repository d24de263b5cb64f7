"""From pictures with masks of all their things to one sentence and the mask of what it means."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from referformer.registry import TRANSFORMS
from referformer.structures.run_lengths import decode_mask

from ..scene import describe
from ..scene_sentences import Sentence, draw_sentence
from .geometry import resize_clip, resize_frames, resize_nearest
from .loading import boxes_of_masks, read_rgb

# Shape of two pictures side by side or one above the other that a stretch may still have to undo.
_MAX_ASPECT = 1.6


@TRANSFORMS.register_module()
class LoadInstances:
    """Read a picture and the masks of all its things, or two pictures that become one.

    Takes ``pictures`` of the item (see ``InstanceSentences``). Two are joined along their longer
    sides, where that gives a picture that is not too long; else the second one is left out.
    Adds ``imgs (1, H0, W0, 3)``, ``ori_shape``, ``img_shape``, ``masks (N, 1, H0, W0)``, ``boxes``
    and ``valid`` of the N things, their ``categories`` and ``groups``, and ``complete``, the
    categories of which every thing has a mask.

    Raises:
        FileNotFoundError: Naming a picture that is not there.
        ValueError: Naming a picture that cannot be decoded or has another size than its masks.
    """

    def __call__(self, results: dict) -> dict:
        """Add the picture and its things."""
        pictures = results['pictures'][: 1 + _fit(results['pictures'])]
        image, masks = _read(results['img_dir'], pictures[0])
        if len(pictures) == 2:
            image, masks = _join(image, masks, *_read(results['img_dir'], pictures[1]))
        complete = [set(picture['complete']) for picture in pictures]
        results.update(
            imgs=image[None],
            ori_shape=image.shape[:2],
            img_shape=image.shape[:2],
            masks=masks[:, None],
            categories=[name for picture in pictures for name in picture['categories']],
            groups=[group for picture in pictures for group in picture['groups']],
            complete=set.intersection(*complete),
            frame_inds=np.zeros(1, int),
            key_frames=np.zeros(1, int),
        )
        results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
        return results


@TRANSFORMS.register_module()
class Stretch:
    """Resize to one size, whatever the shape: batches of pictures without padding.

    Args:
        height: Px.
        width: Px.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def __call__(self, results: dict) -> dict:
        """Resize."""
        resize_clip(results, self.height, self.width, exact=False)
        return results


@TRANSFORMS.register_module()
class WriteSentence:
    """Draw a sentence about the things of a picture, and keep the masks it means: their union.

    The sentence is about what is there now: crops and flips come before, changed colours after.
    An item that has its ``sentence`` already (testing) gets that. Sets ``text``, ``kind``,
    ``masks (1, 1, H, W)``, ``boxes``, ``valid``; ``control_masks`` where the sentence tells things
    of one category apart. A picture about which nothing can be said is dropped.

    Args:
        absent: Share of sentences about what is not there.
        kinds: Of sentences; by default all.
    """

    def __init__(self, absent: float = 0.15, kinds: Sequence[str] | None = None) -> None:
        if not 0 <= absent <= 1:
            raise ValueError(f'absent is a share, from 0 to 1, not {absent}')
        self.absent = absent
        self.kinds = kinds

    def __call__(self, results: dict) -> dict | None:
        """Write."""
        masks = results['masks'][:, 0]
        sentence, kept = results.get('sentence'), list(range(len(masks)))
        if sentence is None:
            scene, kept = describe(
                results['imgs'][0],
                masks,
                results['categories'],
                results['groups'],
                results['complete'],
            )
            sentence = draw_sentence(scene, self.absent, np.random.mtrand._rand, self.kinds)
        if sentence is None:
            return None
        _apply(results, sentence, masks, kept)
        return results


def _apply(results: dict, sentence: Sentence, masks: np.ndarray, kept: list[int]) -> None:
    def union(things: Sequence[int]) -> np.ndarray:
        return masks[[kept[i] for i in things]].any(0)[None, None]

    results['text'], results['kind'] = sentence.text, sentence.kind
    results['obj_id'], results['label'] = None, 0
    results['masks'] = union(sentence.things)
    results['boxes'], results['valid'] = boxes_of_masks(results['masks'])
    if sentence.control:
        results['control_masks'] = union(sentence.control)


def _read(img_dir: str, picture: dict) -> tuple[np.ndarray, np.ndarray]:
    """Image and masks (N, H, W)."""
    path = Path(img_dir, picture['file'])
    image = read_rgb(path)
    height, width = picture['size']
    if image.shape[:2] != (height, width):
        raise ValueError(
            f'{path} has height and width {image.shape[:2]}, but its masks have {(height, width)}. '
            'Get the picture again: it is not the one that was annotated.'
        )
    try:
        masks = [decode_mask(code, (height, width)) for code in picture['segmentations']]
    except ValueError as error:
        raise ValueError(f'a mask of {path} in the annotation file: {error}') from None
    return image, np.stack(masks) if masks else np.zeros((0, height, width), bool)


def _fit(pictures: Sequence[dict]) -> bool:
    """Whether there are two pictures of which one of a bearable shape can be made."""
    if len(pictures) < 2:
        return False
    (h1, w1), (h2, w2) = (picture['size'] for picture in pictures)
    wide = (w1 > h1, w2 > h2)
    if wide[0] != wide[1]:
        return False
    aspect = h1 / w1 + h2 / w2 if wide[0] else w1 / h1 + w2 / h2
    return aspect <= _MAX_ASPECT


def _join(
    image: np.ndarray, masks: np.ndarray, other: np.ndarray, other_masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One picture of two: wide ones one above the other, high ones side by side."""
    height, width = image.shape[:2]
    axis = 0 if width > height else 1
    h, w = other.shape[:2]
    size = (round(h * width / w), width) if axis == 0 else (height, round(w * height / h))
    other = resize_frames(other[None], *size, exact=False)[0]
    other_masks = resize_nearest(other_masks, *size)
    joined = np.concatenate([image, other], axis)
    both = np.zeros((len(masks) + len(other_masks), *joined.shape[:2]), bool)
    both[: len(masks), :height, :width] = masks
    both[len(masks) :, -size[0] :, -size[1] :] = other_masks
    return joined, both
