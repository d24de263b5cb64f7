"""Reading all that a dataset would read, to find what is broken; pictures of its items."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import ConfigDict

from referformer.registry import DATASETS, TRANSFORMS
from referformer.structures import ABSENT, cxcywh_to_xyxy, is_absent
from referformer.visualization import contact_sheet, draw_tile, palette, resize_mask, spread

from .base import RVOSDataset

_CHUNK = 16  # frames in memory; a video file is decoded from its start, so it is one chunk
_BROKEN = (FileNotFoundError, ValueError)


class VideoReport(NamedTuple):
    """What reading one video gave."""

    sentences: int = 0
    frames: int = 0  # read
    masks: int = 0  # read, of one sentence on one frame
    empty_masks: int = 0
    no_target: int = 0  # sentences about nothing in the video
    never_visible: int = 0  # sentences whose object is on none of their annotated frames
    without_truth: int = 0  # sentences without masks
    missing: tuple[str, ...] = ()  # messages
    corrupt: tuple[str, ...] = ()  # messages
    sizes: tuple[tuple[int, int], ...] = ()  # height, width


class Loaders(NamedTuple):
    """The reading transforms of a pipeline."""

    frames: Callable[[dict], dict]
    masks: list[Callable[[dict], dict]]


class Problems:
    """Collects messages of what is missing and of what is corrupt, each once."""

    def __init__(self) -> None:
        self.missing: dict[str, None] = {}
        self.corrupt: dict[str, None] = {}

    def add(self, error: Exception) -> None:
        """Note what an error says."""
        kind = self.missing if isinstance(error, FileNotFoundError) else self.corrupt
        kind[str(error)] = None


def dataset_configs(cfg: ConfigDict) -> Iterator[ConfigDict]:
    """The configs of the single datasets in one that may be wrapped (concatenated, repeated)."""
    if 'datasets' in cfg:
        for part in cfg['datasets']:
            yield from dataset_configs(part)
    elif 'dataset' in cfg:
        yield from dataset_configs(cfg['dataset'])
    elif 'type' not in cfg:
        raise ValueError(f'a dataset of the config has no type: {dict(cfg)}')
    else:
        yield cfg


def loading_transforms(pipeline: Iterable[dict]) -> list[dict]:
    """The configs of the reading transforms (``Load...``) of a pipeline, set to decode at once and
    in full."""
    chosen = [dict(t) for t in pipeline if t['type'].split('.')[-1].startswith('Load')]
    if not chosen:
        raise ValueError('the pipeline reads no frames: it has no transform named Load...')
    for transform in chosen:
        transform.pop('draft', None)
        if transform['type'] in ('LoadFrames', 'LoadMasks'):
            transform['keep_last'] = True  # for the next sentence
    return chosen


def build_loaders(pipeline: Iterable[dict]) -> Loaders:
    """The reading transforms of a pipeline: that of the frames, and the others."""
    frames, *masks = (TRANSFORMS.build(cfg) for cfg in loading_transforms(pipeline))
    return Loaders(frames, masks)


def build_dataset(cfg: ConfigDict, pipeline: Iterable[dict]) -> RVOSDataset:
    """The dataset of a config with another pipeline; whatever is wrong with its expressions is
    collected in ``left_out``."""
    return DATASETS.build({**cfg, 'pipeline': list(pipeline), 'max_broken': 1.0})


def group_by_video(dataset: RVOSDataset, problems: Problems) -> list[list[int]]:
    """Indices of the items of each video, one for each sentence and annotated frame."""
    videos: dict[str, dict[tuple, int]] = {}
    for index in range(len(dataset)):
        try:
            item = dataset.get_data_info(index)
        except _BROKEN as error:
            problems.add(error)
            continue
        if item.get('obj_id') == ABSENT:  # a control, not in the files
            continue
        key = item['exp_id'], item.get('key_frame')
        videos.setdefault(item['video_id'], {}).setdefault(key, index)
    return [list(items.values()) for items in videos.values()]


def check_video(dataset: RVOSDataset, indices: list[int], loaders: Loaders) -> VideoReport:
    """Read all frames of a video, and all masks of its items.

    Args:
        dataset: Its pipeline is not used.
        indices: Items about one video.
        loaders: Those of the dataset.
    """
    items = [dataset.get_data_info(index) for index in indices]
    problems, sizes = Problems(), set()
    visible, annotated = Counter(), Counter()
    num_read = 0
    for inds in _chunks(items[0]):
        for part in _readable(loaders.frames, items[0], inds, problems):
            sizes.add(part['ori_shape'])
            num_read += len(part['frame_inds'])
            for number, item in enumerate(items):
                for valid in _check_masks(loaders.masks, {**item, **part}, problems):
                    annotated[number] += valid.size
                    visible[number] += int(valid.sum())
    return VideoReport(
        sentences=len({item['exp_id'] for item in items} - {None}),
        frames=num_read,
        masks=annotated.total(),
        empty_masks=annotated.total() - visible.total(),
        no_target=sum(is_absent(item.get('obj_id')) for item in items),
        never_visible=sum(
            visible[number] == 0 and not is_absent(items[number].get('obj_id'))
            for number in annotated
        ),
        without_truth=sum(item.get('obj_id') is None for item in items),
        missing=tuple(problems.missing),
        corrupt=tuple(problems.corrupt),
        sizes=tuple(sorted(sizes)),
    )


def _chunks(item: dict) -> list[np.ndarray]:
    length = len(item['frame_names'])
    step = length if 'video_file' in item else _CHUNK
    return [np.arange(start, min(start + step, length)) for start in range(0, length, step)]


def _readable(
    load: Callable[[dict], dict], item: dict, inds: np.ndarray, problems: Problems
) -> Iterator[dict]:
    """What ``load`` adds for these frames: at once, or frame by frame where some are broken."""
    try:
        results = load({**item, 'frame_inds': inds, 'key_frames': np.arange(len(inds))})
    except _BROKEN as error:
        if len(inds) == 1 or 'video_file' in item:
            problems.add(error)
            return
        for index in inds:
            yield from _readable(load, item, np.array([index]), problems)
    else:
        yield {key: results[key] for key in ('imgs', 'ori_shape', 'img_shape', 'frame_inds')}


def _check_masks(
    loaders: list[Callable[[dict], dict]], results: dict, problems: Problems
) -> Iterator[np.ndarray]:
    """``valid`` of the annotated frames among those of ``results``, without broken ones."""
    inds = results['frame_inds']
    chosen = np.flatnonzero(inds == results.get('key_frame', inds))
    if len(chosen) == 0:
        return
    try:
        output = {**results, 'key_frames': chosen}
        for load in loaders:
            output = load(output)
    except _BROKEN as error:
        if len(chosen) == 1:
            problems.add(error)
            return
        for position in chosen:
            one = {'imgs': results['imgs'][[position]], 'frame_inds': inds[[position]]}
            yield from _check_masks(loaders, {**results, **one}, problems)
    else:
        if 'valid' in output:
            yield output['valid']


def draw_item(item: dict[str, Any], max_frames: int = 6) -> np.ndarray:
    """Frames of a packed item with mask and box, its sentence above.

    Args:
        item: What ``PackClip`` gives.
        max_frames: How many frames are drawn at most, evenly spaced.
    """
    sample = item['data_samples']
    frames = item['inputs'].permute(0, 2, 3, 1).contiguous().numpy()
    height, width = frames.shape[1:3]
    truth = sample.get('gt_instances')
    annotated = dict(zip(sample.key_frames, sample.frame_names))
    tiles, labels = [], []
    for t in spread(len(frames), max_frames):
        masks = boxes = None
        label = annotated.get(t, 'not annotated')
        if truth is not None and t in annotated:
            k = sample.key_frames.index(t)
            masks = [resize_mask(mask[k].numpy(), (height, width)) for mask in truth.masks]
            boxes = cxcywh_to_xyxy(truth.boxes[:, k]).numpy() * np.tile([width, height], 2)
            label += '' if truth.valid[:, k].any() else ', not visible'
        colors = palette(1 if masks is None else len(masks))
        tiles.append(draw_tile(frames[t], masks, boxes, colors=colors, width=320))
        labels.append(label)
    parts = [sample.video_id, sample.exp_id, f'object {sample.obj_id}', f'{width} x {height}']
    parts.append(sample.get('kind') or '')
    note = '   '.join(part for part in parts if part)
    return contact_sheet(tiles, labels, [sample.text], palette(1), [note], columns=len(tiles))
