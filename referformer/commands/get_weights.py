"""Fetch published weights, and the words of their tokenizer, so that they are there when offline.

%(prog)s referformer_r50_ytvos        into the cache; then its name is enough everywhere
%(prog)s swin-t_imagenet --out checkpoints/swin-t_imagenet.pth    to where a config reads it
%(prog)s list                         shows all names
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config

from ..cli import user_errors
from ..engine.checkpoint import read_checkpoint
from ..files import atomic_write
from ..zoo import published_models, shipped_models
from ..zoo.weights import get_weights, settle_tokenizer
from .convert import check_output
from .list import table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', metavar='NAME', help='of a model or backbone, or "list"')
    parser.add_argument('--overwrite', action='store_true', help='--out may be replaced')
    parser.add_argument('--out', type=Path, help='a copy: .pth or .safetensors')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Fetch, convert, check; say where the file is."""
    args = parse_args(argv)
    if args.name == 'list':
        print(table())
        return
    if args.name in shipped_models():
        raise ValueError(f'{args.name} comes with the package: there is nothing to fetch')
    if args.out:
        check_output(args.out, args.overwrite)
    path = get_weights(args.name)
    print(f'{args.name}: {path}, {path.stat().st_size / 1e6:.0f} MB')
    print(f'  SHA-256: {Path(f"{path}.sha256").read_text().split()[0]}')
    if args.out:
        write_copy(path, args.out)
        print(f'  copy: {args.out}')
    model = published_models()[args.name]
    if not model.is_backbone:
        settle_tokenizer(Config.fromfile(model.config))
        print(f'  use: referformer infer VIDEO "a sentence" --model {args.name} --out results')


def write_copy(path: Path, out: Path) -> None:
    """Copy weights of the cache, as a ``.pth`` where the name says so."""
    if out.suffix == '.safetensors':
        atomic_write(out, path.read_bytes())
        return
    buffer = io.BytesIO()
    torch.save({'meta': {}, 'state_dict': read_checkpoint(path)['state_dict']}, buffer)
    atomic_write(out, buffer.getvalue())
