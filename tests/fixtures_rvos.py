"""Writes a tiny dataset in the published layout of Ref-YouTube-VOS."""

import json
from pathlib import Path

import numpy as np
from mmengine.structures import InstanceData
from PIL import Image

from referformer.evaluation import VOSMetric

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 70, 230), (230, 210, 40))
CATEGORIES = ('dog', 'cat', 'person', 'truck')
KINDS = ('appearance', 'motion', 'relation')
PALETTE = bytes(value for colour in ((0, 0, 0), *COLOURS) for value in colour)


def write_ref_youtube_vos(
    root: Path,
    num_train: int = 2,
    num_valid: int = 2,
    num_test: int = 0,
    num_frames: int = 6,
    size: tuple[int, int] = (48, 64),
    num_objects: int = 2,
    with_valid_truth: bool = True,
) -> Path:
    """Write moving rectangles, two expressions for each, and all annotation files.

    Object k (ids from 1) of category ``CATEGORIES[k - 1]`` keeps to its own band of rows and moves
    to the right; the last one is missing on the last frame. Every other expression is in mixed case
    with odd white space.

    Args:
        root: Folder to write to.
        num_train: Videos of the train split, named train0, train1, ...
        num_valid: Videos of the valid split, named valid0, ...
        num_test: Videos named test0, ... which are in the expression files of valid and of test, as
            in the published files; 0: there is no test file.
        num_frames: Frames of each video.
        size: Height and width.
        num_objects: Objects of each video, up to 4.
        with_valid_truth: Whether valid has ``obj_id``, masks and ``meta.json``, unlike the
            published one.

    Returns:
        ``root``.
    """
    root = Path(root)
    trains, valids, tests = (
        [f'{name}{i}' for i in range(count)]
        for name, count in (('train', num_train), ('valid', num_valid), ('test', num_test))
    )
    _write_split(root, 'train', trains, num_frames, size, num_objects, True)
    _write_split(root, 'valid', valids + tests, num_frames, size, num_objects, with_valid_truth)
    if tests:
        _write_split(root, 'test', tests, num_frames, size, num_objects, False)
    return root


def score_masks(dataset, mask_of) -> dict[str, float]:
    """What VOSMetric says where ``mask_of(sample)`` is predicted for every item."""
    metric = VOSMetric()
    metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        sample.pred_instances = InstanceData(masks=mask_of(sample))
        metric.process(None, [sample.to_dict()])
    return metric.evaluate(len(dataset))


def _write_split(
    root: Path,
    split: str,
    video_ids: list[str],
    num_frames: int,
    size: tuple[int, int],
    num_objects: int,
    with_truth: bool,
) -> None:
    expressions, objects = {}, {}
    names = [f'{5 * t:05d}' for t in range(num_frames)]
    for video_id in video_ids:
        rng = np.random.default_rng(sum(video_id.encode()))
        for t, name in enumerate(names):
            frame, labels = _draw(rng, t, num_frames, size, num_objects)
            _save(root / split / 'JPEGImages' / video_id / f'{name}.jpg', Image.fromarray(frame))
            if with_truth:
                mask = Image.fromarray(labels)
                mask.putpalette(PALETTE)
                _save(root / split / 'Annotations' / video_id / f'{name}.png', mask)
        expressions[video_id] = {
            'frames': names,
            'expressions': _make_expressions(num_objects, with_truth),
        }
        objects[video_id] = {
            'objects': {
                str(k + 1): {'category': CATEGORIES[k], 'frames': names} for k in range(num_objects)
            }
        }
    _save_json(root / 'meta_expressions' / split / 'meta_expressions.json', {'videos': expressions})
    if with_truth:
        _save_json(root / split / 'meta.json', {'videos': objects})


def _draw(
    rng: np.random.Generator, t: int, num_frames: int, size: tuple[int, int], num_objects: int
) -> tuple[np.ndarray, np.ndarray]:
    height, width = size
    frame = rng.integers(90, 130, (height, width, 3), dtype=np.uint8)
    labels = np.zeros(size, np.uint8)
    band = height // num_objects
    for k in range(num_objects):
        if k == num_objects - 1 and t == num_frames - 1:
            continue
        left = (t + 1) * width // (2 * num_frames)
        window = np.s_[k * band + 2 : (k + 1) * band - 2, left : left + width // 4]
        frame[window] = COLOURS[k]
        labels[window] = k + 1
    return frame, labels


def _make_expressions(num_objects: int, with_truth: bool) -> dict[str, dict]:
    expressions = {}
    for k in range(num_objects):
        for text in (f'The {CATEGORIES[k].upper()}  on the left ', f'{CATEGORIES[k]} moving right'):
            number = len(expressions)
            entry = {'exp': text, 'kind': KINDS[number % 3]}
            if with_truth:
                entry['obj_id'] = str(k + 1)
            expressions[str(number)] = entry
    return expressions


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _save_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding='utf-8')
