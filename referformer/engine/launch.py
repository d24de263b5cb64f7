"""What train.py and test.py do before MMEngine's Runner takes over."""

import argparse
import atexit
import gc
import os
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import utils as device_utils
from mmengine.model import is_model_wrapper
from torch import nn

from ..cli import OptionsAction, unknown_type
from ..files import advised, check_folder
from ..registry import OPTIMIZERS
from ..zoo import find_config, list_models
from ..zoo.download import find_tokenizer
from ..zoo.names import unknown_name
from .device import check_device

_LOGGERS = {'TensorboardVisBackend': 'tensorboard', 'WandbVisBackend': 'wandb'}
_DICTS = ('_dataloader', '_cfg', '_wrapper', 'default_hooks', 'visualizer', 'log_processor')
LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that training and testing share."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='override settings of the config: a.b=1 c="[1,2]"',
    )
    parser.add_argument('--device', default='auto', help='auto (default), cpu, cuda or cuda:N')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, help='set by old launchers')


def load_config(
    path: str | Path,
    options: dict | None = None,
    work_dir: str | None = None,
    subfolder: str = '',
) -> Config:
    """Read a config file, apply ``--cfg-options``, and settle the folder for logs and checkpoints.

    Args:
        path: A Python config, or the name or folder of a model.
        options: Overrides by dotted key.
        work_dir: Wins over the config's ``work_dir``; default ``./work_dirs/<name of the config>``.
        subfolder: Is added to the config's or the default folder, not to ``work_dir``. MMEngine
            writes the config as it runs to the work dir, and a test must not replace that of the
            training.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
        OSError: Nothing can be written to the folder.
    """
    cfg = read_config(path, options)
    default = Path(cfg.get('work_dir') or Path('work_dirs', Path(path).stem), subfolder)
    cfg.work_dir = work_dir or str(default)
    check_folder(cfg.work_dir)
    return cfg


def read_config(path: str | Path, options: dict | None = None) -> Config:
    """Read a config file, or that of a model's name or folder, and apply overrides by dotted key.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read.
    """
    path = find_config(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'config {path} does not exist, and no model has this name; '
            + unknown_name(str(path), list_models())
        )
    try:
        cfg = Config.fromfile(str(path))
        cfg.merge_from_dict(options or {})
    except Exception as error:  # a config is Python: anything can go wrong in it
        raise ValueError(f'config {path}: {type(error).__name__}: {error}') from error
    for key, value in cfg.items():
        if (key == 'model' or key.endswith(_DICTS)) and not isinstance(value, dict | None):
            raise ValueError(f'config {path}: {key} must be a dict or None, not {value!r}')
    return cfg


def check_types(cfg: Config) -> None:
    """Refuse an unknown optimiser, which MMEngine does not name, and loggers that are missing.

    Raises:
        ValueError: Naming the optimiser.
        ModuleNotFoundError: Naming the package of a ``vis_backend`` that is not installed.
    """
    kind = (cfg.get('optim_wrapper') or {}).get('optimizer', {}).get('type')
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        raise ValueError(unknown_type(kind, OPTIMIZERS.name))
    for backend in (cfg.get('visualizer') or {}).get('vis_backends') or []:
        package = _LOGGERS.get(str(backend['type']).split('.')[-1])
        if package and find_spec(package) is None:
            raise ModuleNotFoundError(
                f'the visualizer of the config writes to {backend["type"]}, which needs {package}: '
                f'pip install {package}'
            )


def read_tokenizer(model: nn.Module) -> None:
    """Read the tokenizer, which a model would do at its first sentence only.

    Raises:
        OSError: It is not there.
    """
    model = model.module if is_model_wrapper(model) else model
    encoder = getattr(model, 'text_encoder', None)
    if hasattr(encoder, 'tokenizer_name'):
        encoder.tokenizer_name = find_tokenizer(encoder.tokenizer_name)
    _ = getattr(encoder, 'tokenizer', None)


def choose_device(name: str) -> None:
    """Make MMEngine use this device.

    Args:
        name: 'cpu', 'cuda', 'cuda:1', ...; with 'auto' it takes a GPU where there is one.

    Raises:
        ValueError: This machine has no such device.
    """
    if name == 'auto':
        return
    device = torch.device(check_device(name))
    # The Runner has no argument for the device: it asks mmengine.device, which decides at import.
    device_utils.DEVICE = device.type
    if device.index is not None:
        torch.cuda.set_device(device)


def set_up_launcher(cfg: Config, launcher: str, local_rank: int | None = None) -> None:
    """Prepare ``cfg`` for one of ``LAUNCHERS``; without a GPU the processes talk through gloo.

    Raises:
        ValueError: The processes were not started by this launcher, or it needs GPUs.
    """
    cfg.launcher = launcher
    if local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none':
        return
    if launcher == 'pytorch' and not {'RANK', 'LOCAL_RANK', 'WORLD_SIZE'} <= set(os.environ):
        raise ValueError(
            '--launcher pytorch needs RANK, LOCAL_RANK and WORLD_SIZE in the environment; '
            f'start it with torchrun, {advised("tools/dist_train.sh")} or dist_test.sh beside it'
        )
    if device_utils.get_device() != 'cpu':
        return
    if launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs, this machine has none; use pytorch')
    # MMEngine's own set-up asks for a CUDA device per process, in init_dist and the model wrapper.
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
        atexit.register(_end_processes)
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }


def _end_processes() -> None:
    """Let go of the wrapped model, then of its group: gloo's threads abort a process that ends."""
    gc.collect()
    torch.distributed.destroy_process_group()
