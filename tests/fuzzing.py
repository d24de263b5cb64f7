"""What the fuzzers share: inputs damaged by chance, readers that run in a child process."""

import json
import math
import multiprocessing
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from referformer.cli import explain

LIMIT = 10.0  # seconds for one input
_MEMORY = 6 << 30  # bytes of address space beyond those that the child starts with


class Outcome(NamedTuple):
    """What became of one input: 'accepted', 'refused', 'bug', 'crash' or 'hang'."""

    kind: str
    detail: Any = None


class Child:
    """Calls a function in a process of its own, so that it may crash, hang or eat memory.

    Args:
        function: What reads an input.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.process = None

    def __enter__(self) -> 'Child':
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()

    def __call__(self, *arguments: Any) -> Outcome:
        """What became of it; the process goes on to the next input where it can."""
        if self.process is None:
            context = multiprocessing.get_context('fork')
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=_serve, args=(self.function, other), daemon=True)
            self.process.start()
            other.close()
        try:
            self.pipe.send(arguments)
            if self.pipe.poll(LIMIT):
                return self.pipe.recv()
            outcome = Outcome('hang')
        except (EOFError, OSError):
            self.process.join()
            outcome = Outcome('crash', self.process.exitcode)
        self._stop()
        return outcome

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def _serve(function: Callable[..., Any], pipe: Any) -> None:
    import resource

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with open('/proc/self/statm') as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        try:
            outcome = Outcome('accepted', function(*arguments))
        except Exception as error:
            message, code = explain(error)
            outcome = Outcome('refused', message)
            if code != 2:
                outcome = Outcome('bug', ''.join(traceback.format_exception(error)))
            elif message.startswith('out of memory'):
                outcome = Outcome('bug', message)
        pipe.send(outcome)


class Tally:
    """Counts outcomes, and keeps those that must not be."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def add(self, outcome: Outcome, what: str) -> None:
        """Count one; ``what`` says how to make it again."""
        self.counts[outcome.kind] += 1
        if outcome.kind not in ('accepted', 'refused'):
            self.faults.append(f'{what}: {outcome.kind} {outcome.detail or ""}')

    def check(self) -> None:
        """Fail where there was a fault."""
        print(dict(self.counts), file=sys.stderr)
        assert not self.faults, '\n'.join([f'{len(self.faults)} faults', *self.faults[:5]])


def damage(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, moved, removed or put in; mostly few, because few get far."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        at = rng.randrange(len(data))
        if rng.random() < 0.3:
            at = rng.randrange(min(len(data), 64))  # heads are read first
        length = rng.choice((1, 1, 2, 4, 8, 64, 512))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = rng.randbytes(length)
            case 5:
                start = rng.randrange(len(data))
                data[at : at + length] = data[start : start + length]
            case 6:  # a number of four bytes
                value = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 65535, 10**8))
                order = rng.choice(('big', 'little'))
                data[at : at + 4] = value.to_bytes(4, order)
    return bytes(data)


def _nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == 'list' else {'a': value}
    return value


# Callables where making one takes long, or JSON cannot say it.
JUNK: Sequence[Any] = (
    None, True, False, 0, -1, 1, 255, 256, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e308, -0.0,
    math.nan, math.inf, -math.inf, '', ' ', '.', '..', '/', '/tmp/x', '../x', 'a/b', 'a\\b', 'a\0b',
    'a\nb', '0', '-1', '00', '1e3', 'NaN', '٣', 'é', '\ud800', '\udfff', 'x' * 300, 'all',
    'swapped', 'null', [], [[]], [None], [1, 2], ['a', 'a'], {}, {'': ''}, {'a': None}, {'1': {}},
    [[1, 2, 3, 4, 5, 6]], [[1e9] * 6], {'size': [1, 1], 'counts': '1'},
    {'size': [2**40, 2**40], 'counts': [2**80]}, lambda: _nested(50, 'list'),
    lambda: _nested(90, 'dict'),
)  # fmt: skip


def mutate(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one or a few of its parts replaced, removed, doubled, renamed."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        path = _random_path(value, rng)
        if not path:
            return _junk(rng)
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        key = path[-1]
        match rng.randrange(6):
            case 0 | 1 | 2:
                parent[key] = _junk(rng)
            case 3:
                del parent[key]
            case 4:
                if isinstance(parent, list):
                    parent.insert(key, parent[key])
                else:
                    parent[str(_junk(rng))[:400]] = parent[key]
            case 5:  # a part of elsewhere
                other = value
                for step in _random_path(value, rng):
                    other = other[step]
                parent[key] = json.loads(json.dumps(other))
    return value


def _junk(rng: random.Random) -> Any:
    value = rng.choice(JUNK)
    return value() if callable(value) else value


def _random_path(value: Any, rng: random.Random) -> list:
    path: list = []
    while isinstance(value, (dict, list)) and len(value) and (not path or rng.random() < 0.85):
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        path.append(key)
        value = value[key]
    return path


def write_json(value: Any, rng: random.Random) -> bytes:
    """The bytes of a JSON file, now and then damaged as text."""
    text = json.dumps(value).encode()
    if rng.random() < 0.15:
        text = damage(text, rng)
    if rng.random() < 0.01:
        text = rng.choice((b'[', b'{"videos":', b'{"a":[')) * 100_000
    return text
