"""Write a model as two ONNX graphs of standard operators, for clips of one size.

%(prog)s MODEL --out folder --frames 5 --shape 360 640
image.onnx turns frames into maps, once a clip; sentence.onnx takes them and the tokens of a
sentence, and gives score, boxes and mask logits of its object (docs/export.md).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ..cli import OptionsAction, user_errors
from ..files import check_folder


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='name of a model, published folder, or config')
    parser.add_argument('checkpoint', nargs='?', help='its weights (default: those of the name)')
    parser.add_argument('--out', required=True, type=Path, help='folder to write')
    parser.add_argument('--frames', type=int, default=5, metavar='T')
    parser.add_argument('--shape', nargs=2, type=int, default=(360, 640), metavar=('H', 'W'))
    parser.add_argument('--words', type=int, default=20, metavar='L', help='tokens, with padding')
    parser.add_argument(
        '--int8', action='store_true', help='also with 8-bit weights of the linear layers'
    )
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE')
    parser.add_argument('--overwrite', action='store_true', help='replace what --out holds')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check, export, compare with PyTorch."""
    args = parse_args(argv)
    if min(args.frames, args.words) < 1 or min(args.shape) < 32:
        raise ValueError('--frames and --words must be at least 1, --shape at least 32 32')
    if (args.out / 'image.onnx').exists() and not args.overwrite:
        raise FileExistsError(f'{args.out} holds a model; name another folder, or add --overwrite')
    from ..models import onnx

    onnx.check_packages()
    check_folder(args.out)
    from ..apis import init_model

    model = init_model(args.model, args.checkpoint, 'cpu', cfg_options=args.cfg_options)
    report = onnx.export(model, args.out, args.frames, tuple(args.shape), args.words, args.int8)
    (args.out / 'report.json').write_text(json.dumps(report, indent=1))
    for name, value in report['differences'].items():
        print(f'{name}: largest difference from PyTorch {value:.1e}')
    for name, found in report.get('int8', {}).items():
        print(f'int8, {name}: {found:.3g}')
    print(f'written: {args.out}')
