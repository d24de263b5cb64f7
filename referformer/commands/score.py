"""Score masks in PNG files, or in COCO result files, without a model.

%(prog)s --pred results --gt DAVIS/Annotations/480p --protocol davis-unsupervised
%(prog)s --pred results.json --gt annotations.json --protocol a2d
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..cli import user_errors
from ..evaluation.measures.protocols import MEASURES
from ..evaluation.scoring.expression_files import mevis_jobs, ref_youtube_vos_jobs
from ..evaluation.scoring.images import (
    BOX_FORMATS,
    read_annotation,
    read_predictions,
    score_images,
    summarise_images,
)
from ..evaluation.scoring.pictures import draw_image_scores, draw_scores
from ..evaluation.scoring.recent_sets import long_rvos_jobs, mevis_v2_jobs, revos_jobs
from ..evaluation.scoring.report import (
    format_csv,
    format_image_csv,
    format_image_json,
    format_image_table,
    format_json,
    format_table,
)
from ..evaluation.scoring.videos import (
    Job,
    davis_jobs,
    ref_davis_jobs,
    run_jobs,
    summarise,
    summarise_annotators,
    summarise_kinds,
)
from ..files import atomic_write, check_folder
from ..visualization import write_image

IMAGE_PROTOCOLS = ('a2d', 'refcoco')
# Protocols of sentences about videos: how their jobs are made, and their default split.
SENTENCE_PROTOCOLS = {
    'ref-ytvos': (ref_youtube_vos_jobs, 'valid'),
    'mevis': (mevis_jobs, 'valid_u'),
    'mevis-v2': (mevis_v2_jobs, 'valid_u'),
    'long-rvos': (long_rvos_jobs, 'valid'),
    'revos': (revos_jobs, 'valid'),
}
PROTOCOLS = (
    'davis-unsupervised', 'davis-semi', 'ref-davis', *SENTENCE_PROTOCOLS, *IMAGE_PROTOCOLS
)  # fmt: skip
SUFFIXES = {'json': '.json', 'csv': '.csv', 'picture': '.png'}


class Report(NamedTuple):
    """What there is to print and to write."""

    table: str
    json: str
    csv: str
    draw: Callable[[], np.ndarray]
    missing: dict[str, int]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--pred',
        required=True,
        type=Path,
        help='folder of masks or .zip; a2d, refcoco: COCO result file',
    )
    parser.add_argument(
        '--gt', required=True, type=Path, help='folder; a2d, refcoco: COCO annotation file'
    )
    parser.add_argument('--protocol', required=True, choices=PROTOCOLS)
    parser.add_argument(
        '--split', help='of protocols of sentences about videos; default: valid, of MeViS valid_u'
    )
    parser.add_argument(
        '--sequences', type=Path, metavar='FILE', help='score only the videos named in this file'
    )
    parser.add_argument('--json', metavar='OUT.json', type=Path, help='write all numbers there')
    parser.add_argument('--csv', metavar='OUT.csv', type=Path, help='a line per object there')
    parser.add_argument('--picture', metavar='OUT.png', type=Path, help='bars and worst videos')
    parser.add_argument(
        '--frames', type=Path, metavar='DIR', help='<video>/<frame>.jpg to draw the picture on'
    )
    parser.add_argument(
        '--box-format',
        choices=BOX_FORMATS,
        help='of bbox in the result file of refcoco; default: xyxy, as published',
    )
    parser.add_argument('--nproc', type=int, default=1, help='processes (default: %(default)s)')
    parser.add_argument(
        '--allow-missing', action='store_true', help='score missing masks as empty ones'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace earlier reports')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check what can be checked, then score and report."""
    args = parse_args(argv)
    check_outputs(args)
    report = score_images_of(args) if args.protocol in IMAGE_PROTOCOLS else score_videos(args)
    print(report.table)
    for kind, count in report.missing.items():
        print(f'scored as empty: {count} {kind}')
    if args.json:
        atomic_write(args.json, report.json.encode())
    if args.csv:
        atomic_write(args.csv, report.csv.encode())
    if args.picture:
        write_image(args.picture, report.draw())
    for what in SUFFIXES:
        if getattr(args, what):
            print(f'{what}: {getattr(args, what)}')


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse files that could not be written, and options that do not fit the protocol.

    Raises:
        ValueError: A name has the wrong ending, or an option the wrong value.
        FileExistsError: A report is there.
        OSError: A folder cannot be written to.
    """
    for what, suffix in SUFFIXES.items():
        path = getattr(args, what)
        if path and (path.suffix != suffix or path.is_dir()):
            raise ValueError(f'--{what} {path}: name a file that ends in {suffix}')
        if path and path.exists() and not args.overwrite:
            raise FileExistsError(f'{path} is already there; name another, or add --overwrite')
        if path:
            check_folder(path.parent)
    if args.sequences and args.protocol in IMAGE_PROTOCOLS:
        raise ValueError(f'--sequences has no meaning for {args.protocol}; leave it out')
    if args.box_format and args.protocol != 'refcoco':
        raise ValueError(f'--box-format has no meaning for {args.protocol}; leave it out')
    if args.split and args.protocol not in SENTENCE_PROTOCOLS:
        raise ValueError(f'--split has no meaning for {args.protocol}; leave it out')
    if args.nproc < 1:
        raise ValueError(f'--nproc must be at least 1, got {args.nproc}')


def score_videos(args: argparse.Namespace) -> Report:
    """J&F of PNG trees."""
    jobs = make_jobs(args)
    scores, missing = run_jobs(jobs, args.nproc, args.allow_missing)
    if args.protocol == 'ref-davis':
        overall = summarise_annotators(scores)
    elif args.protocol in MEASURES:
        overall = summarise_kinds(scores, args.protocol)
    else:
        overall = {'mean': summarise(scores)}
    title = f'{args.protocol}: J&F {overall["mean"]["J&F-Mean"]:.3f}'
    return Report(
        format_table(scores, overall),
        format_json(args.protocol, scores, overall, missing),
        format_csv(scores),
        lambda: draw_scores(scores, jobs, title, frames_dir(args)),
        missing,
    )


def score_images_of(args: argparse.Namespace) -> Report:
    """mAP, IoU and P@K of COCO result files, REC where they have boxes."""
    images = read_annotation(args.gt)
    box_format = (args.box_format or 'xyxy') if args.protocol == 'refcoco' else None
    predictions, missing = read_predictions(args.pred, images, box_format, args.allow_missing)
    scores = score_images(images, predictions)
    overall = summarise_images(scores)
    title = f'{args.protocol}: overall IoU {overall["all"]["overall_IoU"]:.3f}'
    table = format_image_table(overall)
    if box_format and not scores[0].hits:
        table += '\nno REC: the predictions have no bbox'
    return Report(
        table,
        format_image_json(args.protocol, scores, overall, missing),
        format_image_csv(scores),
        lambda: draw_image_scores(scores, title, args.frames),
        missing,
    )


def make_jobs(args: argparse.Namespace) -> list[Job]:
    """One job for each video of the protocol."""
    names = args.sequences and args.sequences.read_text(encoding='utf-8').split()
    if names is not None and not names:
        raise ValueError(f'--sequences {args.sequences} names no video')
    if args.protocol == 'ref-davis':
        return ref_davis_jobs(args.pred, args.gt, names)
    if args.protocol in SENTENCE_PROTOCOLS:
        make, split = SENTENCE_PROTOCOLS[args.protocol]
        return make(args.pred, args.gt, args.split or split, names)
    return davis_jobs(args.pred, args.gt, args.protocol == 'davis-semi', names)


def frames_dir(args: argparse.Namespace) -> Path | None:
    """Where the frames are that the picture is drawn on."""
    if args.frames or args.protocol not in SENTENCE_PROTOCOLS:
        return args.frames
    if args.protocol == 'revos':
        return args.gt / 'JPEGImages'
    return args.gt / (args.split or SENTENCE_PROTOCOLS[args.protocol][1]) / 'JPEGImages'
