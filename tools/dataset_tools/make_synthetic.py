"""Write the synthetic data set: `python tools/dataset_tools/make_synthetic.py data/synthetic`."""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from referformer.cli import user_errors
from referformer.datasets.synthetic import KINDS, generate_dataset
from referformer.files import check_folder

_PREVIEW_FRAMES = 5
_PREVIEW_SCALE = 1.25
_CAPTION_HEIGHT = 24


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder to make, in the layout of Ref-YouTube-VOS')
    parser.add_argument('--num-train', type=int, default=300, help='training videos')
    parser.add_argument('--num-valid', type=int, default=60, help='held-out videos')
    parser.add_argument(
        '--num-frames',
        type=int,
        nargs='+',
        default=[16, 24],
        help='frames of a video: one number, or the least and the most',
    )
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), default=[96, 160], help='of the frames'
    )
    parser.add_argument('--seed', type=int, default=0, help='another one gives other videos')
    parser.add_argument('--workers', type=int, default=2, help='processes')
    parser.add_argument('--overwrite', action='store_true', help='replace a synthetic data set')
    parser.add_argument('--reuse', action='store_true', help='keep one of the same options')
    parser.add_argument('--preview', type=Path, help='picture of samples to write (.png or .jpg)')
    args = parser.parse_args()
    if len(args.num_frames) > 2:
        parser.error('--num-frames takes one number or two')
    return args


@user_errors()
def main() -> None:
    """Generate, print what was made, and draw the preview if asked to."""
    args = parse_args()
    start = time.perf_counter()
    check_folder(args.out.parent)
    if args.preview:
        if args.preview.suffix not in ('.png', '.jpg'):
            raise ValueError(f'--preview {args.preview}: name a file that ends in .png or .jpg')
        check_folder(args.preview.parent)
    statistics = generate_dataset(
        args.out,
        num_train=args.num_train,
        num_valid=args.num_valid,
        size=tuple(args.size),
        num_frames=(args.num_frames[0], args.num_frames[-1]),
        seed=args.seed,
        num_workers=args.workers,
        overwrite=args.overwrite,
        reuse=args.reuse,
    )
    print(f'{args.out}: {time.perf_counter() - start:.1f} s')
    for split, counts in statistics.items():
        print(describe(split, counts))
    if args.preview:
        args.preview.parent.mkdir(parents=True, exist_ok=True)
        draw_preview(args.out, 'valid', args.preview)
        print(f'preview: {args.preview}')


def describe(split: str, counts: dict[str, int]) -> str:
    """One line about a split."""
    kinds = ', '.join(f'{counts[kind]} {kind}' for kind in KINDS)
    shares = ', '.join(
        f'{100 * counts[name] / counts["objects"]:.0f} % {words}'
        for name, words in (
            ('occluded', 'get occluded'),
            ('crossing_border', 'leave or enter the frame'),
            ('unseen', 'look like none in training'),
        )
    )
    return (
        f'{split}: {counts["videos"]} videos, {counts["frames"]} frames, '
        f'{counts["expressions"]} sentences ({kinds}), {counts["objects"]} objects ({shares})'
    )


def draw_preview(root: Path, split: str, file: Path, rows: int = 6) -> None:
    """Draw one video a row, its sentence above, the object it means outlined in every frame."""
    expressions = root / 'meta_expressions' / split / 'meta_expressions.json'
    videos = json.loads(expressions.read_text())['videos']
    pictures = []
    for name, video in videos.items():
        kind = KINDS[len(pictures) % len(KINDS)]
        for expression in video['expressions'].values():
            if expression['kind'] == kind and len(pictures) < rows:
                pictures.append(draw_row(root / split, name, video['frames'], expression))
                break
    Image.fromarray(np.concatenate(pictures)).save(file, quality=80)


def draw_row(folder: Path, name: str, stems: list[str], expression: dict[str, str]) -> np.ndarray:
    """Frames of a video side by side under the sentence, (h, w, 3) uint8 RGB."""
    panels = []
    for index in np.linspace(0, len(stems) - 1, _PREVIEW_FRAMES).round().astype(int):
        frame = np.array(Image.open(folder / 'JPEGImages' / name / f'{stems[index]}.jpg'))
        ids = np.array(Image.open(folder / 'Annotations' / name / f'{stems[index]}.png'))
        mask = (ids == int(expression['obj_id'])).astype(np.uint8)
        zoom = {'fx': _PREVIEW_SCALE, 'fy': _PREVIEW_SCALE}
        frame = cv2.resize(frame, None, **zoom, interpolation=cv2.INTER_CUBIC)
        mask = cv2.resize(mask, frame.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        panels.append(cv2.drawContours(frame, contours, -1, (0, 255, 255), 2, cv2.LINE_AA))
    strip = np.concatenate(panels, axis=1)
    caption = np.full((_CAPTION_HEIGHT, strip.shape[1], 3), 255, np.uint8)
    text = f'{name}, {expression["kind"]}: "{expression["exp"]}"'
    cv2.putText(caption, text, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([caption, strip])


if __name__ == '__main__':
    main()
