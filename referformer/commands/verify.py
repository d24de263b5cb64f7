"""Read all that a config would read: `%(prog)s CONFIG` prints what is there, what is
missing or corrupt, and writes pictures of random samples. The exit code is 1 if anything is broken.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict, DictAction
from tqdm import tqdm

from ..cli import user_errors
from ..datasets import RVOSDataset
from ..datasets.verification import (
    Loaders,
    Problems,
    VideoReport,
    build_dataset,
    build_loaders,
    check_video,
    dataset_configs,
    draw_item,
    group_by_video,
    loading_transforms,
)
from ..engine.launch import read_config
from ..files import atomic_write, check_folder
from ..visualization import write_image

_LISTED = 10  # messages on the screen; all are in problems.txt
_state: tuple[RVOSDataset, Loaders]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.replace('`', ''))
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split',
        nargs='+',
        choices=('train', 'val', 'test'),
        help='default: all that the config has',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder for pictures and problems.txt '
        '(default: work_dirs/verify/<config>); earlier ones are replaced',
    )
    parser.add_argument('--num', type=int, default=4, help='pictures of each dataset')
    parser.add_argument('--workers', type=int, default=4, help='processes (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='another one gives other pictures')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check the datasets one by one, print a table of each, end with 1 if anything is broken."""
    args = parse_args(argv)
    if args.workers < 1 or args.num < 0:
        raise ValueError('--workers must be at least 1, --num at least 0')
    cfg = read_config(args.config, args.cfg_options)
    out = args.out or Path('work_dirs/verify', Path(args.config).stem)
    check_folder(out)
    messages = []
    for name, dataset_cfg in find_datasets(cfg, args.split):
        found = check(name, dataset_cfg, args, out)
        messages += [f'{name}: {message}' for message in found]
    atomic_write(out / 'problems.txt', ''.join(f'{m}\n' for m in messages).encode())
    print(f'{len(messages) or "no"} problems' + (f': {out / "problems.txt"}' if messages else ''))
    if messages:
        sys.exit(1)


def find_datasets(cfg: Config, splits: Sequence[str] | None) -> Iterator[tuple[str, ConfigDict]]:
    """Name and config of each dataset of the splits; where two splits have the same, once.

    Raises:
        ValueError: The config lacks a split that was asked for, or has none at all.
    """
    there = [s for s in ('train', 'val', 'test') if cfg.get(f'{s}_dataloader') is not None]
    absent = [split for split in splits or () if split not in there]
    if absent or not there:
        raise ValueError(f'the config has no {absent[0] if absent else "train"}_dataloader')
    names: dict[str, list[str]] = {}
    configs = {}
    for split in splits or there:
        for part in dataset_configs(cfg[f'{split}_dataloader'].dataset):
            key = repr(sorted(part.items(), key=str))
            names.setdefault(key, []).append(split)
            configs[key] = part
    for key, part in configs.items():
        # RefCOCO, RefCOCO+ and RefCOCOg are of one type.
        yield ' '.join(['+'.join(names[key]), part['type'], part.get('name', '')]).strip(), part


def check(name: str, cfg: ConfigDict, args: argparse.Namespace, out: Path) -> list[str]:
    """Read one dataset, print its table, draw samples; what is wrong with it."""
    print(f'\n{name}: {cfg.get("data_root", "")}')
    pipeline = cfg.get('pipeline', [])
    sample = [t for t in pipeline if t['type'] == 'SampleFrames']
    try:
        dataset = build_dataset(cfg, [*sample, *loading_transforms(pipeline), {'type': 'PackClip'}])
    except (FileNotFoundError, ValueError) as error:
        print(f'cannot be used: {error}')
        return [str(error)]
    problems = Problems()
    videos = group_by_video(dataset, problems)
    reports = read_videos(dataset, build_loaders(pipeline), videos, args.workers)
    for report in reports:
        problems.missing.update(dict.fromkeys(report.missing))
        problems.corrupt.update(dict.fromkeys(report.corrupt))
    for label, value in table(dataset, reports, problems):
        print(f'  {label:<38} {value}')
    messages = [*dataset.left_out, *problems.missing, *problems.corrupt]
    for message in messages[:_LISTED]:
        print(f'  - {message}')
    if len(messages) > _LISTED:
        print(f'  ... and {len(messages) - _LISTED} more')
    draw_samples(dataset, out / name.replace(' ', '_'), args.num, args.seed)
    return messages


def read_videos(
    dataset: RVOSDataset, loaders: Loaders, videos: list[list[int]], num_workers: int
) -> list[VideoReport]:
    """Check the videos in several processes."""
    with ProcessPoolExecutor(num_workers, initializer=_set_up, initargs=(dataset, loaders)) as pool:
        found = pool.map(_check, videos, chunksize=max(1, min(8, len(videos) // 50)))
        return list(tqdm(found, total=len(videos), desc='reading', unit='video'))


def _set_up(dataset: RVOSDataset, loaders: Loaders) -> None:
    global _state
    _state = dataset, loaders


def _check(indices: list[int]) -> VideoReport:
    dataset, loaders = _state
    return check_video(dataset, indices, loaders)


def table(
    dataset: RVOSDataset, reports: list[VideoReport], problems: Problems
) -> Iterator[tuple[str, str]]:
    """Lines of the table: label and value."""

    def total(field: str) -> int:
        return sum(getattr(report, field) for report in reports)

    yield 'items', str(len(dataset))
    yield 'videos', str(len(reports))
    yield 'sentences', str(total('sentences'))
    yield 'sentences without object, left out', str(len(dataset.left_out))
    yield 'sentences without masks to score by', str(total('without_truth'))
    yield 'frames read', str(total('frames'))
    yield 'masks read', str(total('masks'))
    yield 'empty masks (object out of view)', str(total('empty_masks'))
    yield 'sentences about nothing in the video', str(total('no_target'))
    yield 'annotations whose object never shows', str(total('never_visible'))
    yield 'missing files', str(len(problems.missing))
    yield 'corrupt files, absent objects', str(len(problems.corrupt))
    sizes = Counter(size for report in reports for size in report.sizes)
    common = ', '.join(f'{w}x{h} ({n})' for (h, w), n in sizes.most_common(5))
    yield f'sizes (videos): {len(sizes)}', common
    uneven = sum(len(report.sizes) > 1 for report in reports)
    yield 'videos of more than one size', str(uneven)


def draw_samples(dataset: RVOSDataset, folder: Path, num: int, seed: int) -> None:
    """Write pictures of random items; those that cannot be read are left out."""
    np.random.seed(seed)
    drawn = 0
    for index in np.random.permutation(len(dataset)):
        if drawn == num:
            break
        try:
            item = dataset.pipeline(dataset.get_data_info(int(index)))
        except (FileNotFoundError, ValueError):
            continue
        write_image(folder / f'sample_{drawn}.png', draw_item(item))
        drawn += 1
    print(f'  {drawn} pictures: {folder}')
