"""Make a data set to train on from own videos, masks and sentences, with a config for it.

%(prog)s sentences.csv videos/ masks/ data/mine

sentences.csv has the columns video, object, sentence (and may have category, kind, split). Videos
are files or folders of frames. Masks are PNGs, or exports of COCO, YouTube-VIS, CVAT or Label
Studio: docs/own_data.md.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..cli import user_errors
from ..datasets.own_data import make_dataset
from ..engine.launch import read_config
from ..files import project_file

RECIPE = 'referformer_vswin-t_ytvos'
PLACES = {
    'sentences': 'table: CSV in UTF-8',
    'videos': 'folder of videos and of folders of frames',
    'masks': 'folder, or json or xml file',
    'out': 'folder to make',
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, what in PLACES.items():
        parser.add_argument(name, type=Path, help=what)
    parser.add_argument(
        '--valid',
        type=float,
        default=0.2,
        metavar='SHARE',
        help='of the videos, to test on; a column "split" of the table wins (default: %(default)s)',
    )
    parser.add_argument(
        '--recipe',
        default=RECIPE,
        help='a config that trains on Ref-YouTube-VOS: name or file (default: %(default)s)',
    )
    parser.add_argument(
        '--weights', help='a checkpoint to start from (default: checkpoints/RECIPE.pth)'
    )
    parser.add_argument('--workers', type=int, default=2, help='processes (default: %(default)s)')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check everything, write, say what comes next."""
    args = parse_args(argv)
    recipe = find_recipe(args.recipe)
    weights = args.weights or f'checkpoints/{recipe.stem}.pth'
    config = args.out / f'{args.out.absolute().name}.py'
    write = partial(write_config, config.name, recipe, weights)
    counts = make_dataset(
        args.sentences, args.videos, args.masks, args.out, write, args.valid, args.workers
    )
    for split, number in counts.items():
        print(
            f'{args.out / split}: {number["videos"]} videos, {number["frames"]} frames, '
            f'{number["objects"]} objects, {number["sentences"]} sentences'
        )
        if number['shared']:
            print(f'  {number["shared"]} pixels of several objects belong to the smallest one')
    if not args.weights:
        print(f'weights: referformer get-weights {recipe.stem} --out {weights}')
    print(f'next: referformer verify {config}, then referformer train {config}')


def find_recipe(name: str) -> Path:
    """The file of a config that reads Ref-YouTube-VOS's layout.

    Raises:
        FileNotFoundError: There is none of this name.
        ValueError: It reads another layout.
    """
    configs = project_file('configs')
    file = configs / f'{name}.py'
    file = (file if file.is_file() else Path(name)).absolute()
    if not file.is_file():
        known = sorted(path.stem for path in file.parent.glob('*_ytvos.py'))
        known = known or sorted(path.stem for path in configs.glob('*_ytvos.py'))
        raise FileNotFoundError(f'no recipe {name}; there are: {", ".join(known)}')
    loader = read_config(file).get('train_dataloader') or {}
    kind = loader.get('dataset', {}).get('type')
    if kind != 'RefYouTubeVOS':
        raise ValueError(f'--recipe {name} trains on {kind}, not RefYouTubeVOS as {RECIPE} does')
    return file


def write_config(name: str, recipe: Path, weights: str, folder: Path, with_valid: bool) -> None:
    """Write the config; it finds the data in its own folder, wherever that is moved."""
    loaders = ['train_dataloader']
    if with_valid:
        validates = read_config(recipe).get('val_dataloader') is not None
        loaders += [*(['val_dataloader'] if validates else ()), 'test_dataloader']
        test = "test_evaluator = dict(_delete_=True, type='VOSMetric')"
    else:
        test = 'test_dataloader = test_evaluator = test_cfg = None'
    lines = [
        f'# {recipe.stem}, going on with the data in this folder (docs/own_data.md).',
        f'_base_ = {recipe.as_posix()!r}',
        "data = dict(dataset=dict(data_root='{{ fileDirname }}', exclude_file=None))",
        f'{" = ".join(loaders)} = data',
        test,
        'default_hooks = dict(checkpoint_keys=dict(fresh=[]))  # the class heads go on, too',
        f'load_from = {weights!r}',
    ]
    (folder / name).write_text('\n'.join(lines) + '\n', encoding='utf-8')
