"""Scores of COCO result files of A2D- and JHMDB-Sentences and RefCOCO/+/g, without a model.

The annotation is a COCO file with one image entry and one object for each expression, as published
with these benchmarks; the predictions are a COCO result list with the masks of all queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from referformer.files import read_json
from referformer.structures.run_lengths import as_run_lengths

from ..measures.referring import FrameMasks, best_query, box_hits, rle_iou, summarise_frames
from .mask_files import Problem, raise_problems

BOX_FORMATS = ('xyxy', 'xywh')
_WITHOUT = 'images without predictions'
_LARGEST = 1e300

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class AnnotatedImage:
    """One expression and its object in one image or frame."""

    image_id: int | str
    size: tuple[int, int]  # (H, W)
    target: dict  # RLE
    area: float | None
    box: Box | None  # xyxy, pixels
    group: str = ''  # name of the dataset, where a file has several
    text: str = ''
    file_name: str = ''


class Prediction(NamedTuple):
    """What one query found."""

    mask: dict  # RLE
    score: float
    box: Box | None  # xyxy, pixels


@dataclass(frozen=True)
class ImageScore:
    """Numbers of one image, as ``referring.FrameNumbers``."""

    image: AnnotatedImage
    iou: float  # of the best query's mask
    inter: int
    union: int
    masks: FrameMasks
    hits: tuple[bool, ...] = ()
    plain_hits: tuple[bool, ...] = ()

    @property
    def best(self) -> int | None:
        """Index of the best query, None where nothing was predicted."""
        return best_query(self.masks.scores) if self.masks.scores else None


def read_annotation(path: Path) -> list[AnnotatedImage]:
    """Read a COCO annotation file, images in the order of their ids.

    Args:
        path: ``images`` with ``id``, ``height`` and ``width`` (and ``dataset_name``, ``caption``,
            ``file_name`` where there are), ``annotations`` with ``image_id``, ``segmentation``
            (run lengths or polygons) and ``bbox`` (xywh).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Naming the first few images that cannot be used, and how many there are.
    """
    content = _read_json(path, dict, 'a COCO annotation file: images and annotations')
    images, annotations = content.get('images'), content.get('annotations')
    if not isinstance(images, list) or not isinstance(annotations, list) or not images:
        raise ValueError(f'{path} lacks images or annotations: it is no COCO annotation file.')
    objects: dict[Any, list[dict]] = {}
    for annotation in annotations:
        objects.setdefault(_id(annotation, 'image_id'), []).append(annotation)
    problems: list[Problem] = []
    found: dict[int | str, AnnotatedImage] = {}
    for i, entry in enumerate(images):
        image_id = _id(entry, 'id')
        if image_id is None or image_id in found:
            problems.append(Problem('images without an id of their own', f'entry {i}'))
            continue
        try:
            (annotation,) = objects.get(image_id, [])
            found[image_id] = _annotated_image(image_id, entry, annotation)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            kind = 'images without one annotated object of their size'
            problems.append(Problem(kind, str(image_id)))
    raise_problems(problems, str(path), 'Get the file again.')
    if len({type(image_id) for image_id in found}) > 1:
        raise ValueError(f'{path} has both numbers and strings as ids of images.')
    # COCO's evaluation looks at images in this order, which decides between equal scores.
    return [found[image_id] for image_id in sorted(found)]


def read_predictions(
    path: Path,
    images: Sequence[AnnotatedImage],
    box_format: str | None = 'xyxy',
    allow_missing: bool = False,
    progress: bool = True,
) -> tuple[dict[int | str, list[Prediction]], dict[str, int]]:
    """Read and check a COCO result file.

    Args:
        path: A list of ``image_id``, ``segmentation`` (run lengths of the size of the image),
            ``score`` and perhaps ``bbox``, where the first prediction has one all must have it.
        images: The annotation.
        box_format: 'xyxy', as the published evaluation has them, or 'xywh' as in COCO; None: boxes
            are left out.
        allow_missing: Images may lack predictions.
        progress: Show a bar.

    Returns:
        predictions: Of every image, in the order of the file.
        missing: How many images have none, by kind.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: One for everything that is wrong.
    """
    content = _read_json(path, list, 'a COCO result file: a list of predictions')
    if not content:
        raise ValueError(f'{path} is empty; it should hold the predictions of all images.')
    if box_format is not None and not (isinstance(content[0], dict) and 'bbox' in content[0]):
        box_format = None
    sizes = {image.image_id: image.size for image in images}
    predictions: dict[int | str, list[Prediction]] = {image_id: [] for image_id in sizes}
    mentioned, problems = set(), []
    for i, entry in enumerate(
        tqdm(content, 'checking', unit='prediction', disable=not progress, mininterval=0.5)
    ):
        image_id = _id(entry, 'image_id')
        if image_id not in sizes:
            kind = 'predictions for images that the annotation does not have'
            problems.append(Problem(kind, f'entry {i} (image_id {image_id!r})'))
            continue
        mentioned.add(image_id)
        found = _prediction(entry, sizes[image_id], box_format)
        if isinstance(found, Prediction):
            predictions[image_id].append(found)
        else:
            problems.append(Problem(found, f'entry {i} (image {image_id})'))
    missing = [Problem(_WITHOUT, str(image_id)) for image_id in sizes if image_id not in mentioned]
    if allow_missing:
        raise_problems(problems, str(path))
    else:
        advice = '--allow-missing scores missing ones as empty.' if missing else ''
        raise_problems(problems + missing, str(path), advice)
    return predictions, {_WITHOUT: len(missing)} if missing else {}


def score_images(
    images: Sequence[AnnotatedImage],
    predictions: Mapping[int | str, Sequence[Prediction]],
    progress: bool = True,
) -> list[ImageScore]:
    """Score every image, where nothing is predicted as an empty mask; boxes where there are any.

    Args:
        images: The annotation.
        predictions: Of every image, in the order of the queries.
        progress: Show a bar.

    Raises:
        ValueError: If boxes are predicted but some objects have none.
    """
    with_boxes = any(p.box is not None for found in predictions.values() for p in found)
    if with_boxes:
        without = [Problem('objects without bbox', str(i.image_id)) for i in images if not i.box]
        raise_problems(without, 'The annotation')
    bar = tqdm(images, 'scoring', unit='image', disable=not progress, mininterval=0.5)
    return [_score(image, predictions[image.image_id], with_boxes) for image in bar]


def summarise_images(scores: Sequence[ImageScore]) -> dict[str, dict[str, float]]:
    """The numbers in [0, 1] of all images, and of each dataset where there are several."""
    with_boxes = bool(scores[0].hits)
    groups: dict[str, list[ImageScore]] = {'all': list(scores)}
    names = sorted({score.image.group for score in scores})
    if len(names) > 1:
        groups |= {name: [s for s in scores if s.image.group == name] for name in names}
    return {name: summarise_frames(group, True, with_boxes) for name, group in groups.items()}


def _score(image: AnnotatedImage, found: Sequence[Prediction], with_boxes: bool) -> ImageScore:
    masks = FrameMasks(
        image.target,
        tuple(prediction.mask for prediction in found),
        tuple(prediction.score for prediction in found),
        target_area=image.area,
    )
    best = found[best_query(masks.scores)].mask if found else None
    overlap = rle_iou(best, image.target)
    hits: dict[str, tuple[bool, ...]] = {}
    if with_boxes:
        boxes = [prediction.box for prediction in found]
        hits = {
            name: box_hits(masks.scores, boxes, image.box, generalized=generalized)
            for name, generalized in (('hits', True), ('plain_hits', False))
        }
    return ImageScore(image, *overlap, masks, **hits)


def _annotated_image(image_id: int | str, entry: dict, annotation: dict) -> AnnotatedImage:
    size = int(entry['height']), int(entry['width'])
    area, box = annotation.get('area'), annotation.get('bbox')
    return AnnotatedImage(
        image_id,
        size,
        as_run_lengths(annotation['segmentation'], size),
        None if area is None else _number(area),
        None if box is None else _box(box, 'xywh'),
        group=str(entry.get('dataset_name') or ''),
        text=str(entry.get('caption') or ''),
        file_name=str(entry.get('file_name') or ''),
    )


def _prediction(entry: dict, size: tuple[int, int], box_format: str | None) -> Prediction | str:
    """A checked entry of a result file, or what kind of problem it is."""
    score, mask, box = entry.get('score'), entry.get('segmentation'), None
    if not _is_number(score):
        return 'predictions without a number as score'
    if not isinstance(mask, dict):
        return 'predictions without a segmentation in run lengths'
    shape = mask.get('size')
    if isinstance(shape, list) and len(shape) == 2 and tuple(shape) != size:
        return 'masks of another size than their image'
    try:
        mask = as_run_lengths(mask, size)
    except ValueError:
        return 'malformed run lengths'
    if box_format is not None:
        try:
            box = _box(entry.get('bbox'), box_format)
        except ValueError:
            return f'predictions without a valid bbox ({box_format}; see --box-format)'
    return Prediction(mask, float(score), box)


def _box(values: Any, box_format: str) -> Box:
    """A box as xyxy; ValueError where it is none."""
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise ValueError('a box has four numbers')
    x, y, right, bottom = map(float, values)
    if box_format == 'xywh':
        right, bottom = x + right, y + bottom
    if right < x or bottom < y:
        raise ValueError('a box ends before it starts')
    return x, y, right, bottom


def _number(value: Any) -> float:
    if not _is_number(value):
        raise ValueError('it is no number')
    return float(value)


def _is_number(value: Any) -> bool:
    # Whole numbers of JSON have any number of digits.
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST


def _id(entry: Any, key: str) -> int | str | None:
    """Id of an image; None where there is none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _read_json(path: Path, kind: type, what: str) -> Any:
    if path.is_dir():
        there = ', '.join(sorted(p.name for p in path.glob('*.json'))[:5]) or 'none'
        raise ValueError(f'{path} is a folder; name the file in it (its JSON files: {there}).')
    if not path.is_file():
        raise FileNotFoundError(f'{path} not found; it should be {what}.')
    content = read_json(path)
    if not isinstance(content, kind):
        raise ValueError(f'{path} holds a {type(content).__name__}; it should be {what}.')
    return content
