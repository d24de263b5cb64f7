"""Convert published weights to this project's names, or this project's to the official ones.

%(prog)s SRC DST recognises by its names what SRC is: an official ReferFormer (any of
its backbones), a ResNet of torchvision, a Swin or a Video Swin (Kinetics) of Microsoft.
"""

import argparse
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor

from ..cli import user_errors
from ..engine.checkpoint import check_keys, read_checkpoint
from ..engine.conversion import (
    FRESH,
    KINDS,
    Conversion,
    backbone_options,
    convert_to_official,
    convert_to_ours,
    model_options,
    recognise,
    weights_of,
)
from ..engine.launch import read_config
from ..files import atomic_write, project_file
from ..registry import MODELS

_BASE = project_file('configs/_base_/models/referformer.py')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('src', type=Path, help='.pth or .safetensors')
    parser.add_argument('dst', type=Path, help='.pth or .safetensors')
    parser.add_argument(
        '--to',
        choices=['ours', 'official'],
        default='ours',
        help="whose names DST gets (default: this project's)",
    )
    parser.add_argument(
        '--config', help='refuse SRC where it does not fit the model of this config'
    )
    parser.add_argument('--overwrite', action='store_true', help='DST may be replaced')
    parser.add_argument('--verbose', action='store_true', help='one line for every tensor')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read, convert, check, report, write."""
    args = parse_args(argv)
    check_output(args.dst, args.overwrite)
    config = read_config(args.config) if args.config else None
    state, others = weights_of(read_checkpoint(args.src), str(args.src))
    print(f'{args.src}: {KINDS[recognise(state)]}, {len(state)} tensors')

    result = (convert_to_ours if args.to == 'ours' else convert_to_official)(state)
    ours = result.state if args.to == 'ours' else state
    expected = expected_weights(ours, config)
    check_keys(expected, {'state_dict': ours}, args.src, fresh=FRESH if is_backbone(ours) else ())
    unfilled = [name for name in expected if name not in ours]
    result.dropped.update(dict.fromkeys(others, 'the state of the training'))
    print(report(result, unfilled, args.verbose))
    atomic_write(args.dst, encode(result.state, args))
    print(f'{args.dst}: {len(result.state)} tensors, names: {args.to}')


def check_output(dst: Path, overwrite: bool) -> None:
    """Refuse what could not be written, or would replace something."""
    if dst.suffix not in ('.pth', '.safetensors'):
        raise ValueError(f'{dst}: name a file that ends in .pth or .safetensors')
    if dst.is_dir():
        raise ValueError(f'{dst} is a folder; name a file')
    if dst.exists() and not overwrite:
        raise FileExistsError(f'{dst} is there already; name another file, or add --overwrite')


def is_backbone(state: Mapping[str, Tensor]) -> bool:
    """Whether these weights of ours are a backbone without the rest."""
    return 'transformer.level_embed' not in state


def expected_weights(ours: Mapping[str, Tensor], config: Config | None) -> dict[str, Tensor]:
    """Names and shapes of the model of the config, or of that which the weights themselves tell."""
    if config is None:
        config = Config.fromfile(_BASE)
        if is_backbone(ours):
            config.model.backbone = backbone_options(ours, prefix='')
        else:
            config.merge_from_dict({'model': model_options(ours)})
    model = config.model
    init_default_scope('referformer')
    with torch.device('meta'):
        return MODELS.build(model.backbone if is_backbone(ours) else model).state_dict()


def report(result: Conversion, unfilled: Sequence[str], verbose: bool) -> str:
    """Tables of what came from where, what was left out and why, what nothing was found for."""
    lines = [
        '',
        'from -> to',
        *_table([(origin, name) for name, origin in result.origins.items()], verbose),
    ]
    if result.dropped:
        lines += ['', 'not used', *_table(list(result.dropped.items()), verbose)]
    if unfilled:
        lines += [
            '',
            'not in the source, left at its initial value',
            *_table([(name, '') for name in unfilled], verbose),
        ]
    return '\n'.join([*lines, ''])


def _table(rows: Sequence[tuple[str, str]], verbose: bool) -> list[str]:
    """Two columns; unless verbose, names that differ in numbers or share an ending are one line."""
    if not verbose:
        merged = Counter(_shorten(*row) for row in rows)
        rows = [(f'{count:5} x {left}', right) for (left, right), count in merged.items()]
    width = max(len(left) for left, _ in rows)
    return [f'  {left:<{width}}  {right}'.rstrip() for left, right in rows]


def _shorten(left: str, right: str) -> tuple[str, str]:
    left, right = (re.sub(r'(?<=[._])\d+(?=\.)', '*', name) for name in (left, right))
    if left == right:
        return left, right
    ours, theirs = left.split('.'), right.split('.')
    while len(ours) > 1 and len(theirs) > 1 and ours[-1] == theirs[-1]:
        del ours[-1], theirs[-1]
    cut = '.*' if len('.'.join(ours)) < len(left) else ''
    return '.'.join(ours) + cut, '.'.join(theirs) + cut


def encode(state: dict[str, Tensor], args: argparse.Namespace) -> bytes:
    """The bytes of the file."""
    if args.dst.suffix == '.safetensors':
        return safetensors.torch.save(state, metadata={'format': 'pt', 'source': args.src.name})
    content = {'model': state}
    if args.to == 'ours':
        content = {'meta': {'source': args.src.name}, 'state_dict': state}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
