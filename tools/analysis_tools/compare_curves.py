#!/usr/bin/env python
"""Train the recipes of Ref-YouTube-VOS in small on synthetic data, and compare their losses with
those of the micro config.

Each recipe is trained twice: from its config file, where ``--cfg-options`` change nothing but paths
and sizes (of the model, of the frames, of an epoch), and from the micro config, which is given the
recipe's numbers as they are written below. Both see the same clips in the same order, so that equal
recipes give equal losses.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from referformer.cli import user_errors
from referformer.engine.training_log import logs_of, read_rows

REPO = Path(__file__).resolve().parents[2]
MICRO = REPO / 'configs' / 'referformer_vswin-micro_synthetic.py'
# What is the model's size; the rest of it is the recipe.
PARTS = (
    'num_queries',
    'backbone',
    'text_encoder',
    'projection',
    'fusion',
    'transformer',
    'pixel_decoder',
    'mask_head',
)
PIXELS = ('scales', 'max_size', 'min_size', 'shorter')
SHRINK = 5  # of the frames: 720p to the 96x160 of the synthetic data, and somewhat less
COCO_NAMES = ('refcoco', 'refcoco+', 'refcocog')


class Recipe(NamedTuple):
    """A row of the paper's recipes."""

    config: str
    epochs: int
    drops: list[int]
    fine_tuned: bool = False
    with_images: bool = False


RECIPES = {
    'finetune': Recipe('referformer_vswin-t_ytvos', 6, [3, 5], fine_tuned=True),
    'scratch': Recipe('referformer_vswin-t_scratch_ytvos', 10, [6, 8]),
    'joint': Recipe('referformer_vswin-t_joint', 12, [8, 10], with_images=True),
}
# What fine-tuning starts from; not compared.
PRETRAINING = Recipe('referformer_vswin-t_refcoco', 12, [8, 10], with_images=True)


# The numbers of the recipes for the micro config; sizes in pixels are divided by SHRINK.
NUMBERS = """
_base_ = {base!r}

load_from = None
model = dict(
    data_preprocessor=dict(train_divisor=32),
    text_encoder=dict(tokenizer='{data}/tokenizer'),
    criterion=dict(mask_stride=4, loss_mask=dict(weight=2.0), loss_dice=dict(weight=5.0)),
)
resize = dict(type='RandomResize', scales=[57, 64, 70, 78, 83, 89, 96, 102], max_size=128)
crop = dict(type='RandomCrop', min_size=76, max_size=120, shorter=[80, 100, 120])
augmentation = [
    dict(type='RandomChoice', transforms=[[resize], [crop, resize]]),
    dict(type='FilterVisible'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotometricDistort'),
    dict(type='PackClip'),
]
load_video = [
    dict(type='SampleFrames'),
    dict(type='LoadFrames', draft=True),
    dict(type='LoadMasks'),
]
videos = dict(
    type='RefYouTubeVOS',
    data_root={data!r},
    classes='meta',
    num_frames=5,
    indices={videos},
    pipeline=[*load_video, *augmentation],
)
train_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(_delete_=True, **videos))
val_dataloader = val_evaluator = val_cfg = None
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs={epochs})
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=5e-4),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(
        custom_keys={{
            'backbone': dict(lr_mult=0.5),
            'text_encoder.encoder': dict(lr_mult=0.1),
        }}
    ),
)
param_scheduler = [dict(type='MultiStepLR', milestones={drops}, gamma=0.1)]
"""
WITH_IMAGES = """
make_clip = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadCocoMask'),
    dict(type='PseudoClip', num_frames=5),
]
images = dict(
    type='RefCOCO', data_root={coco!r}, indices={images}, pipeline=[*make_clip, *augmentation]
)
names = ['refcoco', 'refcoco+', 'refcocog']
train_dataloader['dataset'] = dict(
    _delete_=True,
    type='ConcatDataset',
    datasets=[videos, *[dict(images, name=name) for name in names]],
    ignore_keys=['classes'],
)
"""
FINE_TUNING = """
load_from = {pretrained!r}
default_hooks = dict(checkpoint_keys=dict(fresh=['^class_heads']))
"""


