"""The device a user asks for."""

import torch


def check_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is CUDA where there is any, else the CPU.

    Raises:
        ValueError: If this machine does not have it.
    """
    available = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append('mps')
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if name not in [*available, *(kind.split(':')[0] for kind in available)]:
        raise ValueError(
            f'the device {name} does not exist here; available: {", ".join(available)}.'
        )
    return torch.device(name)
