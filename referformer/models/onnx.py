"""ONNX files of the two graphs, checked against PyTorch, and their 8-bit form.

Needs requirements/onnx.txt.
"""

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .graphs import ImageGraph, SentenceGraph

_PACKAGES = ('onnx', 'onnxruntime')
_OPSET = 20
TOLERANCE = 1e-2  # of mask logits, which reach tens
MAPS = ('stride4', 'stride8', 'stride16', 'stride32', 'stride64')
OUTPUTS = ('score', 'frame_scores', 'boxes', 'masks')


def check_packages() -> None:
    """Refuse to start without the packages that exporting needs.

    Raises:
        ModuleNotFoundError: Some are missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f'export needs {", ".join(missing)}: `pip install {" ".join(_PACKAGES)}`'
        )


@torch.no_grad()
def export(
    model: nn.Module,
    folder: Path,
    num_frames: int,
    shape: tuple[int, int],
    num_words: int,
    int8: bool = False,
) -> dict[str, Any]:
    """Write ``image.onnx`` and ``sentence.onnx``, and run them on noise beside PyTorch.

    Args:
        model: A ``ReferFormer`` on the CPU.
        num_frames: T.
        shape: (H, W) of the frames that the graphs take.
        num_words: L; shorter sentences are padded.
        int8: Also write ``*_int8.onnx``, with the weights of matrix products in 8 bits.

    Raises:
        ValueError: onnxruntime gives other numbers than PyTorch.

    Returns:
        ``differences``: the largest one of every output; with ``int8`` also its loss, time, size.
    """
    # PyTorch's exporter would put all of a graph that counts as training into that mode.
    images, sentences = ImageGraph(model).eval(), SentenceGraph(model, shape).eval()
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (num_frames, 3, *shape), generator=generator).float()
    maps = images(frames)
    names = MAPS[: len(maps)]
    tokens = _tokens(model, num_words, generator)
    graphs = {
        'image': (images, {'frames': frames}, names),
        'sentence': (sentences, {**tokens, **dict(zip(names, maps))}, OUTPUTS),
    }
    report: dict[str, Any] = {'differences': {}}
    for part, (graph, inputs, outputs) in graphs.items():
        path = folder / f'{part}.onnx'
        torch.onnx.export(
            graph,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=_OPSET,
            dynamo=False,  # five times faster than by torch.export, which works, too
        )
        expected = dict(zip(outputs, graph(*inputs.values())))
        found = run(path, inputs)
        for name, value in expected.items():
            difference = float(np.abs(found[name] - value.numpy()).max())
            report['differences'][name] = difference
            if not difference < TOLERANCE:
                raise ValueError(
                    f'{path} does not give the numbers of PyTorch: {name} differs by {difference}'
                )
        if int8:
            report.setdefault('int8', {}).update(_quantize(path, part, inputs, found))
    return report


def run(path: Path, inputs: dict[str, Tensor | np.ndarray]) -> dict[str, np.ndarray]:
    """Run a file by onnxruntime; outputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    known = {entry.name for entry in session.get_inputs()}
    inputs = {name: np.asarray(value) for name, value in inputs.items() if name in known}
    return dict(zip(names, session.run(names, inputs)))


def _quantize(
    path: Path, part: str, inputs: dict[str, Tensor], exact: dict[str, np.ndarray]
) -> dict[str, float]:
    """Write the 8-bit form, and say what it changes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_name(f'{part}_int8.onnx')
    quantize_dynamic(
        path, small, weight_type=QuantType.QInt8, op_types_to_quantize=['MatMul', 'Gemm']
    )
    measured = {f'{part}: bytes, as a share': _bytes(small) / _bytes(path)}
    seconds = {}
    for file in (path, small):
        start = time.perf_counter()
        found = run(file, inputs)
        seconds[file] = time.perf_counter() - start
    measured[f'{part}: seconds with loading, as a share'] = seconds[small] / seconds[path]
    for name, value in exact.items():
        error = np.abs(found[name] - value).mean() / max(np.abs(value).mean(), 1e-12)
        measured[f'{name}: mean error, as a share'] = float(error)
    if 'masks' in exact:
        a, b = found['masks'] > 0, exact['masks'] > 0
        measured['masks: IoU with fp32'] = float((a & b).sum() / max(1, (a | b).sum()))
    return measured


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f'{path.name}*'))


def _tokens(model: nn.Module, length: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Random tokens, the last third of which are padding."""
    encoder = model.text_encoder.encoder
    size = encoder.get_input_embeddings().num_embeddings
    ids = torch.randint(size // 2, size, (1, length), generator=generator)
    mask = (torch.arange(length) < max(1, length - length // 3)).long()[None]
    padding = getattr(encoder.config, 'pad_token_id', None) or 0
    return {'input_ids': ids.where(mask == 1, padding), 'attention_mask': mask}
