"""Segment what sentences name in a video: drawn video, masks as PNGs, contact sheet.

%(prog)s VIDEO "the dog" "the woman" --model referformer_r50_ytvos --out results
Several videos (a.mp4 b.mp4 "the dog"), a pattern ('videos/*.mp4'), a text file of videos or a
folder of them are segmented one after the other, each into its own folder in --out; a second run
does what is missing.
Without --model the small one for real video serves that comes with the package: it knows people,
animals and common things, roughly.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from ..apis import ReferFormerInferencer, check_device
from ..cli import user_errors
from ..engine.launch import read_config
from ..inference import DEFAULT_WINDOW, MODES, check_output, check_sizes, check_texts, many
from ..inference.sources import is_camera, is_image, open_source
from ..models.memory import read_bytes
from ..models.precision import DTYPES, check_dtype
from ..zoo import DEFAULT_MODEL
from ..zoo.weights import find_checkpoint

_REFINE = {'flow': 'FlowPropagator', 'sam2': 'Sam2Propagator'}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'video',
        help='mp4, mov, ..., a GIF, a folder of frames, an image pattern, an address, the number '
        'of a camera, - for standard input; or many, see above',
    )
    parser.add_argument('sentences', nargs='*', help='one per object: "the dog that runs"')
    parser.add_argument(
        '--model',
        '--config',
        dest='config',
        default=DEFAULT_MODEL,
        help='name of a model (referformer list), published folder, or config; '
        'default: %(default)s',
    )
    parser.add_argument(
        '--checkpoint',
        help='its weights: .pth, .safetensors, or an address such as hf://OWNER/REPO/FILE '
        '(default: those of the name or folder)',
    )
    parser.add_argument('--out', required=True, help='the folder to write')
    parser.add_argument('--device', default='auto', help='cpu, cuda, cuda:1, ...; default: auto')
    parser.add_argument(
        '--window',
        type=int,
        help=f'frames that are seen together (default: {DEFAULT_WINDOW}); 0: the whole video',
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        help='whole: the video as one; window: independent clips (default); stream: overlapping '
        'ones with the object followed across them, for videos of any length',
    )
    parser.add_argument(
        '--max-memory',
        metavar='SIZE',
        help='what the prediction may take beyond the model, such as 2GB; else as many sentences '
        'run together as the config says',
    )
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        help='what the model computes in: fp32 (exact), bf16, fp16 (CUDA); default: config, fp32',
    )
    parser.add_argument('--shorter', type=int, help='shorter side the model sees; default: config')
    parser.add_argument('--score-thr', type=float, default=0.0, help='no mask below this score')
    parser.add_argument(
        '--presence-thr',
        type=float,
        help='no mask in frames where the object is there with less than this score; default: '
        'what the model says',
    )
    parser.add_argument(
        '--refine',
        choices=_REFINE,
        help='carry the masks of the best frame to all frames: by optical flow, or SAM 2',
    )
    parser.add_argument(
        '--refine-weights',
        help='of --refine sam2: name on the Hub, or folder (default: its largest)',
    )
    parser.add_argument('--fps', type=float, help='frame rate, instead of the one of the video')
    parser.add_argument('--max-frames', type=int, help='stop after so many frames')
    parser.add_argument(
        '--launcher',
        choices=many.LAUNCHERS,
        default='none',
        help='deal many videos to processes that torchrun (pytorch) or srun (slurm) started',
    )
    parser.add_argument('--no-boxes', action='store_true', help='draw masks only')
    parser.add_argument('--matte', action='store_true', help='videos, white where the object is')
    parser.add_argument(
        '--cutout',
        nargs='?',
        const='video',
        choices=('video', 'png'),
        help='the object alone: videos on black, or "png" for frames on nothing (RGBA)',
    )
    parser.add_argument(
        '--export',
        nargs='+',
        default=[],
        choices=('coco', 'cvat', 'labelstudio'),
        help="files for annotation tools; COCO's, predictions.json, is there in any case",
    )
    parser.add_argument('--overwrite', action='store_true', help='replace results in --out')
    return parser.parse_args(argv)


@user_errors(memory=many.MEMORY)
def main(argv: Sequence[str] | None = None) -> None:
    """Check all inputs, then load the model, then run."""
    args = parse_args(argv)
    jobs = _jobs(args)
    texts = check_texts(args.sentences) if jobs is None else []
    check_sizes(args.window, args.shorter, args.presence_thr, args.mode)
    if args.max_memory is not None:
        read_bytes(args.max_memory)
    read_config(args.config)
    device = check_device(args.device)
    if args.dtype:
        check_dtype(args.dtype, device)
    options = {
        'window': args.window,
        'mode': args.mode,
        'max_memory': args.max_memory,
        'shorter': args.shorter,
        'score_thr': args.score_thr,
        'presence_thr': args.presence_thr,
        'overwrite': args.overwrite,
        'boxes': not args.no_boxes,
        'extras': _extras(args),
        'refine': _refine(args),
    }
    if jobs is not None:
        _segment_many(args, jobs, _weights(args), options)
        return
    if args.launcher != 'none':
        raise ValueError(f'--launcher deals out many videos; {args.video} is a single one.')
    if args.max_frames is None and is_camera(args.video):
        raise ValueError('a camera has no end: say how many frames to take with --max-frames.')
    check_output(Path(args.out), args.overwrite)
    reader = open_source(args.video, args.fps, args.max_frames)
    reader.verify()
    checkpoint = _weights(args)

    inferencer = ReferFormerInferencer(args.config, checkpoint, args.device, dtype=args.dtype)
    result = inferencer(reader, texts, args.out, progress=True, **options)
    print(result)
    for what, path in result.files.items():
        print(f'  {what}: {path}')


def _jobs(args: argparse.Namespace) -> list[many.Job] | None:
    """The videos where the command names many, and takes them out of the sentences."""
    videos = many.list_videos(args.video)
    # The shell may have written out a pattern.
    named = takewhile(lambda text: Path(text).suffix and Path(text).is_file(), args.sentences)
    together = [args.video, *named]
    if len(together) > 1:
        args.sentences = args.sentences[len(together) - 1 :]
        if all(map(is_image, together)):
            args.video = together
            return None
        each = [many.list_videos(video) or [(video, [])] for video in together]
        videos = [entry for entries in each for entry in entries]
    return None if videos is None else many.plan(videos, args.sentences)


def _weights(args: argparse.Namespace) -> Path:
    """The checkpoint, fetched where it is not on this machine."""
    checkpoint = find_checkpoint(args.config, args.checkpoint)
    if checkpoint is None:
        raise ValueError(f'--checkpoint is missing: no weights come with {args.config}')
    return checkpoint


def _segment_many(
    args: argparse.Namespace, jobs: list[many.Job], checkpoint: Path, options: dict[str, Any]
) -> None:
    """Segment many videos, and say what became of them; exit code 1 if one failed."""
    many.join_processes(args.launcher)
    device = many.own_device(args.device)
    inferencer = ReferFormerInferencer(args.config, checkpoint, device, dtype=args.dtype)
    options['progress'] = is_main_process()
    out = many.segment_videos(inferencer, jobs, args.out, args.fps, args.max_frames, **options)
    many.leave_processes()
    if options['progress']:  # of the main process
        print(f'{len(jobs)} videos: {out.done} segmented, {out.kept} were there, ', end='')
        print(f'{len(out.failed)} failed')
        for video, why in out.failed.items():
            print(f'error: {video}: {why}', file=sys.stderr)
        if out.failed:
            sys.exit(1)


def _refine(args: argparse.Namespace) -> dict[str, Any] | None:
    if args.refine_weights and args.refine != 'sam2':
        raise ValueError('--refine-weights are those of --refine sam2.')
    if args.refine is None:
        return None
    weights = {'model': args.refine_weights} if args.refine_weights else {}
    device = {'device': args.device} if args.refine == 'sam2' else {}
    return {'type': _REFINE[args.refine], **weights, **device}


def _extras(args: argparse.Namespace) -> list[str]:
    cutout = {'video': ['cutout'], 'png': ['cutout-png'], None: []}[args.cutout]
    exports = [kind for kind in args.export if kind != 'coco']
    return ['matte'] * args.matte + cutout + exports
