"""Write what training sees: `%(prog)s CONFIG` draws augmented clips with masks, boxes and
sentences."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from tqdm import tqdm

from ..cli import user_errors
from ..datasets.verification import draw_item
from ..engine.launch import read_config
from ..files import check_folder
from ..registry import DATASETS
from ..visualization import write_image


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.replace('`', ''))
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', default='train', choices=('train', 'val', 'test'))
    parser.add_argument('--num', type=int, default=12, help='pictures (default: %(default)s)')
    parser.add_argument(
        '--out', type=Path, help='folder for them (default: work_dirs/browse/<config>_<split>)'
    )
    parser.add_argument('--seed', type=int, default=0, help='another one gives other pictures')
    parser.add_argument('--overwrite', action='store_true', help='write into a folder with files')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Build the dataset with its own pipeline and draw random items."""
    args = parse_args(argv)
    if args.num < 1:
        raise ValueError(f'--num must be at least 1, got {args.num}')
    out = args.out or Path('work_dirs/browse', f'{Path(args.config).stem}_{args.split}')
    check_folder(out)
    if out.is_dir() and any(out.iterdir()) and not args.overwrite:
        raise ValueError(f'{out} holds files already: name another folder, or add --overwrite')
    cfg = read_config(args.config, args.cfg_options)
    loader = cfg.get(f'{args.split}_dataloader')
    if loader is None:
        raise ValueError(f'{args.config} has no {args.split}_dataloader')
    init_default_scope('referformer')  # MMEngine's ConcatDataset builds datasets of ours
    dataset = DATASETS.build(loader.dataset)
    np.random.seed(args.seed)
    indices = np.random.permutation(len(dataset))[: args.num]
    for number, index in enumerate(tqdm(indices, desc='drawing', unit='clip')):
        item = dataset[int(index)]
        sample = item['data_samples']
        name = f'{number:03d}_{sample.video_id}_{sample.exp_id}.png'.replace('/', '_')
        write_image(out / name, draw_item(item))
    print(f'{len(indices)} pictures: {out}')
