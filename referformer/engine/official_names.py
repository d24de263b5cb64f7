"""Names of the official ReferFormer's parameters and ours, both ways.

A backbone is 'resnet' (the same names on both sides), 'efficientnet_lite' (published on its own
only), 'swin' or 'video_swin'.
"""

import re
from functools import cache

# (official, ours): {i} and {j} are numbers, {r} is any rest. The first rule that fits is used.
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
]
# Blocks are counted through there, within their stage here.
_LITE_BLOCKS = [
    (stage, j) for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for j in range(count)
]
_EFFICIENTNET_LITE = [
    ('_conv_stem.{r}', 'stem.conv.{r}'),
    ('_bn0.{r}', 'stem.norm.{r}'),
    *(
        (f'_blocks.{i}.{theirs}.{{r}}', f'stages.{stage}.{j}.{ours}.{{r}}')
        for i, (stage, j) in enumerate(_LITE_BLOCKS)
        for theirs, ours in (
            ('_expand_conv', 'expand.conv'),
            ('_bn0', 'expand.norm'),
            ('_depthwise_conv', 'depthwise.conv'),
            ('_bn1', 'depthwise.norm'),
            ('_project_conv', 'project.conv'),
            ('_bn2', 'project.norm'),
        )
    ),
]
_DOWN = 'layers.{i}.downsample.{r}', 'downsamples.{i}.{r}'
_BACKBONES = {
    'resnet': [('{r}', '{r}')],
    # Published on its own, Swin has no norms after the stages, and Video Swin has Swin's names.
    'swin': [*_SWIN, _DOWN, ('norm{i}.{r}', 'out_norms.{i}.{r}')],
    'efficientnet_lite': _EFFICIENTNET_LITE,
    'video_swin': [*_SWIN, ('downsamples.{i}.{r}', 'downsamples.{i}.{r}'), _DOWN],
}
_BODY = 'backbone.0.body.'


def to_ours(key: str, backbone: str) -> str | None:
    """Our name of a key of an official ReferFormer; None if it has no counterpart."""
    if key.startswith(_BODY):
        name = backbone_to_ours(key.removeprefix(_BODY), backbone)
        return name and f'backbone.{name}'
    return _translate(key, _official_first('heads'))


def backbone_to_ours(key: str, backbone: str) -> str | None:
    """Our name of a key of a backbone that was published on its own; None if it has none."""
    return _translate(key, _official_first(backbone))


def to_official(key: str, backbone: str) -> str | None:
    """The official name of one of our keys; None if it has no counterpart."""
    if key.startswith('backbone.'):
        name = _translate(key.removeprefix('backbone.'), _ours_first(backbone))
        return name and _BODY + name
    return _translate(key, _ours_first('heads'))


_Rules = list[tuple[re.Pattern, str]]


def _translate(key: str, rules: _Rules) -> str | None:
    for pattern, target in rules:
        match = pattern.fullmatch(key)
        if match:
            return target.format(**match.groupdict())
    return None


@cache
def _official_first(part: str) -> _Rules:
    return [(_compile(official), ours) for official, ours in _rules(part)]


@cache
def _ours_first(part: str) -> _Rules:
    return [(_compile(ours), official) for official, ours in _rules(part)]


def _rules(part: str) -> list[tuple[str, str]]:
    return _FPN + _HEADS if part == 'heads' else _BACKBONES[part]


def _compile(template: str) -> re.Pattern:
    pattern = re.sub(r'\\{([ij])\\}', r'(?P<\1>\\d+)', re.escape(template))
    return re.compile(pattern.replace(r'\{r\}', '(?P<r>.+)'))
