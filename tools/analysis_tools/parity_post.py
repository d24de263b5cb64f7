"""The official post-processing (``post/*.npz``), and this project's on the same numbers."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from parity_cases import CONFIGS, Fixtures, Measures, difference, unpack
from torch import Tensor

from referformer.models.postprocess import choose_queries, masks_at_original_size, merge_objects
from referformer.registry import TRANSFORMS, build
from referformer.structures import cxcywh_to_xyxy

_CLIP = 36  # frames of the independent clips of Ref-DAVIS17


def check_post(fixtures: Fixtures, name: str) -> Measures:
    """Run one ``post/<name>.npz``: share of pixels that differ, differences of scores, boxes.

    Raises:
        ValueError: No rule for a file of this name.
    """
    arrays = np.load(fixtures.root / 'post' / f'{name}.npz')
    for prefix, check in _CHECKS.items():
        if name.startswith(prefix):
            return check(arrays, fixtures)
    raise ValueError(f'post/{name}.npz is none of {", ".join(f"{p}*" for p in _CHECKS)}')


def post_cases(root: Path) -> list[str]:
    """Names of the files in ``post/``."""
    return [path.stem for path in sorted((root / 'post').glob('*.npz'))]


def _check_a2d(arrays: Any, fixtures: Fixtures) -> Measures:
    """A2D-Sentences and JHMDB-Sentences: all queries, threshold before the last resize."""
    scores, *_ = choose_queries(_tensor(arrays, 'in.pred_logits'), 'all')
    pixels, worst = [], 0.0
    for i in range(len(scores)):
        worst = max(worst, difference(scores[i], _tensor(arrays, f'out.scores_{i}')))
        pixels.append(_compare(_masks(arrays, i), unpack(arrays, f'out.masks_{i}')))
    return {'pixels': max(pixels), 'logits': worst}


def _check_coco(arrays: Any, fixtures: Fixtures) -> Measures:
    """RefCOCO: the best pairs of query and class."""
    scores, queries, _ = choose_queries(_tensor(arrays, 'in.pred_logits'), 'pairs')
    boxes = cxcywh_to_xyxy(_tensor(arrays, 'in.pred_boxes')[:, 0])
    pixels, worst, worst_box = [], 0.0, 0.0
    for i, chosen in enumerate(queries):
        h, w = arrays['in.orig_sizes'][i].tolist()
        worst = max(worst, difference(scores[i], _tensor(arrays, f'out.scores_{i}')))
        found = boxes[i, chosen] * torch.tensor([w, h, w, h])
        worst_box = max(worst_box, difference(found, _tensor(arrays, f'out.boxes_{i}')) / max(h, w))
        pixels.append(_compare(_masks(arrays, i)[chosen], unpack(arrays, f'out.masks_{i}')))
    return {'pixels': max(pixels), 'logits': worst, 'boxes': worst_box}


def _check_selection(arrays: Any, fixtures: Fixtures) -> Measures:
    """Ref-YouTube-VOS: the best query of the video, resize before the threshold."""
    pixels, wrong, worst = [], 0, 0.0
    size = tuple(arrays['in.original_size'].tolist())
    for i in range(2):
        logits = _tensor(arrays, f'in.{i}.pred_logits')
        _, query, _ = choose_queries(logits, 'best')
        scores, *_ = choose_queries(logits, 'all')
        worst = max(worst, difference(scores[0], _tensor(arrays, f'out.{i}.query_scores')))
        wrong += int(query.item() != int(arrays[f'out.{i}.selected_query']))
        chosen = _tensor(arrays, f'in.{i}.pred_masks')[:, :, query.item()]
        masks = masks_at_original_size(chosen, size, size)
        pixels.append(_compare(masks[0], unpack(arrays, f'out.{i}.masks')))
    return {'pixels': max(pixels), 'logits': worst, 'match': wrong}


def _check_davis(arrays: Any, fixtures: Fixtures) -> Measures:
    """Ref-DAVIS17: the best query of each clip, then the objects of one annotator in one map."""
    size = tuple(arrays['in.original_size'].tolist())
    chosen = []
    for i in range(8):  # two objects, each as four annotators describe it
        logits = _tensor(arrays, f'in.{i}.pred_logits').split(_CLIP, 1)
        masks = _tensor(arrays, f'in.{i}.pred_masks').split(_CLIP, 1)
        best = [choose_queries(clip, 'best')[1].item() for clip in logits]
        chosen.append(torch.cat([m[:, :, q] for m, q in zip(masks, best)], 1)[0])
    pixels = []
    for annotator in range(4):
        merged = merge_objects(torch.stack(chosen[annotator::4]), size)
        pixels.append(_compare(merged, arrays[f'out.anno_{annotator}']))
    return {'pixels': max(pixels)}


def _check_end_to_end(arrays: Any, fixtures: Fixtures) -> Measures:
    """Ref-YouTube-VOS from JPEG files: the config's own test pipeline, then ``test_step``."""
    backbone = 'resnet50'
    model = fixtures.model(backbone, 'clip', fixtures.manifest(backbone)['options'])
    ids = _tensor(arrays, 'in.input_ids')[None]
    model.text_encoder._tokenizer = lambda texts, **options: {
        'input_ids': ids,
        'attention_mask': torch.ones_like(ids),
    }
    config = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'ref_youtube_vos.py')
    pipeline = Compose([build(step, TRANSFORMS) for step in config.test_pipeline])
    files = [key for key in arrays.files if key.startswith('in.jpeg_')]
    with tempfile.TemporaryDirectory() as folder:
        for t, key in enumerate(files):
            Path(folder, f'{t:05d}.jpg').write_bytes(arrays[key].tobytes())
        item = {
            'video_id': 'v',
            'exp_id': '0',
            'text': 'a sentence',
            'kind': None,
            'obj_id': None,
            'label': 0,
        }
        item.update(img_dir=folder, img_suffix='.jpg', mask_dir=None, control_obj_id=None)
        packed = pipeline({**item, 'frame_names': [f'{t:05d}' for t in range(len(files))]})
    (sample,) = model.test_step(
        {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
    )
    found = sample.pred_instances
    query = int(arrays['mid.selected_query'])
    truth = _tensor(arrays, 'mid.pred_logits')[0].sigmoid()[:, query, 0].mean()
    h, w = sample.ori_shape
    points = found.reference_points[0] / torch.tensor([w, h])
    return {
        'pixels': _compare(found.masks[0], unpack(arrays, 'out.masks')),
        'logits': difference(found.scores[0], truth),
        'points': difference(points, _tensor(arrays, 'mid.reference_points')[0, :, query]),
    }


_CHECKS: dict[str, Callable[[Any, Fixtures], Measures]] = {
    'a2d_': _check_a2d,
    'coco_': _check_coco,
    'ytvos_selection': _check_selection,
    'davis_merge': _check_davis,
    'ytvos_end_to_end_resnet50': _check_end_to_end,
}


def _tensor(arrays: Any, key: str) -> Tensor:
    return torch.from_numpy(np.asarray(arrays[key]))


def _masks(arrays: Any, i: int) -> Tensor:
    """Masks of all queries of a sample with one annotated frame, (Q, 1, H, W)."""
    return masks_at_original_size(
        _tensor(arrays, 'in.pred_masks')[i].transpose(0, 1),
        tuple(arrays['in.sizes'][i].tolist()),
        tuple(arrays['in.orig_sizes'][i].tolist()),
        resize='masks',
    )


def _compare(found: Tensor, truth: np.ndarray) -> float:
    """Share of the pixels that differ."""
    assert tuple(found.shape) == truth.shape, f'{tuple(found.shape)} is not {truth.shape}'
    return float((found.numpy() != truth).mean())
