"""A result for other tools: data frames, Supervision, and the annotation tools CVAT, Label Studio.

Letters: n sentences, H W size of the frames.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from ..files import atomic_write

if TYPE_CHECKING:
    from .prediction import VideoPrediction

_RUN_BITS = 16  # of a run's length in Label Studio's code


def to_dataframe(result: 'VideoPrediction') -> Any:
    """A pandas data frame with a line for every sentence and frame.

    Columns: ``sentence``, ``frame``, ``name``, ``seconds`` (NaN without a frame rate), ``score``
    (of the frame), ``area`` in pixels, and the box ``x1``, ``y1``, ``x2``, ``y2`` in pixels.

    Raises:
        ModuleNotFoundError: If pandas is not installed.
    """
    pandas = optional('pandas', 'to_dataframe()')
    frames = np.arange(len(result))
    parts = []
    for found in result:
        columns = {
            'sentence': found.text,
            'frame': frames,
            'name': result.frame_names,
            'seconds': frames / result.fps if result.fps else np.nan,
            'score': found.frame_scores,
            'area': found.areas,
        }
        columns |= dict(zip(('x1', 'y1', 'x2', 'y2'), found.boxes.T))
        parts.append(pandas.DataFrame(columns))
    return pandas.concat(parts, ignore_index=True)


def to_supervision(result: 'VideoPrediction') -> Iterator[Any]:
    """``supervision.Detections`` of every frame; of the sentences that have a mask in it.

    ``class_id`` is the number of the sentence, ``data['class_name']`` the sentence, ``xyxy`` the
    model's box, ``confidence`` the score of the frame.

    Raises:
        ModuleNotFoundError: If Supervision is not installed.
    """
    detections = optional('supervision', 'to_supervision()').Detections
    boxes, scores, texts = result.boxes, result.frame_scores, np.array(result.texts)

    def frame(t: int) -> Any:
        masks = np.array([result.mask(i, t) for i in range(len(texts))])
        found = np.flatnonzero(masks.any((1, 2)))
        return detections(
            xyxy=boxes[found, t].astype(np.float32).reshape(-1, 4),
            mask=masks[found],
            confidence=scores[found, t],
            class_id=found,
            data={'class_name': texts[found]},
        )

    return map(frame, range(len(result)))


def write_cvat(result: 'VideoPrediction', path: Path) -> None:
    """Write "CVAT for video 1.1", which a task imports whose labels are the sentences.

    CVAT tracks no masks: as in its own exports, each mask is a track of one frame that is
    ``outside`` in the next, with its run lengths row by row in its box, first those of background.
    """
    height, width = result.size
    root = ElementTree.Element('annotations')
    ElementTree.SubElement(root, 'version').text = '1.1'
    task = ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task')
    fields = {'name': str(path.stem), 'size': len(result), 'mode': 'interpolation'}
    fields |= {'start_frame': 0, 'stop_frame': len(result) - 1}
    for name, value in fields.items():
        ElementTree.SubElement(task, name).text = str(value)
    labels = ElementTree.SubElement(task, 'labels')
    for text in dict.fromkeys(result.texts):
        label = ElementTree.SubElement(labels, 'label')
        ElementTree.SubElement(label, 'name').text = text
        ElementTree.SubElement(label, 'type').text = 'mask'
    original = ElementTree.SubElement(task, 'original_size')
    ElementTree.SubElement(original, 'width').text = str(width)
    ElementTree.SubElement(original, 'height').text = str(height)
    for i, found in enumerate(result):
        for t in np.flatnonzero(found.areas):
            number = str(len(root) - 2)
            track = {'id': number, 'label': found.text, 'source': 'auto', 'group_id': str(i + 1)}
            track = ElementTree.SubElement(root, 'track', track)
            shape = _cvat_mask(result.mask(i, t))
            for frame in range(t, min(t + 2, len(result))):
                state = {'frame': str(frame), 'keyframe': '1', 'outside': str(int(frame > t))}
                ElementTree.SubElement(track, 'mask', {**state, **shape})
    ElementTree.indent(root)
    atomic_write(path, ElementTree.tostring(root, 'utf-8', xml_declaration=True))


def write_label_studio(result: 'VideoPrediction', folder: Path) -> None:
    """Write ``tasks.json``, a task for every frame with brush masks, and ``labels.xml``.

    Label Studio has no masks over time: its videos hold boxes. The frames are those in
    ``folder/frames``, served as its local files, the root being the folder above.
    """
    height, width = result.size
    scores, texts = result.frame_scores, list(dict.fromkeys(result.texts))
    images = f'/data/local-files/?d={folder.name}/frames'
    tasks = []
    for t, name in enumerate(result.frame_names):
        masks = {i: mask for i in range(len(scores)) if (mask := result.mask(i, t)).any()}
        regions = [
            {
                'id': f'{name}-{i}',
                'type': 'brushlabels',
                'from_name': 'sentence',
                'to_name': 'image',
                'original_width': width,
                'original_height': height,
                'image_rotation': 0,
                'score': round(float(scores[i, t]), 4),
                'value': {
                    'format': 'rle',
                    'rle': _brush_code(mask),
                    'brushlabels': [result.texts[i]],
                },
            }
            for i, mask in masks.items()
        ]
        prediction = {'model_version': 'ReferFormer', 'result': regions}
        tasks.append({'data': {'image': f'{images}/{name}.jpg'}, 'predictions': [prediction]})
    view = ElementTree.Element('View')
    ElementTree.SubElement(view, 'Image', name='image', value='$image')
    brush = ElementTree.SubElement(view, 'BrushLabels', name='sentence', toName='image')
    for text in texts:
        ElementTree.SubElement(brush, 'Label', value=text)
    ElementTree.indent(view)
    atomic_write(folder / 'labels.xml', ElementTree.tostring(view, 'utf-8'))
    atomic_write(folder / 'tasks.json', json.dumps(tasks, ensure_ascii=False).encode())


def optional(package: str, what: str) -> ModuleType:
    """A package that only ``what`` needs.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{what} needs {error.name}, which is not installed: pip install {error.name}'
        ) from None


