"""Scores as a picture: bars or curves, and the worst predictions as overlays."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from referformer.image_files import BROKEN_IMAGE, open_image
from referformer.visualization import contact_sheet, draw_tile

from .images import ImageScore
from .report import sequence_rows
from .videos import Job, Score, by_sequence

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

_HIT, _FALSE, _MISSED = (48, 209, 88), (255, 59, 48), (10, 132, 255)
_BLANK = 60  # grey level behind masks of videos whose frames are not there
_MOST_BARS = 80
_SIZES = (0.01, 0.03, 0.1, 0.3)  # bins of objects by their share of the image


class Case(NamedTuple):
    """A prediction to look at."""

    frame: np.ndarray  # RGB uint8, (H, W, 3)
    pred: np.ndarray  # bool, (H, W)
    truth: np.ndarray  # bool, (H, W)
    labels: tuple[str, str, str]  # under the prediction, the truth, both


def draw_scores(
    scores: Sequence[Score],
    jobs: Sequence[Job],
    title: str,
    frames_dir: Path | None = None,
    num_worst: int = 5,
) -> np.ndarray:
    """Bars of every video, best first, above the worst ones at their worst frame.

    Args:
        scores: Of all videos.
        jobs: What they were made with.
        title: Stands on top.
        frames_dir: ``<video>/<frame>.jpg`` to draw on; grey where there is none.
        num_worst: How many videos are drawn.

    Returns:
        RGB uint8, (H, W, 3).
    """
    rows, groups = sequence_rows(scores), by_sequence(scores)
    job_of = {job.name: job for job in jobs}
    worst = sorted(rows, key=_jf(rows))[:num_worst]
    cases = [_worst_case(name, groups[name], job_of[name], frames_dir) for name in worst]
    sheet = overlay_sheet(cases)
    return np.concatenate([_draw_bars(rows, title, sheet.shape[1]), sheet])


def _jf(rows: Mapping[str, Mapping[str, float]]) -> Callable[[str], float]:
    return lambda name: rows[name]['J&F']


def draw_image_scores(
    scores: Sequence[ImageScore],
    title: str,
    frames_dir: Path | None = None,
    num_worst: int = 5,
) -> np.ndarray:
    """How precise the masks are and on which objects, above the worst images.

    Args:
        scores: Of all images.
        title: Stands on top.
        frames_dir: ``<file name of the annotation>`` or ``<image id>.jpg`` to draw on.
        num_worst: How many images are drawn; among equal ones those with the highest score.

    Returns:
        RGB uint8, (H, W, 3).
    """
    from pycocotools import mask as coco_mask

    def order(score: ImageScore) -> tuple[float, float]:
        return score.iou, -max(score.masks.scores, default=0)

    cases = []
    for score in sorted(scores, key=order)[:num_worst]:
        image, masks = score.image, score.masks
        truth = coco_mask.decode(image.target).astype(bool)
        pred = np.zeros_like(truth)
        if score.best is not None:
            pred = coco_mask.decode(masks.masks[score.best]).astype(bool)
        name = image.file_name or f'{image.image_id}.jpg'
        frame = read_frame(frames_dir and frames_dir / name, truth.shape)
        labels = (f'image {image.image_id}', image.text, f'IoU {score.iou:.2f}')
        cases.append(Case(frame, pred, truth, labels))
    sheet = overlay_sheet(cases)
    return np.concatenate([_draw_precision(scores, title, sheet.shape[1]), sheet])


def overlay_sheet(cases: Sequence[Case]) -> np.ndarray:
    """Every case in a row of three: what is predicted, what is annotated, and both; RGB uint8."""
    tiles, labels = [], []
    for case in cases:
        pred, truth = case.pred, case.truth
        both = (np.stack([pred & truth, pred & ~truth, truth & ~pred]), (_HIT, _FALSE, _MISSED))
        looks = [(pred[None], (_FALSE,)), (truth[None], (_MISSED,)), both]
        drawn = [draw_tile(case.frame, masks, colors=colors, width=320) for masks, colors in looks]
        # Videos differ in shape, tiles of one sheet do not.
        tiles += [_fit(tile, (200, 320)) for tile in drawn]
        first, second, third = case.labels
        labels += [first[-44:], second[:44] or 'truth', third]
    texts = ['predicted, or predicted falsely', 'truth, or missed', 'both agree']
    return contact_sheet(tiles, labels, texts, (_FALSE, _MISSED, _HIT), columns=3)


def _worst_case(name: str, scores: Sequence[Score], job: Job, frames_dir: Path | None) -> Case:
    """The worst frame of the worst object or expression of a video."""
    score = min(scores, key=lambda s: s.j.mean() + s.f.mean())
    t = int(np.argmin(score.j + score.f))
    pred, truth = job.masks(score, t)
    video = name.partition('/')[2] if name.startswith('anno_') else name  # Ref-DAVIS17's
    path = frames_dir and frames_dir / video / f'{score.frames[t]}.jpg'
    labels = (
        f'{name} {score.name}, frame {score.frames[t]}',
        'truth',
        f'both   J {score.j[t]:.2f}   F {score.f[t]:.2f}',
    )
    return Case(read_frame(path, truth.shape), pred, truth, labels)


def read_frame(path: Path | None, size: tuple[int, int]) -> np.ndarray:
    """A dark grey frame of this size (H, W) to draw masks on, blank where there is no file."""
    if path is not None and path.is_file():
        try:
            grey = np.asarray(open_image(path).convert('L').resize(size[::-1]))
        except BROKEN_IMAGE as error:
            raise ValueError(f'{path} cannot be read: {error}') from error
        return np.repeat((grey // 2)[..., None], 3, axis=-1)  # all colour is that of the masks
    return np.full((*size, 3), _BLANK, np.uint8)


def _fit(tile: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a picture to fit into ``size`` and centre it on white."""
    image = Image.fromarray(tile)
    image.thumbnail(size[::-1])
    out = Image.new('RGB', size[::-1], 'white')
    out.paste(image, ((size[1] - image.width) // 2, (size[0] - image.height) // 2))
    return np.asarray(out)


def _draw_precision(scores: Sequence[ImageScore], title: str, width: int) -> np.ndarray:
    """P@K over K for every dataset; the mean IoU of small to large objects."""
    from pycocotools import mask as coco_mask

    ious = np.array([score.iou for score in scores])
    groups = np.array([score.image.group for score in scores])
    canvas = _canvas(width, 3.4)
    left, right = canvas.figure.subplots(1, 2)
    thresholds = np.linspace(0, 1, 101)
    names = sorted(set(groups))
    for name in names:
        shares = (ious[groups == name, None] > thresholds).mean(0)
        left.plot(thresholds, shares, label=name, linewidth=1.8)
    if len(names) > 1:
        left.legend(frameon=False, fontsize=8)
    left.set(xlim=(0, 1), ylim=(0, 1), xlabel='K', ylabel='P@K')
    left.set_title(title, loc='left')
    right.set_title('number of expressions above the bars', loc='left', fontsize=9)
    sizes = [int(coco_mask.area(s.image.target)) / np.prod(s.image.size) for s in scores]
    bins = np.digitize(sizes, _SIZES)
    labels = [*(f'< {100 * size:g} %' for size in _SIZES), 'larger']
    for i in np.unique(bins):
        right.bar(i, ious[bins == i].mean(), 0.7, color='#0a84ff')
        right.annotate(f'{(bins == i).sum()}', (i, ious[bins == i].mean() + 0.01), ha='center')
    right.set_xticks(range(len(labels)), labels, fontsize=8)
    right.set(
        xlim=(-0.6, len(labels) - 0.4),
        ylim=(0, 1),
        ylabel='mean IoU',
        xlabel='size of the object in the image',
    )
    return _pixels(canvas)


def _draw_bars(rows: Mapping[str, Mapping[str, float]], title: str, width: int) -> np.ndarray:
    """J and F of the videos, the worst ones where there are too many for a picture."""
    names = sorted(rows, key=_jf(rows))[:_MOST_BARS][::-1]
    if len(names) < len(rows):
        title += f' (the {len(names)} worst of {len(rows)})'
    canvas = _canvas(width, 1.2 + 0.22 * len(names))
    axes = canvas.figure.subplots()
    places = np.arange(len(names))
    for shift, measure, color in ((-0.2, 'J', '#0a84ff'), (0.2, 'F', '#ff9f0a')):
        values = [rows[name][measure] for name in names]
        axes.barh(places + shift, values, 0.38, label=measure, color=color)
    labels = [f'{name}  {rows[name]["J&F"]:.3f}' for name in names]
    axes.set_yticks(places, labels, fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), title=title)
    axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8)
    return _pixels(canvas)


def _canvas(width: int, height: float) -> 'FigureCanvasAgg':
    """An empty figure of so many pixels and inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure((width / 100, height), dpi=100, layout='constrained'))


def _pixels(canvas: 'FigureCanvasAgg') -> np.ndarray:
    """Draw; RGB uint8, (H, W, 3)."""
    for axes in canvas.figure.axes:
        axes.spines[['top', 'right']].set_visible(False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
