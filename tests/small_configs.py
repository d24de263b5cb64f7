"""The leaf configs of configs/ with a small model, small frames and data of a test."""

import copy
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from model_fixtures import text_encoder_cfg
from sam2_model import small_sam2
from toy_project import REPO

from referformer.registry import MODELS

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Arguments of transforms that are in pixels.
_PIXELS = ('scales', 'max_size', 'min_size', 'shorter')
_LEAST_PIXELS = 32


def write_small_config(
    name: str, folder: Path, data_root: Path | Mapping[str, Path] | None = None, divisor: int = 8
) -> Path:
    """Write what the leaf config ``name`` says, but for sizes, as a config in ``folder``.

    Only sizes of the model and of the frames (divided by ``divisor``), the data's place, and the
    number of workers are changed; a training has 2 iterations, or one for each dataset where
    several are concatenated. ``data_root`` may map types of datasets to their places; by default
    they are where the config says. Weights that the config starts from are made, below ``folder``,
    under the names it gives them: tools have to run there.
    """
    config = Config.fromfile(REPO / 'configs' / f'{name}.py')
    _shrink_model(config.model, folder)
    for loader in (config[key] for key in _LOADERS if config.get(key)):
        _shrink_loader(loader, data_root, divisor)
    if 'train_dataloader' in config:
        loader = config.train_dataloader
        for dataset in loader.dataset.get('datasets', [loader.dataset]):
            dataset.indices = 1 if 'datasets' in loader.dataset else 2 * loader.batch_size
        if 'max_iters' in config.train_cfg:
            config.train_cfg.update(max_iters=2, val_interval=2)
        else:
            config.train_cfg.max_epochs = 1
        _write_weights(config, folder)
    config.experiment_name = f'{folder.name}-{Path(name).name}'
    path = folder / f'{Path(name).name}.py'
    config.dump(path)
    return path


def save_weights(model: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint of a model with random weights, always the same ones, if there is none."""
    if path.exists():
        return
    init_default_scope('referformer')
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(copy.deepcopy(model))
        model.init_weights()  # some parameters are empty memory before
    torch.save({'state_dict': model.state_dict()}, path)


def _shrink_model(model: ConfigDict, folder: Path) -> None:
    """Make a model small that stays one of its kind: types, switches and queries are kept."""
    if model.backbone.type == 'ResNet':
        model.backbone.base_channels = 8
    elif model.backbone.type != 'EfficientNetLite':  # that has one size
        model.backbone.update(embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2))
        model.backbone.window = (2, 3, 3) if model.backbone.type == 'VideoSwin' else 3
    if model.type == 'BackbonePretraining':
        return
    if model.test_cfg.get('refine'):
        model.test_cfg.refine.model = str(folder / 'sam2')
        if not (folder / 'sam2').exists():
            small_sam2().save_pretrained(folder / 'sam2')
    text = text_encoder_cfg(folder / 'tokenizer')
    model.text_encoder.update(tokenizer=text['tokenizer'])
    model.text_encoder.model = text['model']
    model.projection.num_groups = 4
    if model.fusion is not None:
        model.fusion.num_heads = 2
    model.transformer.update(
        embed_dim=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=2,
        feedforward_dim=32,
        num_points=2,
    )
    model.pixel_decoder.update(num_heads=2, feedforward_dim=32, shrinks=(4, 2, 1, 1), num_groups=4)
    head = model.mask_head
    head.update(mask_dim=head.mask_dim // 16, num_channels=head.num_channels // 2)


def _shrink_loader(
    loader: ConfigDict, data_root: Path | Mapping[str, Path] | None, divisor: int
) -> None:
    roots = data_root if isinstance(data_root, Mapping) else defaultdict(lambda: data_root)
    loader.num_workers = 0
    loader.persistent_workers = False
    for dataset in loader.dataset.get('datasets', [loader.dataset]):
        dataset.data_root = str(roots[dataset.type] or dataset.data_root)
        dataset.pipeline = _divide(dataset.pipeline, divisor)
        if 'indices' in dataset:
            dataset.indices = 4


def _write_weights(config: Config, folder: Path) -> None:
    """Make the weights that a training starts from; class heads that start anew do not fit."""
    model = config.model
    if model.type == 'BackbonePretraining':
        return
    init_cfg = model.backbone.get('init_cfg')
    if init_cfg is not None:
        backbone = {key: value for key, value in model.backbone.items() if key != 'init_cfg'}
        if 'prefix' in init_cfg:  # a checkpoint of its pre-training
            attributes = {'colour': ('red', 'blue')}
            options = {'backbone': backbone, 'attributes': attributes}
            backbone = {'type': 'BackbonePretraining', **options}
        save_weights(backbone, folder / init_cfg.checkpoint)
    if model.text_encoder.pretrained is not None:
        from transformers import AutoConfig, AutoModel

        options = AutoConfig.for_model('roberta', **model.text_encoder.model)
        model.text_encoder.pretrained = str(folder / 'roberta')
        if not (folder / 'roberta').exists():
            AutoModel.from_config(options).save_pretrained(folder / 'roberta')
    if config.load_from is not None:
        fresh = config.default_hooks.checkpoint_keys.get('fresh')
        classes = model.num_classes + 2 if fresh else model.num_classes
        save_weights({**model, 'num_classes': classes}, folder / config.load_from)


def _divide(steps: Any, divisor: int) -> Any:
    """A pipeline with all sizes in pixels divided."""
    if isinstance(steps, (list, tuple)):
        return [_divide(step, divisor) for step in steps]
    if not isinstance(steps, dict):
        return steps
    return {
        key: _over(value, divisor) if key in _PIXELS else _divide(value, divisor)
        for key, value in steps.items()
    }


def _over(value: Any, divisor: int) -> Any:
    if isinstance(value, (list, tuple)):
        return [_over(entry, divisor) for entry in value]
    return value and max(value // divisor, _LEAST_PIXELS)
