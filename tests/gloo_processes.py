"""Runs a test's function in several processes on the CPU."""

import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def run_processes(function: Callable, world_size: int, *args: Any) -> None:
    """Call ``function(rank, world_size, *args)`` in processes of one gloo group, and wait."""
    mp.spawn(_start, (function, world_size, free_port(), args), nprocs=world_size)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def _start(rank: int, function: Callable, world_size: int, port: int, args: tuple) -> None:
    torch.set_num_threads(1)
    address = f'tcp://127.0.0.1:{port}'
    torch.distributed.init_process_group(
        'gloo', init_method=address, rank=rank, world_size=world_size
    )
    function(rank, world_size, *args)
    torch.distributed.destroy_process_group()


def share(items: list, rank: int, world_size: int) -> list:
    """What the default sampler deals to one process; it repeats the first items at the end."""
    per_rank = -(-len(items) // world_size)
    return [items[(rank + i * world_size) % len(items)] for i in range(per_rank)]
