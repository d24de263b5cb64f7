"""Segment what sentences name in a video: drawn video, masks as PNGs, contact sheet.

%(prog)s VIDEO "the dog" "the woman" --config CONFIG --checkpoint CKPT --out results
Without --config the small model serves that comes with the package; it knows coloured shapes only.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..apis import ReferFormerInferencer, check_device, check_file
from ..cli import user_errors
from ..inference import DEFAULT_WINDOW, check_output, check_sizes, check_texts
from ..video_io import VideoReader
from ..zoo import find_checkpoint, find_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('video', help='mp4, avi, ..., a GIF, or a folder of frames')
    parser.add_argument('sentences', nargs='+', help='one per object: "the dog that runs"')
    parser.add_argument(
        '--config',
        default='referformer_vswin-micro_synthetic',
        help='config, or name of a model that comes with the package (default: %(default)s)',
    )
    parser.add_argument(
        '--checkpoint', help='its weights, .pth or .safetensors (default: those that come with it)'
    )
    parser.add_argument('--out', required=True, help='the folder to write')
    parser.add_argument('--device', default='auto', help='cpu, cuda, cuda:1, ...; default: auto')
    parser.add_argument(
        '--window',
        type=int,
        default=DEFAULT_WINDOW,
        help='frames that are seen together; 0: the whole video (default: %(default)s)',
    )
    parser.add_argument('--shorter', type=int, help='shorter side the model sees; default: config')
    parser.add_argument('--score-thr', type=float, default=0.0, help='no mask below this score')
    parser.add_argument(
        '--presence-thr',
        type=float,
        help='no mask in frames where the object is there with less than this score; default: '
        'what the model says',
    )
    parser.add_argument('--fps', type=float, help='frame rate, instead of the one of the video')
    parser.add_argument('--no-boxes', action='store_true', help='draw masks only')
    parser.add_argument('--overwrite', action='store_true', help='replace results in --out')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check all inputs, then load the model, then run."""
    args = parse_args(argv)
    texts = check_texts(args.sentences)
    check_sizes(args.window, args.shorter, args.presence_thr)
    checkpoint = find_checkpoint(args.config, args.checkpoint)
    check_file(find_config(args.config), 'config')
    if checkpoint is None:
        raise ValueError(f'--checkpoint is missing: no weights come with {args.config}')
    check_file(checkpoint, 'checkpoint')
    check_device(args.device)
    check_output(Path(args.out), args.overwrite)
    reader = VideoReader(args.video, args.fps)
    reader.verify()

    inferencer = ReferFormerInferencer(args.config, checkpoint, args.device)
    result = inferencer(
        reader,
        texts,
        args.out,
        window=args.window,
        shorter=args.shorter,
        score_thr=args.score_thr,
        presence_thr=args.presence_thr,
        overwrite=args.overwrite,
        boxes=not args.no_boxes,
        progress=True,
    )
    mode = f'window={args.window}' if args.window else 'whole'
    height, width = result.size
    print(f'{len(result)} frames, {width}x{height}, {result.fps:g} frames/s, mode {mode}')
    for what, path in result.files.items():
        print(f'  {what}: {path}')
