"""Operations of a model, counted without running it: on the ``meta`` device."""

from collections import Counter
from copy import deepcopy

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..models import MSDeformAttn
from ..structures import RVOSDataSample


def count(
    model: nn.Module,
    shape: tuple[int, int],
    num_frames: int,
    num_words: int = 10,
    sentences: int = 1,
) -> dict[str, int]:
    """Operations of every part of the model in one prediction, and under ``total`` of all.

    A multiply-add counts as two. Counted are matrix products, convolutions and attention, the
    sampling of deformable attention too.

    Args:
        shape: (H, W).
        num_frames: T.
        num_words: Tokens of a sentence.
        sentences: About the one clip.
    """
    model = deepcopy(model).to('meta')
    tokens = torch.ones(1, num_words, dtype=torch.int64)
    model.text_encoder._tokenizer = lambda texts, **options: dict.fromkeys(
        ('input_ids', 'attention_mask'), tokens.expand(len(texts), -1)
    )
    meta = {'text': 'a', 'video_id': 'v', 'img_shape': shape, 'ori_shape': shape}
    samples = [RVOSDataSample(metainfo=meta) for _ in range(sentences)]
    sampling = _count_sampling(model)
    counter = FlopCounterMode(display=False)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, which torch does not count
    # Nor does it count CPUs' fused attention: this one is of matrix products.
    with counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.empty(1, num_frames, 3, *shape, device='meta'), samples, mode='predict')
    torch.backends.mha.set_fastpath_enabled(fast_path)
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    kind = type(model).__name__
    parts = {
        name: counts.get(f'{kind}.{name}', counts.get(name, 0)) + sampling[name]
        for name, part in model.named_children()
        if any(True for _ in part.parameters())
    }
    return parts | {'total': counter.get_total_flops() + sampling.total()}


def _count_sampling(model: nn.Module) -> Counter:
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