class Places(NamedTuple):
    """Where the data are, and what is made: images like RefCOCO's, and work dirs."""

    data: Path
    runs: Path

    @property
    def coco(self) -> Path:
        """Folder of the images."""
        return self.runs / 'coco'

    @property
    def pretrained(self) -> Path:
        """Weights to fine-tune."""
        return self.runs / 'pretrain' / f'epoch_{PRETRAINING.epochs}.pth'


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.replace('``', ''))
    parser.add_argument('recipes', nargs='*', help=f'of {", ".join(RECIPES)} (default: all)')
    parser.add_argument(
        '--data', type=Path, default=Path('data/synthetic'), help='default: %(default)s'
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/compare_curves'))
    parser.add_argument(
        '--iterations',
        type=int,
        default=300,
        help='of each training; a multiple of 60, which all epochs divide (default: %(default)s)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace earlier runs')
    args = parser.parse_args()
    unknown = sorted(set(args.recipes) - set(RECIPES))
    if unknown:
        parser.error(f'unknown recipes: {", ".join(unknown)}; known: {", ".join(RECIPES)}')
    if args.iterations < 60 or args.iterations % 60:
        parser.error(f'--iterations {args.iterations}: expected a multiple of 60')
    return args


@user_errors()
def main() -> None:
    """Pre-train where a recipe starts from that, train all, print what was found."""
    args = parse_args()
    names = args.recipes or list(RECIPES)
    places = Places(args.data, args.work_dir)
    if not (args.data / 'tokenizer').is_dir():
        raise FileNotFoundError(
            f'{args.data}/tokenizer not found: '
            f'`python tools/dataset_tools/make_synthetic.py {args.data}` makes the data'
        )
    write_images(places.data, places.coco)
    trainings = []
    if any(RECIPES[name].fine_tuned for name in names):
        trainings.append(pretraining(places, args.iterations // 36))
    for name in names:
        items = args.iterations // RECIPES[name].epochs
        trainings += [from_leaf(name, places, items), from_micro(name, places, items)]
    for arguments in tqdm(trainings, unit='training'):
        run(arguments + ['--overwrite'] * args.overwrite)
    rows = [(name, *compare(places.runs / name, places.runs / f'{name}_micro')) for name in names]
    print(f'\n{"recipe":<10}{"iterations":>11}{"loss, first":>13}{"last tenth":>12}  difference')
    for name, count, first, last, difference in rows:
        result = 'none: bit-equal' if difference == 0 else f'{difference:.2e}, relative'
        print(f'{name:<10}{count:>11}{first:>13.2f}{last:>12.2f}  {result}')


def run(arguments: list[str]) -> None:
    """Call tools/train.py; its log goes to the work dir only."""
    command = [sys.executable, str(REPO / 'tools' / 'train.py'), *arguments]
    tqdm.write(shlex.join(command))
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise ValueError('the training failed; its message stands above')


def pretraining(places: Places, images: int) -> list[str]:
    """Arguments of train.py for the weights that fine-tuning starts from.

    Args:
        places: See there.
        images: Of each dataset in an epoch; half as many iterations for each.
    """
    options = _sizes(Config.fromfile(_config_file(PRETRAINING)), places, [], images)
    options.update(dict.fromkeys(('val_dataloader', 'val_evaluator', 'val_cfg')))
    return _arguments(_config_file(PRETRAINING), places.pretrained.parent, options)


def from_leaf(name: str, places: Places, items: int, epochs: int | None = None) -> list[str]:
    """Arguments of train.py for a recipe's own config file: paths and sizes.

    Args:
        name: Of ``RECIPES``.
        places: See there.
        items: Of an epoch.
        epochs: Stop after them; by default all of the recipe's.
    """
    recipe = RECIPES[name]
    options = _sizes(Config.fromfile(_config_file(recipe)), places, *_items(recipe, places, items))
    if recipe.fine_tuned:
        options['load_from'] = places.pretrained
    if epochs:
        options['train_cfg.max_epochs'] = epochs
    return _arguments(_config_file(recipe), places.runs / name, options)


def from_micro(name: str, places: Places, items: int, epochs: int | None = None) -> list[str]:
    """Write the micro config with the numbers of a recipe; arguments of train.py for it."""
    recipe = RECIPES[name]
    parts = [NUMBERS]
    if recipe.with_images:
        parts.append(WITH_IMAGES)
    if recipe.fine_tuned:
        parts.append(FINE_TUNING)
    places.runs.mkdir(parents=True, exist_ok=True)
    path = places.runs / f'{name}_micro.py'
    videos, images = _items(recipe, places, items)
    content = ''.join(parts).format(
        base=str(MICRO),
        data=str(places.data),
        coco=str(places.coco),
        pretrained=str(places.pretrained),
        videos=videos,
        images=images,
        epochs=epochs or recipe.epochs,
        drops=recipe.drops,
    )
    path.write_text(content)
    return _arguments(path, places.runs / f'{name}_micro', {})


def _config_file(recipe: Recipe) -> Path:
    return REPO / 'configs' / f'{recipe.config}.py'


def _sizes(config: Config, places: Places, videos: list[int], images: int) -> dict[str, Any]:
    """Options that make a recipe small and let it read these items of synthetic data."""
    micro = Config.fromfile(MICRO).model
    options = {
        f'model.{part}{key}': value
        for part in PARTS
        for key, value in _changes(config.model.get(part), micro[part])
    }
    options['model.text_encoder.tokenizer'] = places.data / 'tokenizer'
    options['train_dataloader.num_workers'] = 0
    dataset, prefix = config.train_dataloader.dataset, 'train_dataloader.dataset'
    several = 'datasets' in dataset
    for number, part in enumerate(dataset.datasets if several else [dataset]):
        key = f'{prefix}.datasets.{number}' if several else prefix
        options.update({f'{key}.pipeline{k}': value for k, value in _pixels(part.pipeline)})
        if part.type == 'RefYouTubeVOS':
            # Synthetic data have other categories than the 65; they are not used.
            changes = {'data_root': places.data, 'meta_file': None, 'indices': videos}
        else:
            changes = {'data_root': places.coco, 'indices': images}
        options.update({f'{key}.{k}': value for k, value in changes.items()})
    return options


def _items(recipe: Recipe, places: Places, items: int) -> tuple[list[int], int]:
    """What makes an epoch: indices of items of videos, from all of the data, and how many of each
    image dataset."""
    images = max(1, items // 6) if recipe.with_images else 0
    videos = _read_videos(places.data).values()
    total = sum(len(v['expressions']) * -(-len(v['frames']) // 5) for v in videos)
    count = items - len(COCO_NAMES) * images
    return np.linspace(0, total, count, endpoint=False).astype(int).tolist(), images


def _read_videos(data: Path) -> dict[str, dict]:
    path = data / 'meta_expressions' / 'train' / 'meta_expressions.json'
    return json.loads(path.read_text())['videos']


def _changes(old: Any, new: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """What turns a part of a config into another one: dotted keys and values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            yield from _changes(old.get(name), new.get(name), f'{key}.{name}')
    elif old != new:
        yield key, new


def _pixels(steps: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """The sizes in a pipeline, divided: dotted keys and values."""
    if isinstance(steps, list):
        for number, step in enumerate(steps):
            yield from _pixels(step, f'{key}.{number}')
    elif isinstance(steps, Mapping):
        for name, value in steps.items():
            if name in PIXELS:
                divided = np.asarray(value) // SHRINK
                yield f'{key}.{name}', divided.tolist()
            else:
                yield from _pixels(value, f'{key}.{name}')


def _arguments(config: Path, work_dir: Path, options: Mapping[str, Any]) -> list[str]:
    """Of train.py, with each iteration's own losses in the log and a checkpoint at the end."""
    options = {
        'experiment_name': f'{work_dir.parent.name}-{work_dir.name}',
        'log_processor.window_size': 1,
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 1000000,
        **options,
    }
    texts = [f'{key}={str(value).replace(" ", "")}' for key, value in options.items()]
    return [str(config), '--work-dir', str(work_dir), '--cfg-options', *texts]


def write_images(data: Path, folder: Path) -> None:
    """Write a frame of each synthetic video, as RefCOCO, RefCOCO+ and RefCOCOg in turn."""
    contents = {name: {'images': [], 'annotations': []} for name in COCO_NAMES}
    (folder / 'train2014').mkdir(parents=True, exist_ok=True)
    for number, (video_id, video) in enumerate(_read_videos(data).items()):
        expression = next(e for e in video['expressions'].values() if e['kind'] != 'motion')
        frame, mask = _first_seen(data / 'train', video_id, video['frames'], expression['obj_id'])
        file_name = f'COCO_train2014_{number:012d}.jpg'
        (folder / 'train2014' / file_name).write_bytes(frame.read_bytes())
        code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        size = {'height': mask.shape[0], 'width': mask.shape[1]}
        content = contents[COCO_NAMES[number % len(COCO_NAMES)]]
        content['images'].append(
            {'id': number, 'file_name': file_name, 'caption': expression['exp'], **size}
        )
        content['annotations'].append(
            {
                'id': number,
                'image_id': number,
                'category_id': 1,
                'bbox': coco_mask.toBbox(code).tolist(),
                'segmentation': {'size': list(mask.shape), 'counts': code['counts'].decode()},
            }
        )
    for name, content in contents.items():
        path = folder / name / f'instances_{name}_train.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({**content, 'categories': [{'id': 1, 'name': 'shape'}]}))


def _first_seen(
    split: Path, video_id: str, frames: list[str], obj_id: str
) -> tuple[Path, np.ndarray]:
    """The first frame that shows an object, and its mask."""
    for frame in frames:
        mask = np.array(Image.open(split / 'Annotations' / video_id / f'{frame}.png'))
        if (mask == int(obj_id)).any():
            return split / 'JPEGImages' / video_id / f'{frame}.jpg', mask == int(obj_id)
    raise ValueError(f'{split}: no frame of {video_id} shows the object {obj_id}')


def compare(first: Path, second: Path) -> tuple[int, float, float, float]:
    """The newest runs in two work dirs.

    Returns:
        Number of iterations, mean loss of the first and of the last tenth of them, and the largest
        relative difference between any losses or learning rates of the same iteration.

    Raises:
        ValueError: They differ in their iterations or in what they log.
    """
    runs = [_read(work_dir) for work_dir in (first, second)]
    if [row.keys() for row in runs[0]] != [row.keys() for row in runs[1]]:
        raise ValueError(f'{first} and {second} do not log the same values at the same iterations')
    a, b = (np.array([list(row.values()) for row in rows]) for rows in runs)
    scale = np.maximum(np.abs(a), np.abs(b))
    difference = np.max(np.abs(a - b) / np.where(scale > 0, scale, 1))
    losses = [row['loss'] for row in runs[0]]
    tenth = max(1, len(losses) // 10)
    return len(losses), np.mean(losses[:tenth]), np.mean(losses[-tenth:]), float(difference)


def _read(work_dir: Path) -> list[dict[str, float]]:
    """Step, losses and learning rate of every iteration."""
    return [
        {key: row[key] for key in sorted(row) if 'loss' in key or key in ('lr', 'step')}
        for row in read_rows(logs_of(work_dir)[-1])
        if 'loss' in row
    ]


if __name__ == '__main__':
    main()