def _cvat_mask(mask: np.ndarray) -> dict[str, str]:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = ys[0], xs[0]
    part = mask[top : ys[-1] + 1, left : xs[-1] + 1]
    box = {'left': left, 'top': top, 'width': part.shape[1], 'height': part.shape[0]}
    runs = ', '.join(map(str, _runs(part.ravel())))
    fields = {'occluded': 0, 'rle': runs, **box, 'z_order': 0}
    return {name: str(value) for name, value in fields.items()}


def _runs(bits: np.ndarray) -> np.ndarray:
    """Lengths of the runs, first of False, which may be 0."""
    changes = np.flatnonzero(np.diff(bits, prepend=False))
    return np.diff(changes, prepend=0, append=len(bits))


def _brush_code(mask: np.ndarray) -> list[int]:
    """Label Studio's bytes for the four channels of a mask of 0 and 255, row by row.

    The head: number of values in 32 bits, bits of a value less 1 in 5, and four sizes of lengths,
    less 1, in 4 each. A run: 1, which size in 2 bits, its length less 1, the value.
    """
    lengths = 4 * _runs(mask.ravel())
    values = np.arange(len(lengths)) % 2 * 255
    pieces = -(-lengths // 2**_RUN_BITS)  # a long run is several
    ends = np.cumsum(pieces) - 1
    values, left = np.repeat(values, pieces), np.full(pieces.sum(), 2**_RUN_BITS)
    left[ends[pieces > 0]] = ((lengths - 1) % 2**_RUN_BITS + 1)[pieces > 0]
    runs = (1 << 2 + _RUN_BITS | left - 1) << 8 | values
    bits = runs[:, None] >> np.arange(2 + _RUN_BITS + 8, -1, -1) & 1
    head = f'{4 * mask.size:032b}{7:05b}' + 4 * f'{_RUN_BITS - 1:04b}'
    head_bits = np.array(list(head), np.uint8)
    return np.packbits(np.concatenate([head_bits, bits.ravel().astype(np.uint8)])).tolist()
