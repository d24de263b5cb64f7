#!/usr/bin/env python
"""Count parameters and operations of a model: get_flops.py CONFIG [--shape H W] [--frames T].

One sentence about one clip is tested. A multiply-add counts as two operations, as torch counts
(mmengine and most papers: as one). Counted are matrix products, convolutions and attention, the
sampling of deformable attention too.
"""

import argparse
from collections.abc import Sequence

from mmengine.registry import init_default_scope

from referformer.benchmark.flops import count
from referformer.cli import OptionsAction, user_errors
from referformer.engine.launch import read_config
from referformer.registry import MODELS


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Build, run once, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or name of a model of the package')
    parser.add_argument('--shape', nargs=2, type=int, default=(360, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=5, metavar='T')
    parser.add_argument('--words', type=int, default=10, metavar='L', help='tokens of the sentence')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if min(*args.shape, args.frames, args.words) < 1:
        raise ValueError('--shape, --frames and --words must be at least 1')
    config = read_config(args.config, args.cfg_options)
    if config.model.type != 'ReferFormer':
        raise ValueError(f'{args.config} is a {config.model.type}, which reads no sentences')
    init_default_scope('referformer')
    model = MODELS.build(config.model).eval()
    flops = count(model, tuple(args.shape), args.frames, args.words)
    print(f'{args.frames} frames of {args.shape[0]} x {args.shape[1]}, {args.words} tokens')
    print(f'{"part":<16}{"parameters":>14}{"GFLOP":>12}{"a frame":>12}')
    for name, value in flops.items():
        part = model if name == 'total' else getattr(model, name)
        size = sum(p.numel() for p in part.parameters())
        number = value / 1e9
        print(f'{name:<16}{size:>14,}{number:>12.2f}{number / args.frames:>12.2f}')


if __name__ == '__main__':
    main()
