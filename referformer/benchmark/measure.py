"""Time, memory, and what the machine could do.

Letters: R rounds of a step.
"""

import ctypes
import gc
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STATUS = Path('/proc/self/status')
_SIDE = 1024  # of the matrices that the machine's rate is measured with


def measure(
    step: Callable[[], Any],
    device: str = 'cpu',
    warmup: int = 1,
    repeats: int = 5,
    parts: Mapping[str, list[nn.Module]] | None = None,
) -> dict[str, Any]:
    """Repeat a step, which makes its own input, so that this counts as memory.

    Args:
        step: What is measured.
        device: On which the step works; a GPU is waited for.
        warmup: First rounds, which do not count.
        repeats: R.
        parts: Modules whose time is taken as well, of every name together. Where a GPU works this
            waits for it at each of them, so they have rounds of their own.

    Returns:
        ``seconds``, ``cpu_seconds`` and ``parts`` (of a round), each as ``summary`` gives it;
        ``memory``: bytes at the peak ``beyond`` what there was before the first round, and in
        ``total``.
    """
    gc.collect()
    _give_back()
    before = _memory(device, reset=True)
    for _ in range(warmup):
        step()
    seconds, processor = [], []
    for _ in range(repeats):
        _wait(device)
        start, cpu = time.perf_counter(), time.process_time()
        step()
        _wait(device)
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - cpu)
    peak = _memory(device)
    found = {'seconds': summary(seconds), 'cpu_seconds': summary(processor)}
    if parts:
        rounds = []
        for _ in range(repeats):
            with timed(parts, device) as spent:
                step()
            rounds.append(spent)
        found['parts'] = {name: summary([spent[name] for spent in rounds]) for name in parts}
    return found | {'memory': {'beyond': peak - before, 'total': peak}}


def in_turn(
    steps: Mapping[str, Callable[[], Any]], repeats: int, device: str = 'cpu'
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of several steps in turn, so that other work on the machine slows all of them alike.

    Returns:
        The seconds of every round but the first, and the last results.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    results = {}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            _wait(device)
            start = time.perf_counter()
            results[name] = step()
            _wait(device)
            if turn:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    return times, results


def summary(values: list[float]) -> dict[str, float]:
    """Median, quartiles and number of what was measured."""
    low, middle, high = (
        statistics.quantiles(values, method='inclusive') if len(values) > 1 else (values * 3)
    )
    return {'median': middle, 'low': low, 'high': high, 'repeats': len(values)}


@contextmanager
def timed(parts: Mapping[str, list[nn.Module]], device: str) -> Iterator[dict[str, float]]:
    """Sum the seconds that modules take, by name, while the context lasts."""
    spent = dict.fromkeys(parts, 0.0)
    starts: dict[nn.Module, float] = {}
    hooks = []

    def begin(module: nn.Module, inputs: tuple) -> None:
        _wait(device)
        starts[module] = time.perf_counter()

    for name, modules in parts.items():

        def end(module: nn.Module, inputs: tuple, output: Any, name: str = name) -> None:
            _wait(device)
            spent[name] += time.perf_counter() - starts[module]

        for module in modules:
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def matmul_rates(device: str = 'cpu') -> dict[str, float]:
    """GFLOP/s of a product of two 1024 x 1024 matrices, the best of five, by library and type."""
    a, b = (torch.randn(_SIDE, _SIDE, device=device) for _ in range(2))
    forms: dict[str, Callable[[], Tensor]] = {'fp32': lambda: a @ b}
    if torch.device(device).type == 'cpu':
        forms = {'fp32 (PyTorch)': forms['fp32']}
        if torch.backends.mkldnn.is_available():
            # Convolutions are oneDNN's: one of 1x1 is the same product.
            maps = a.t()[None, :, :, None].contiguous(memory_format=torch.channels_last)
            kernels = b[..., None, None].contiguous(memory_format=torch.channels_last)
            forms['fp32 (oneDNN)'] = lambda: F.conv2d(maps, kernels)
    half, other = a.bfloat16(), b.bfloat16()
    forms['bf16'] = lambda: F.linear(half, other)
    rates = {}
    for name, form in forms.items():
        form()
        times = []
        for _ in range(5):
            _wait(device)
            start = time.perf_counter()
            form()
            _wait(device)
            times.append(time.perf_counter() - start)
        rates[name] = 2 * _SIDE**3 / min(times) / 1e9
    return rates


def circumstances(device: str = 'cpu') -> dict[str, Any]:
    """Date, hardware and software, to stand beside figures."""
    kind = torch.device(device).type
    return {
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
        'device': torch.cuda.get_device_name(device) if kind == 'cuda' else _processor(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'threads': torch.get_num_threads(),
        'load': round(
            os.getloadavg()[0], 2
        ),  # of others: above 1 the seconds are not a quiet hour's
        'torch': torch.__version__,
        'matmul_gflops': matmul_rates(device),
    }


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(': ', 1)[1] for line in lines if line.startswith('model name')]
    return f'{len(names)} x {names[0]}' if names else platform.processor() or platform.machine()


def _wait(device: str) -> None:
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)


def _give_back() -> None:
    """Let the allocator return what earlier steps have left."""
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL(None).malloc_trim(0)


def _memory(device: str, reset: bool = False) -> int:
    """Bytes: the peak since the last reset, or with ``reset`` what is used now, from where on."""
    if torch.device(device).type == 'cuda':
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    if not _STATUS.exists():  # no Linux: the peak of the process, from its start
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if reset:
        Path('/proc/self/clear_refs').write_text('5')
    values = dict(line.split(':', 1) for line in _STATUS.read_text().splitlines())
    return int(values['VmHWM'].split()[0]) * 1024
