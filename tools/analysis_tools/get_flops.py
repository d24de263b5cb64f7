#!/usr/bin/env python
"""Count parameters and operations of a model: get_flops.py CONFIG [--shape H W] [--frames T].

One sentence about one clip is tested. A multiply-add counts as two operations, as torch counts
(mmengine and most papers: as one). Counted are matrix products, convolutions and attention, the
sampling of deformable attention too.
"""

import argparse
from collections import Counter
from collections.abc import Sequence

import torch
from mmengine.registry import init_default_scope
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from referformer.cli import OptionsAction, user_errors
from referformer.engine.launch import read_config
from referformer.models import MSDeformAttn
from referformer.registry import MODELS
from referformer.structures import RVOSDataSample


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


def count(
    model: torch.nn.Module, shape: tuple[int, int], num_frames: int, num_words: int
) -> dict[str, int]:
    """Operations of every part of the model in one prediction, and under ``total`` of all."""
    tokens = torch.ones(1, num_words, dtype=torch.int64)
    tokens = {'input_ids': tokens, 'attention_mask': tokens}
    model.text_encoder._tokenizer = lambda texts, **options: {
        name: value.expand(len(texts), -1) for name, value in tokens.items()
    }
    sample = RVOSDataSample(metainfo={'text': 'a', 'img_shape': shape, 'ori_shape': shape})
    sampling = count_sampling(model)
    counter = FlopCounterMode(display=False)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, which torch does not count
    # Nor does it count CPUs' fused attention: this one is of matrix products.
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, num_frames, 3, *shape), [sample], mode='predict')
    torch.backends.mha.set_fastpath_enabled(fast_path)
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    kind = type(model).__name__
    parts = {
        name: counts.get(f'{kind}.{name}', counts.get(name, 0)) + sampling[name]
        for name, part in model.named_children()
        if any(True for _ in part.parameters())
    }
    return parts | {'total': counter.get_total_flops() + sampling.total()}


def count_sampling(model: torch.nn.Module) -> Counter:
    """Operations of deformable attention, by part of the model; filled as the model runs."""
    found = Counter()
    for name, module in model.named_modules():
        if isinstance(module, MSDeformAttn):

            def add(module, inputs, output, name=name) -> None:
                # Each sample is four pixels and its own weight: five products and sums.
                samples = output.numel() * module.num_levels * module.num_points
                found[name.split('.')[0]] += 10 * samples

            module.register_forward_hook(add)
    return found


if __name__ == '__main__':
    main()
