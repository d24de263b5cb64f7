"""A result as JSON of YouTube-VIS's form, which also brings it back.

The form is that of YouTube-VIS's annotation files with one video; every sentence is a category with
one annotation. Beside it stands what is ours: of the video ``fps``, ``source``, ``clip_starts``,
``remarks``; of an annotation ``score`` (mean over the frames), ``scores`` (of the
clips), ``frame_scores``, ``predicted_boxes`` (xyxy), ``reference_points``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from ..errors import well_formed
from ..files import read_json
from ..structures.run_lengths import as_run_lengths
from ..video_io import VideoReader

if TYPE_CHECKING:
    from .prediction import VideoPrediction

NAME = 'predictions.json'  # in an output folder
_OF_FRAMES = ('segmentations', 'predicted_boxes', 'reference_points', 'frame_scores')


def to_coco(result: 'VideoPrediction') -> dict[str, Any]:
    """The result as a dict for JSON; boxes xywh and areas are those of the masks, None without."""
    H, W = result.size
    source = result.source.name if isinstance(result.source, VideoReader) else result.source
    video = {
        'id': 1,
        'file_names': result.frame_names,
        'length': len(result),
        'height': H,
        'width': W,
        'fps': result.fps,
        'source': source if isinstance(source, str) else None,
        'clip_starts': result.starts,
        'remarks': result.remarks,
    }
    lengths = np.diff([*result.starts, len(result)])
    annotations = []
    for i, (found, masks) in enumerate(zip(result, result.to_rle())):
        areas = found.areas.tolist()
        points = found.reference_points
        annotations.append(
            {
                'id': i + 1,
                'video_id': 1,
                'category_id': i + 1,
                'iscrowd': 0,
                'segmentations': [mask if area else None for mask, area in zip(masks, areas)],
                'bboxes': [
                    box if area else None
                    for box, area in zip(coco_mask.toBbox(found.rles).tolist(), areas)
                ],
                'areas': [area or None for area in areas],
                'score': _rounded(np.average(found.scores, weights=lengths), 4),
                'scores': _rounded(found.scores, 4),
                'frame_scores': _rounded(found.frame_scores, 4),
                'predicted_boxes': _rounded(found.boxes, 2),
                'reference_points': [
                    None if np.isnan(point).any() else _rounded(point, 2) for point in points
                ],
            }
        )
    categories = [{'id': i + 1, 'name': text} for i, text in enumerate(result.texts)]
    return {'videos': [video], 'categories': categories, 'annotations': annotations}


def read_coco(path: Path) -> tuple[tuple, list[str], list[str], list[tuple]]:
    """What ``to_coco`` put into a file, or into an output folder.

    Returns:
        Texts, frames per second, size and source; names of the frames; remarks; and the fields of
        each clip's ``ClipPrediction``, without frames.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is damaged or not of this form.
    """
    file = path / NAME if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f'{file} not found: give a folder that infer wrote, or the .json of save().'
        )
    with well_formed(file, 'a result that save() or infer wrote'):
        content = read_json(file)
        (video,), annotations = content['videos'], content['annotations']
        names = {category['id']: category['name'] for category in content['categories']}
        texts = [names[annotation['category_id']] for annotation in annotations]
        size = (video['height'], video['width'])
        head = (texts, video['fps'], size, video['source'])
        clips = list(_clips(video, annotations, size))
        return head, video['file_names'], video['remarks'], clips


def _clips(
    video: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Iterator[tuple]:
    length, starts = video['length'], video['clip_starts']
    if not annotations:
        raise ValueError('it has no sentence')
    for a, field in product(annotations, _OF_FRAMES):
        if len(a[field]) != length:
            raise ValueError(f'{len(a[field])} {field} of {length} frames')
    empty = {'size': list(size), 'counts': [size[0] * size[1]]}
    rles = [[as_run_lengths(m or empty, size) for m in a['segmentations']] for a in annotations]
    boxes = np.array([a['predicted_boxes'] for a in annotations], float)
    missing = (np.nan, np.nan)
    points = np.array([[p or missing for p in a['reference_points']] for a in annotations], float)
    frame_scores = np.array([a['frame_scores'] for a in annotations], float)
    scores = np.array([a['scores'] for a in annotations], float)
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], length])):
        part = slice(start, end)
        masks = np.array([coco_mask.decode(m[part]).transpose(2, 0, 1) for m in rles], bool)
        marks = (boxes[:, part], points[:, part], frame_scores[:, part])
        yield (start, None, scores[:, number], masks, *marks)


def _rounded(values: np.ndarray, digits: int) -> Any:
    return np.asarray(values, float).round(digits).tolist()
