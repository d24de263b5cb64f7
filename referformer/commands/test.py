"""Test a checkpoint: `%(prog)s CONFIG [CHECKPOINT]`, with the options OpenMMLab users know."""

import argparse
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from ..cli import user_errors
from ..engine.checkpoint import load_checkpoint
from ..engine.device import check_device
from ..engine.launch import (
    add_run_arguments,
    check_types,
    choose_device,
    load_config,
    read_tokenizer,
    set_up_launcher,
)
from ..files import atomic_open, atomic_write, check_folder
from ..inference import DEFAULT_WINDOW, MODES, choose_mode
from ..models.precision import DTYPES, check_dtype
from ..zoo.weights import find_checkpoint, settle_tokenizer


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.replace('`', ''))
    parser.add_argument(
        'config', help='config file, name of a model (referformer list), or published folder'
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='.pth or .safetensors, an address, or a name (default: that of the named model)',
    )
    parser.add_argument('--work-dir', help='for logs; default work_dirs/<config name>/test')
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics there')
    parser.add_argument(
        '--show-dir',
        help='draw some predictions beside the truth and write them there; how many: '
        '--cfg-options default_hooks.visualization.{interval,max_samples}',
    )
    parser.add_argument(
        '--dump',
        metavar='FILE.zip',
        help='write the predicted masks there, as benchmarks take them; score and '
        'analyze_results.py read it: --pred FILE.zip',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='--out, --dump and --show-dir may replace earlier results',
    )
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        help='what the model computes in: fp32 (exact), bf16, fp16 (CUDA); default: config, fp32',
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        help='whole: every clip as it is; window, stream: in independent, or overlapping and '
        'linked windows; default: config',
    )
    parser.add_argument(
        '--window', type=int, help=f'frames of a window (default with --mode: {DEFAULT_WINDOW})'
    )
    add_run_arguments(parser)
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check what can be checked, then test and report."""
    args = parse_args(argv)
    choose_device(args.device)
    cfg = load_config(args.config, args.cfg_options, args.work_dir, 'test')
    cfg.merge_from_dict(prediction_options(args))
    if cfg.get('test_cfg') is None or cfg.get('test_dataloader') is None:
        raise ValueError(f'{args.config} has no test_cfg and test_dataloader: nothing to test')
    if Path(cfg.work_dir, 'last_checkpoint').exists():
        raise ValueError(
            f'{cfg.work_dir} is the folder of a training, whose config a test would replace; '
            'name another --work-dir'
        )
    check_outputs(args.out, args.show_dir, args.overwrite, args.dump)
    checkpoint = find_checkpoint(args.config, args.checkpoint)
    if checkpoint is None:
        raise ValueError(f'name a checkpoint: no weights come with {args.config}')
    cfg.load_from, cfg.resume = None, False  # the Runner would load whatever fits
    # MMEngine would build the training for its number of iterations: testing needs no such data.
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler'):
        cfg[key] = None
    settle_tokenizer(cfg)
    dumped = Path(cfg.work_dir, 'dump')
    if args.dump:
        add_dump(cfg, dumped)
    set_up_launcher(cfg, args.launcher, args.local_rank)
    check_types(cfg)
    with drawn_into(args.show_dir) as folder:
        if folder:
            hooks = cfg.setdefault('default_hooks', {})
            hooks.setdefault('visualization', {'type': 'VisualizationHook'})
            hooks['visualization']['out_dir'] = folder
        runner = Runner.from_cfg(cfg)
        load_checkpoint(runner.model, checkpoint)
        read_tokenizer(runner.model)
        metrics = {name: plain_number(value) for name, value in runner.test().items()}
    if not is_main_process():
        return
    print(table(metrics))
    if args.out:
        result = {'config': args.config, 'checkpoint': str(checkpoint), 'metrics': metrics}
        atomic_write(args.out, json.dumps(result, indent=2).encode())
        print(f'metrics: {args.out}')
    if args.dump:
        with atomic_open(args.dump) as file, (dumped / 'submission.zip').open('rb') as archive:
            shutil.copyfileobj(archive, file)
        shutil.rmtree(dumped)
        print(f'predictions: {args.dump}')
    if args.show_dir:
        print(f'drawn predictions: {args.show_dir}')


def prediction_options(args: argparse.Namespace) -> dict[str, object]:
    """Changes to the config that ``--dtype``, ``--mode`` and ``--window`` stand for.

    Raises:
        ValueError: They contradict each other, or the device cannot compute in this type.
    """
    changes: dict[str, object] = {}
    if args.dtype:
        check_dtype(args.dtype, check_device(args.device))
        changes['dtype'] = args.dtype
    if args.mode or args.window is not None:
        mode = choose_mode(args.mode, args.window)
        changes |= {'window': mode.window, 'stream': mode.name == 'stream'}
    return {f'model.test_cfg.{key}': value for key, value in changes.items()}


def add_dump(cfg: Config, folder: Path) -> None:
    """Add a metric that writes the masks to a folder.

    Raises:
        ValueError: The test is one of images, where every query has a mask.
    """
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    if any(metric.get('type') == 'ReferringMetric' for metric in metrics):
        raise ValueError(
            '--dump is for videos with one mask per sentence; this config tests images'
        )
    dump = {'type': 'SubmissionMetric', 'out_dir': str(folder), 'overwrite': True, 'prefix': 'dump'}
    cfg.test_evaluator = [*metrics, dump]


def check_outputs(
    out: str | None, show_dir: str | None, overwrite: bool, dump: str | None = None
) -> None:
    """Refuse what could not be written, or would replace earlier results.

    Raises:
        ValueError: ``out`` is no JSON file, or ``dump`` no archive.
        FileExistsError: Results are there.
        OSError: A folder on the way is a file, or must not be written to.
    """
    for option, path, suffix in (('--out', out, '.json'), ('--dump', dump, '.zip')):
        if path and Path(path).suffix != suffix:
            raise ValueError(f'{option} {path}: name a file that ends in {suffix}')
        if path and Path(path).is_dir():
            raise ValueError(f'{option} {path} is a folder; name a file')
        if path:
            check_folder(Path(path).parent)
    if show_dir:
        check_folder(show_dir)
    there = [path for path in (out, dump) if path and Path(path).exists()]
    if show_dir and Path(show_dir).is_dir() and any(Path(show_dir).iterdir()):
        there.append(show_dir)
    if there and not overwrite:
        raise FileExistsError(
            f'{" and ".join(there)} already there with results; name another place, '
            'or add --overwrite'
        )


@contextmanager
def drawn_into(show_dir: str | None) -> Iterator[str | None]:
    """A folder to draw into, of which the content moves to ``show_dir`` when the test is over.

    Where the test fails nothing is left; what ``show_dir`` has under other names is kept.
    """
    if not show_dir or not is_main_process():  # the main process draws
        yield show_dir
        return
    target = Path(show_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{target.name}.', dir=target.parent) as folder:
        yield folder
        target.mkdir(exist_ok=True)
        for drawn in Path(folder).iterdir():
            if (target / drawn.name).is_dir():
                shutil.rmtree(target / drawn.name)
            drawn.rename(target / drawn.name)


def plain_number(value: object) -> float | None:
    """A metric as JSON has it: a number, or None where it is not defined (nan)."""
    number = float(value)
    return number if math.isfinite(number) else None


def table(metrics: Mapping[str, float | None]) -> str:
    """Names and values in two columns."""
    width = max([len(name) for name in metrics], default=0)
    rows = [
        f'  {name:<{width}}  {"-" if value is None else format(value, ".4f"):>8}'
        for name, value in metrics.items()
    ]
    return '\n'.join(['', 'metrics', *rows])
