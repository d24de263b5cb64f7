"""Names of the official ReferFormer's parameters and ours, both ways."""

import re
from collections.abc import Mapping

from torch import Tensor

# (official, ours): {i}, {j}, {k} are numbers, {r} is any rest. The first rule that fits is used.
_HEADS = [
    ('transformer.level_embed', 'transformer.level_embed'),
    ('transformer.reference_points.{r}', 'transformer.reference_points.{r}'),
    ('transformer.encoder.layers.{i}.self_attn.{r}', 'transformer.encoder.{i}.attn.{r}'),
    ('transformer.encoder.layers.{i}.norm1.{r}', 'transformer.encoder.{i}.norm_attn.{r}'),
    ('transformer.encoder.layers.{i}.norm2.{r}', 'transformer.encoder.{i}.norm_ffn.{r}'),
    ('transformer.encoder.layers.{i}.linear{r}', 'transformer.encoder.{i}.ffn.linear{r}'),
    ('transformer.decoder.layers.{i}.self_attn.{r}', 'transformer.decoder.{i}.self_attn.{r}'),
    ('transformer.decoder.layers.{i}.cross_attn.{r}', 'transformer.decoder.{i}.cross_attn.{r}'),
    ('transformer.decoder.layers.{i}.norm1.{r}', 'transformer.decoder.{i}.norm_cross.{r}'),
    ('transformer.decoder.layers.{i}.norm2.{r}', 'transformer.decoder.{i}.norm_self.{r}'),
    ('transformer.decoder.layers.{i}.norm3.{r}', 'transformer.decoder.{i}.norm_ffn.{r}'),
    ('transformer.decoder.layers.{i}.linear{r}', 'transformer.decoder.{i}.ffn.linear{r}'),
    ('bbox_embed.{i}.{r}', 'transformer.box_heads.{i}.{r}'),
    ('class_embed.{i}.{r}', 'class_heads.{i}.{r}'),
    ('query_embed.weight', 'query_embed.weight'),
    ('input_proj.{i}.{r}', 'projection.levels.{i}.{r}'),
    ('fusion_module.multihead_attn.{r}', 'fusion.attn.{r}'),
    ('resizer.fc.{r}', 'text_encoder.projection.0.{r}'),
    ('resizer.layer_norm.{r}', 'text_encoder.projection.1.{r}'),
    ('text_encoder.{r}', 'text_encoder.encoder.{r}'),
    ('pixel_decoder.mask_features.{r}', 'mask_head.mask_features.{r}'),
    ('controller.{r}', 'mask_head.controller.{r}'),
]
_STAGE = [
    ('adapter_{n}.norm.{r}', 'lateral.1.{r}'),
    ('adapter_{n}.{r}', 'lateral.0.{r}'),
    ('layer_{n}.norm.{r}', 'output.1.{r}'),
    ('layer_{n}.{r}', 'output.0.{r}'),
    ('cross_attn_{n}.self_attn.{r}', 'block.self_attn.{r}'),
    ('cross_attn_{n}.multihead_attn.{r}', 'block.word_attn.{r}'),
    ('cross_attn_{n}.norm1.{r}', 'block.norm_self.{r}'),
    ('cross_attn_{n}.norm2.{r}', 'block.norm_word.{r}'),
    ('cross_attn_{n}.norm3.{r}', 'block.norm_ffn.{r}'),
    ('cross_attn_{n}.linear{r}', 'block.ffn.linear{r}'),
]
# The stages of the FPN are counted from 1 there and from 0 here.
_FPN = [
    (
        'pixel_decoder.' + official.replace('{n}', str(n + 1)),
        f'pixel_decoder.stages.{n}.{ours}',
    )
    for n in range(4)
    for official, ours in _STAGE
]
_SWIN = [
    ('patch_embed.proj.{r}', 'patch_embed.{r}'),
    ('patch_embed.norm.{r}', 'patch_norm.{r}'),
    ('layers.{i}.blocks.{j}.mlp.fc1.{r}', 'stages.{i}.{j}.mlp.0.{r}'),
    ('layers.{i}.blocks.{j}.mlp.fc2.{r}', 'stages.{i}.{j}.mlp.2.{r}'),
    ('layers.{i}.blocks.{j}.{r}', 'stages.{i}.{j}.{r}'),
    ('layers.{i}.downsample.{r}', 'downsamples.{i}.{r}'),  # Swin
    ('downsamples.{i}.{r}', 'downsamples.{i}.{r}'),  # Video Swin
    ('norm{i}.{r}', 'out_norms.{i}.{r}'),
]
_BODY = 'backbone.0.body.'


def _compile(template: str) -> re.Pattern:
    pattern = re.escape(template)
    pattern = re.sub(r'\\{([ijk])\\}', r'(?P<\1>\\d+)', pattern)
    return re.compile(pattern.replace(r'\{r\}', '(?P<r>.+)'))


def _translate(key: str, rules: list[tuple[str, str]], to_ours: bool) -> str | None:
    for official, ours in rules:
        source, target = (official, ours) if to_ours else (ours, official)
        match = _compile(source).fullmatch(key)
        if match:
            return target.format(**match.groupdict())
    return None


def backbone_kind(keys: Mapping[str, Tensor]) -> str:
    """'resnet', 'swin' or 'video_swin', by the official names of a whole model.

    Raises:
        ValueError: The keys are not those of an official ReferFormer.
    """
    if f'{_BODY}conv1.weight' in keys:
        return 'resnet'
    if f'{_BODY}downsamples.0.reduction.weight' in keys:
        return 'video_swin'
    if f'{_BODY}layers.0.downsample.reduction.weight' in keys:
        return 'swin'
    raise ValueError('no ResNet, Swin or Video Swin under "backbone.0.body."')


def to_ours(key: str, backbone: str) -> str | None:
    """Our name of an official key; None for copies and constants that we do not store."""
    if key.startswith('transformer.decoder.bbox_embed.') or key.endswith(
        ('relative_position_index', 'embeddings.position_ids', 'num_batches_tracked')
    ):
        return None
    if key.startswith(_BODY):
        key = key.removeprefix(_BODY)
        name = key if backbone == 'resnet' else _translate(key, _SWIN, to_ours=True)
        return name and f'backbone.{name}'
    return _translate(key, _FPN + _HEADS, to_ours=True)
