"""Prediction and training steps of a whole model, on noise and random weights of sound scale.

Letters: T frames, n sentences, H W size of the frames.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..engine.checkpoint import load_checkpoint
from ..engine.launch import read_config
from ..registry import MODELS
from ..structures import RVOSDataSample
from .flops import count
from .measure import measure

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def make_model(
    config: str, options: Mapping | None = None, checkpoint: str | None = None, device: str = 'cpu'
) -> nn.Module:
    """A model with random weights, or those of a checkpoint, that needs no tokenizer.

    Raises:
        ValueError: The config is that of another kind of model.
    """
    cfg = read_config(config, options)
    if cfg.model.type != 'ReferFormer':
        raise ValueError(f'{config} is a {cfg.model.type}, which reads no sentences')
    init_default_scope('referformer')
    model = MODELS.build(cfg.model)
    if checkpoint:
        load_checkpoint(model, checkpoint)
    else:
        randomise(model)
    return model.to(device).eval()


def randomise(model: nn.Module) -> None:
    """Weights that keep the scale of what passes them; zeros would be multiplied faster."""
    generator = torch.Generator().manual_seed(0)
    norms = (nn.LayerNorm, nn.GroupNorm, _NormBase)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            noise = torch.randn(weight.shape, generator=generator)
            if isinstance(module, norms):
                noise = 0.1 * noise + (name == 'weight')
            elif weight.dim() > 1:
                noise /= math.sqrt(weight[0].numel())
            else:
                noise *= 0.02
            weight.data.copy_(noise)


def use_tokens(model: nn.Module, num_words: int) -> None:
    """Give every sentence so many random tokens, whatever it says."""
    encoder = model.text_encoder.encoder
    size = encoder.get_input_embeddings().num_embeddings
    ids = torch.randint(min(10, size - 1), size, (num_words,), generator=_seed(0))

    def tokenize(texts: Sequence[str], **options: Any) -> dict[str, Tensor]:
        tokens = ids.expand(len(texts), -1)
        return {'input_ids': tokens, 'attention_mask': torch.ones_like(tokens)}

    model.text_encoder._tokenizer = tokenize


def noise_clip(num_frames: int, shape: tuple[int, int], seed: int = 0) -> Tensor:
    """Coarse and fine noise that moves from frame to frame, uint8 (T, 3, H, W)."""
    coarse = torch.rand(num_frames, 3, 8, 12, generator=_seed(seed)) * 255
    smooth = nn.functional.interpolate(coarse, shape, mode='bilinear')
    fine = torch.randn(num_frames, 3, *shape, generator=_seed(seed)) * 12
    return (smooth + fine).clamp_(0, 255).byte()


def infer(
    model: nn.Module,
    device: str,
    frames: Sequence[int],
    sentences: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    dtypes: Sequence[str],
    **rounds: int,
) -> Iterator[dict[str, Any]]:
    """A row for each T, n, size and precision: from uint8 frames to masks of their size.

    The time of parts is taken where nothing is compiled.
    """
    for T, n, shape, dtype in product(frames, sentences, shapes, dtypes):
        clip = noise_clip(T, shape)
        parts = parts_of(model)

        @torch.no_grad()
        def step(clip: Tensor = clip, n: int = n, dtype: str = dtype) -> None:
            samples = [_sample(clip, str(i), video_id='v') for i in range(n)]
            with _precision(device, dtype):
                model.test_step({'inputs': [clip.clone()], 'data_samples': samples})

        row = {'frames': T, 'sentences': n, 'height': shape[0], 'width': shape[1], 'dtype': dtype}
        found = measure(step, device, parts=parts, **rounds)
        operations = count(model, shape, T, sentences=n)['total']
        yield row | found | {'gflop': operations / 1e9}


def train(
    model: nn.Module,
    device: str,
    frames: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    dtypes: Sequence[str],
    **rounds: int,
) -> Iterator[dict[str, Any]]:
    """A row for each T, size and precision: losses, gradients and a step of AdamW, batch 1."""
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-6)
    phases = {name: nn.Identity() for name in ('backward', 'optimizer')}
    for T, shape, dtype in product(frames, shapes, dtypes):
        clip = noise_clip(T, shape)
        parts = {**parts_of(model), 'criterion': [model.criterion]}
        parts |= {name: [phase] for name, phase in phases.items()}

        def step(clip: Tensor = clip, dtype: str = dtype) -> None:
            sample = _sample(clip, 'a', video_id='v')
            sample.gt_instances = _truth(clip)
            data = {'inputs': [clip.clone()], 'data_samples': [sample]}
            data = model.data_preprocessor(data, True)
            with _precision(device, dtype):
                losses = model(**data, mode='loss')
            phases['backward'].forward = lambda: sum(losses.values()).backward()
            phases['optimizer'].forward = optimizer.step
            phases['backward']()
            phases['optimizer']()
            optimizer.zero_grad()

        row = {'frames': T, 'sentences': 1, 'height': shape[0], 'width': shape[1], 'dtype': dtype}
        yield row | measure(step, device, parts=parts, **rounds)
    model.eval()


def parts_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The modules whose time is taken, by the name of the part."""
    return {
        'backbone': [model.backbone],
        'text': [model.text_encoder],
        'projection': [model.projection],
        **({'fusion': [model.fusion]} if model.fusion is not None else {}),
        'encoder': list(model.transformer.encoder),
        'decoder': list(model.transformer.decoder),
        'FPN': [model.pixel_decoder],
        'masks': [model.mask_head],
    }


def _sample(clip: Tensor, text: str, **meta: Any) -> RVOSDataSample:
    shape = tuple(clip.shape[-2:])
    meta |= {'text': text, 'img_shape': shape, 'ori_shape': shape}
    return RVOSDataSample(metainfo={**meta, 'exp_id': text, 'key_frames': list(range(len(clip)))})


def _truth(clip: Tensor) -> InstanceData:
    """An object that fills a quarter of every frame."""
    T, _, H, W = clip.shape
    masks = torch.zeros(1, T, H, W, dtype=torch.bool)
    masks[..., H // 4 : H * 3 // 4, W // 4 : W * 3 // 4] = True
    return InstanceData(
        labels=torch.zeros(1, dtype=torch.int64),
        boxes=torch.full((1, T, 4), 0.5),
        masks=masks,
        valid=torch.ones(1, T, dtype=torch.bool),
    )


def _precision(device: str, dtype: str) -> torch.autocast | nullcontext:
    if dtype == 'fp32':
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=DTYPES[dtype])


def _seed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
