"""Scores as a table, CSV, JSON and a picture: bars of the videos, the worst ones as overlays."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from referformer.visualization import contact_sheet, draw_tile

from .scoring import Job, Score, by_sequence

_HIT, _FALSE, _MISSED = (48, 209, 88), (255, 59, 48), (10, 132, 255)
_BLANK = 60  # grey level behind masks of videos whose frames are not there
_MOST_BARS = 80


def sequence_rows(scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """J, F, J&F (means over objects or expressions) and their number, by video."""
    rows = {}
    for name, group in by_sequence(scores).items():
        j, f = (float(np.mean([getattr(s, m).mean() for s in group])) for m in 'jf')
        rows[name] = {'J&F': (j + f) / 2, 'J': j, 'F': f, 'count': len(group)}
    return rows


def format_table(scores: Sequence[Score], overall: Mapping[str, Mapping[str, float]]) -> str:
    """Two tables as text: every video, and the averages.

    Args:
        scores: Of all videos.
        overall: Averages in [0, 1] by the name of their row.
    """
    rows = sequence_rows(scores)
    width = max(map(len, [*rows, *overall, 'sequence']))
    lines = [f'{"sequence":{width}}     J&F       J       F  number']
    lines += [
        f'{name:{width}}  {row["J&F"]:6.4f}  {row["J"]:6.4f}  {row["F"]:6.4f}  {row["count"]:6d}'
        for name, row in rows.items()
    ]
    names = list(next(iter(overall.values())))
    lines += ['', ' '.join([f'{"":{width}}', *(f'{name:>8}' for name in names)])]
    lines += [
        ' '.join([f'{title:{width}}', *(f'{row[name]:8.4f}' for name in names)])
        for title, row in overall.items()
    ]
    return '\n'.join(lines)


def format_csv(scores: Sequence[Score]) -> str:
    """One line for each object or expression."""
    file = io.StringIO(newline='')
    writer = csv.writer(file)
    writer.writerow(['sequence', 'name', 'frames', 'J&F', *scores[0].row])
    for score in scores:
        row = score.row
        numbers = [(row['J-Mean'] + row['F-Mean']) / 2, *row.values()]
        cells = ['' if math.isnan(value) else repr(float(value)) for value in numbers]
        writer.writerow([score.sequence, score.name, len(score.frames), *cells])
    return file.getvalue()


def format_json(
    protocol: str,
    scores: Sequence[Score],
    overall: Mapping[str, Mapping[str, float]],
    missing: Mapping[str, int],
) -> str:
    """Everything, in [0, 1]; null where a number is not defined.

    Args:
        protocol: Its name.
        scores: Of all videos.
        overall: Averages by the name of their row.
        missing: How many folders and frames were scored as empty, by kind.
    """
    content = {
        'protocol': protocol,
        'overall': {title: _plain(row) for title, row in overall.items()},
        'sequences': {name: _plain(row) for name, row in sequence_rows(scores).items()},
        'objects': {f'{s.sequence}_{s.name}': _plain(s.row) for s in scores},
        'scored_as_empty': dict(missing),
    }
    return json.dumps(content, indent=2)


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
    rows = sequence_rows(scores)
    sheet = _worst_sheet(scores, jobs, frames_dir, sorted(rows, key=_jf(rows))[:num_worst])
    bars = _draw_bars(rows, title, sheet.shape[1])
    return np.concatenate([bars, sheet])


def _jf(rows: Mapping[str, Mapping[str, float]]) -> Callable[[str], float]:
    return lambda name: rows[name]['J&F']


def _plain(row: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def _worst_sheet(
    scores: Sequence[Score], jobs: Sequence[Job], frames_dir: Path | None, names: Sequence[str]
) -> np.ndarray:
    groups, job_of = by_sequence(scores), {job.name: job for job in jobs}
    tiles, labels = [], []
    for name in names:
        score = min(groups[name], key=lambda s: s.j.mean() + s.f.mean())
        t = int(np.argmin(score.j + score.f))
        pred, truth = job_of[name].masks(score, t)
        frame = _read_frame(frames_dir, name, score.frames[t], truth.shape)
        both = (np.stack([pred & truth, pred & ~truth, truth & ~pred]), (_HIT, _FALSE, _MISSED))
        looks = [(pred[None], (_FALSE,)), (truth[None], (_MISSED,)), both]
        drawn = [draw_tile(frame, masks, colors=colors, width=320) for masks, colors in looks]
        # Videos differ in shape, tiles of one sheet do not.
        tiles += [_fit(tile, (200, 320)) for tile in drawn]
        where = f'{name} {score.name}, frame {score.frames[t]}'
        labels += [where[-44:], 'truth', f'both   J {score.j[t]:.2f}   F {score.f[t]:.2f}']
    texts = ['predicted, or predicted falsely', 'truth, or missed', 'both agree']
    return contact_sheet(tiles, labels, texts, (_FALSE, _MISSED, _HIT), columns=3)


def _read_frame(
    folder: Path | None, sequence: str, frame: str, size: tuple[int, int]
) -> np.ndarray:
    path = None if folder is None else folder / sequence.split('/')[-1] / f'{frame}.jpg'
    if path is not None and path.is_file():
        with Image.open(path) as image:
            # Grey and dark, so that all colour is that of the masks.
            grey = np.asarray(image.convert('L').resize(size[::-1]))
            return np.repeat((grey // 2)[..., None], 3, axis=-1)
    return np.full((*size, 3), _BLANK, np.uint8)


def _fit(tile: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a picture to fit into ``size`` and centre it on white."""
    image = Image.fromarray(tile)
    image.thumbnail(size[::-1])
    out = Image.new('RGB', size[::-1], 'white')
    out.paste(image, ((size[1] - image.width) // 2, (size[0] - image.height) // 2))
    return np.asarray(out)


def _draw_bars(rows: Mapping[str, Mapping[str, float]], title: str, width: int) -> np.ndarray:
    """J and F of the videos, the worst ones where there are too many for a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted(rows, key=_jf(rows))[:_MOST_BARS][::-1]
    if len(names) < len(rows):
        title += f' (the {len(names)} worst of {len(rows)})'
    figure = Figure((width / 100, 1.2 + 0.22 * len(names)), dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    places = np.arange(len(names))
    for shift, measure, color in ((-0.2, 'J', '#0a84ff'), (0.2, 'F', '#ff9f0a')):
        values = [rows[name][measure] for name in names]
        axes.barh(places + shift, values, 0.38, label=measure, color=color)
    labels = [f'{name}  {rows[name]["J&F"]:.3f}' for name in names]
    axes.set_yticks(places, labels, fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), title=title)
    axes.legend(loc='lower right', bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=8)
    axes.spines[['top', 'right']].set_visible(False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
