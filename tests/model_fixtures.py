"""A ReferFormer of a few thousand parameters, with its tokenizer made on the spot."""

import copy
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from referformer.models import ReferFormer
from referformer.registry import MODELS
from referformer.structures import RVOSDataSample

WORDS = ['the', 'a', 'red', 'blue', 'dog', 'cat', 'left', 'right', 'small', 'big', 'circle', 'star']
SPECIAL = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']


def save_tokenizer(folder: Path) -> str:
    """Write a word-level tokenizer with RoBERTa's special tokens; its folder."""
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token='<s>',
        eos_token='</s>',
        pad_token='<pad>',
        unk_token='<unk>',
        mask_token='<mask>',
    ).save_pretrained(folder)
    return str(folder)


def text_encoder_cfg(folder: Path) -> dict:
    """A RoBERTa of one layer."""
    return {
        'type': 'RobertaTextEncoder',
        'model': {
            'vocab_size': len(SPECIAL) + len(WORDS),
            'hidden_size': 16,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'intermediate_size': 32,
            'max_position_embeddings': 20,
            'type_vocab_size': 1,
        },
        'tokenizer': save_tokenizer(folder),
    }


def criterion_cfg() -> dict:
    """Matcher and losses with the weights of the paper."""
    return {
        'type': 'ReferFormerCriterion',
        'matcher': {'type': 'SequenceMatcher'},
        'loss_cls': {'type': 'FocalLoss', 'weight': 2.0},
        'loss_bbox': {'type': 'BoxL1Loss', 'weight': 5.0},
        'loss_giou': {'type': 'BoxGIoULoss', 'weight': 2.0},
        'loss_mask': {'type': 'FocalLoss', 'weight': 2.0},
        'loss_dice': {'type': 'DiceLoss', 'weight': 5.0},
    }


def tiny_model_cfg(folder: Path, backbone: dict | None = None, **changes: object) -> dict:
    """The config; ``changes`` are arguments of ``ReferFormer``, merged into it part by part."""
    swin = {'embed_dim': 8, 'depths': (1, 1, 2, 1), 'num_heads': (1, 1, 2, 2), 'drop_path': 0.1}
    cfg = {
        'type': 'ReferFormer',
        'num_queries': 3,
        'backbone': backbone or dict(type='VideoSwin', window=(2, 3, 3), **swin),
        'text_encoder': text_encoder_cfg(folder),
        'projection': {'type': 'VisualProjection', 'num_groups': 4},
        'fusion': {'type': 'VisionLanguageFusion', 'num_heads': 2},
        'transformer': {
            'type': 'DeformableTransformer',
            'embed_dim': 16,
            'num_heads': 2,
            'num_encoder_layers': 1,
            'num_decoder_layers': 2,
            'feedforward_dim': 32,
            'num_points': 2,
            'dropout': 0.1,
        },
        'pixel_decoder': {
            'type': 'CrossModalFPN',
            'num_heads': 2,
            'feedforward_dim': 32,
            'shrinks': (4, 2, 1, 1),
            'num_groups': 4,
        },
        'mask_head': {'type': 'DynamicMaskHead', 'mask_dim': 16, 'num_channels': 4},
        'criterion': criterion_cfg(),
        'data_preprocessor': {'type': 'ClipPreprocessor'},
    }
    for name, change in changes.items():
        if isinstance(change, dict) and isinstance(cfg.get(name), dict):
            cfg[name] = {**cfg[name], **change}
        else:
            cfg[name] = change
    return cfg


def tiny_model(folder: Path, seed: int = 0, **changes: object) -> ReferFormer:
    """The model in evaluation mode, every parameter random: zeros would hide mistakes."""
    init_default_scope('referformer')
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(tiny_model_cfg(folder, **changes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, 1 / fan_in**0.5)
            elif not name.endswith('norm.weight'):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def tiny_clip(size: tuple[int, int] = (64, 96), num_frames: int = 2, seed: int = 0):
    """A clip of smooth noise, uint8 (T, 3, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_frames, 3, 6, 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size, mode='bicubic').clamp(0, 255).byte()


def tiny_sample(
    size: tuple[int, int] = (64, 96), num_frames: int = 2, text: str = 'the red dog', **meta: object
) -> RVOSDataSample:
    """A sample whose object is a square that is not visible in the first frame."""
    sample = RVOSDataSample(
        metainfo={
            'text': text,
            'img_shape': size,
            'ori_shape': size,
            'video_id': 'v',
            'exp_id': '0',
            'key_frames': list(range(num_frames)),
            **meta,
        }
    )
    masks = torch.zeros(1, num_frames, *size, dtype=torch.bool)
    masks[:, 1:, 16:40, 24:56] = True
    boxes = torch.zeros(1, num_frames, 4)
    h, w = size
    boxes[:, 1:] = torch.tensor([39.5 / w, 27.5 / h, 31 / w, 23 / h])
    sample.gt_instances = InstanceData(
        labels=torch.tensor([3]), boxes=boxes, masks=masks, valid=masks.flatten(2).any(-1)
    )
    return sample


def tiny_batch(
    num_clips: int = 1, size: tuple[int, int] = (64, 96), num_frames: int = 2
) -> dict[str, list]:
    """``num_clips`` clips with their samples, as a loader gives them."""
    return {
        'inputs': [tiny_clip(size, num_frames, seed=i) for i in range(num_clips)],
        'data_samples': [
            tiny_sample(size, num_frames, f'the {WORDS[2 + i]} dog', video_id=f'v{i}')
            for i in range(num_clips)
        ],
    }
