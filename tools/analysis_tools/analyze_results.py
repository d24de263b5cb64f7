#!/usr/bin/env python
"""Show what a model gets wrong: J&F by sentence, object and video, and the worst expressions.

analyze_results.py work_dirs/run/per_expression.csv data/ref-youtube-vos report.html
    [--split valid] [--pred SUBMISSION]

SCORES is the table of VOSMetric (outfile_prefix) or of tools/score.py --csv (ref-ytvos, mevis).
"""

import argparse
import base64
import csv
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from referformer.cli import user_errors
from referformer.evaluation import region_similarity
from referformer.evaluation.scoring.expression_files import (
    AnnotatedVideo,
    expression_jobs,
    read_mevis,
    read_ref_youtube_vos,
    submission_root,
)
from referformer.evaluation.scoring.mask_files import Problem, raise_problems
from referformer.evaluation.scoring.pictures import Case, overlay_sheet, read_frame
from referformer.evaluation.scoring.videos import Score
from referformer.files import atomic_write, check_folder

# Columns of the video, the expression, J and F in the two tables, and what makes them percent.
_TABLES = (
    (('video_id', 'exp_id', 'J', 'F'), 1),
    (('sequence', 'name', 'J-Mean', 'F-Mean'), 100),
)
# Beginnings of words that tell of motion or posture; 'waves' and 'heads' may be things.
_VERBS = (
    'approach|bend|catch|chas|climb|com|crawl|cross|danc|div|drink|driv|eat|enter|exit|fall|fight|'
    'flap|float|fly|follow|gallop|go|head|hitt|hold|jump|kick|leap|leav|lift|lower|ly|march|mov|'
    'pass|play|pull|push|rac|rais|return|rid|roll|rotat|runn|sail|shak|sitt|skat|slid|spinn|stand|'
    'stay|stop|stretch|surf|swimm|swing|throw|trot|turn|walk|wander|wav'
)
_FORMS = 'moves?|runs?|walks?|jumps?|swims?|flies|sits|stands|stays|turns|eats|plays|still'
_MOTION = re.compile(rf'\b(?:(?:{_VERBS})(?:ing|es|ed)|{_FORMS})\b')
# Title -> (field of Row, where bins begin, their labels).
_BINS = {
    'words in the sentence': (
        'words', (4, 7, 10, 13), ('1-3', '4-6', '7-9', '10-12', '13 or more')
    ),
    'size of the object in the frame': (
        'size', (1, 3, 10, 30), ('below 1 %', '1-3 %', '3-10 %', '10-30 %', 'above 30 %')
    ),
    'objects in the video': ('objects', (2, 3, 4, 5), ('1', '2', '3', '4', '5 or more')),
    'objects meant by the sentence': ('targets', (2, 3, 4), ('1', '2', '3', '4 or more')),
    'presence: frames that show the object': (
        'presence', (25, 50, 75, 100), ('below 25 %', '25-50 %', '50-75 %', 'above 75 %', 'all')
    ),
}  # fmt: skip
_SCORES = {'J&F': 'jf', 'J': 'j', 'F': 'f'}
_BLUE, _ORANGE, _GREY = '#0072B2', '#D55E00', '#777777'
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font-family: sans-serif; max-width: 1240px; margin: 2em auto; color: #222; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; font-size: 14px; }}
th, td {{ border-bottom: 1px solid #ddd; padding: 3px 12px 3px 0; text-align: left; }}
</style></head><body>
{body}
</body></html>
"""


@dataclass(frozen=True)
class Row:
    """Scores of one expression in percent, and what may explain them."""

    video_id: str
    exp_id: str
    text: str
    kind: str
    j: float
    f: float
    words: int
    motion: bool  # whether the sentence has a word of motion
    targets: int  # objects it refers to
    objects: int  # objects of the video that some expression refers to
    size: float  # percent of the frame, mean over the frames where the object is visible
    presence: float  # percent of the frames where it is visible

    @property
    def jf(self) -> float:
        """J&F."""
        return (self.j + self.f) / 2


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('scores', type=Path, metavar='SCORES.csv')
    parser.add_argument('data', type=Path, help='root of the dataset, with masks')
    parser.add_argument('out', type=Path, metavar='OUT.html', help='report to write')
    parser.add_argument('--split', help='default: valid; MeViS: valid_u')
    parser.add_argument('--pred', type=Path, help='masks, folder or .zip: draws the worst ones')
    parser.add_argument('--worst', type=int, default=12, help='expressions (default: %(default)s)')
    parser.add_argument('--csv', type=Path, metavar='OUT.csv', help='write what was found there')
    parser.add_argument('--overwrite', action='store_true', help='replace earlier reports')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read scores and masks, group, report."""
    args = parse_args(argv)
    for path, suffix in ((args.out, '.html'), (args.csv, '.csv')):
        if path and (path.suffix != suffix or path.is_dir()):
            raise ValueError(f'{path}: name a file that ends in {suffix}')
        if path and path.exists() and not args.overwrite:
            raise FileExistsError(f'{path} is already there; name another, or add --overwrite')
        if path:
            check_folder(path.parent)
    if args.worst < 1:
        raise ValueError(f'--worst must be at least 1, got {args.worst}')
    pred = submission_root(args.pred) if args.pred else None
    scores = read_scores(args.scores)
    videos, frames_dir = read_dataset(args.data, args.split, {video for video, _ in scores})
    rows = collect_rows(scores, videos, args.scores)
    groups = group(rows)
    worst = sorted(rows, key=lambda row: row.jf)[: args.worst]
    sheet = draw_worst(worst, videos, pred, frames_dir) if pred else None
    report = format_html(str(args.scores), rows, groups, worst, sheet)
    atomic_write(args.out, report.encode())
    if args.csv:
        atomic_write(args.csv, format_csv(rows).encode())
    for title, parts in groups.items():
        print(title)
        for label, part in parts.items():
            print(f'  {label:12} J&F {np.mean([r.jf for r in part]):6.2f}  n = {len(part)}')
    print(f'report: {args.out}')


def read_scores(path: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """J and F in percent by (video, expression).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is another kind of table, or a cell is no number.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} not found; VOSMetric writes it with outfile_prefix')
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        known = [table for table in _TABLES if set(table[0]) <= set(header)]
        if not known:
            raise ValueError(
                f'{path} has the columns {", ".join(header) or "none"}; expected the table of '
                'VOSMetric (video_id, exp_id, J, F) or of tools/score.py --csv.'
            )
        (video, expression, j, f), factor = known[0]
        scores = {}
        for row in reader:
            if (row.get('kind') or '').endswith(('_shuffled', 'absent')):
                continue  # controls: frames in random order, objects that are not there
            try:
                numbers = factor * float(row[j]), factor * float(row[f])
            except (TypeError, ValueError):
                raise ValueError(f'{path}, line {reader.line_num}: J or F is no number') from None
            scores[row[video], row[expression]] = numbers
    if not scores:
        raise ValueError(f'{path} has no scores.')
    return scores


def read_dataset(
    data: Path, split: str | None, names: Iterable[str]
) -> tuple[list[AnnotatedVideo], Path]:
    """The videos of these names and the folder of their frames.

    The data are those of MeViS where there is a ``mask_dict.json``, else those of Ref-YouTube-VOS.
    """
    mevis = (data / (split or 'valid_u') / 'mask_dict.json').is_file()
    split = split or ('valid_u' if mevis else 'valid')
    read = read_mevis if mevis else read_ref_youtube_vos
    return read(data, split, sorted(names)), data / split / 'JPEGImages'


def collect_rows(
    scores: Mapping[tuple[str, str], tuple[float, float]],
    videos: Sequence[AnnotatedVideo],
    path: Path,
) -> list[Row]:
    """Look at the sentences and masks of all that was scored; ``path`` is named in messages."""
    known = {(video.name, exp_id) for video in videos for exp_id in video.targets}
    kind = 'expressions that the dataset does not have'
    unknown = [Problem(kind, '/'.join(key)) for key in scores if key not in known]
    raise_problems(unknown, str(path), 'Name the data and the split that were scored.')
    rows = []
    for video in tqdm(videos, 'masks', unit='video'):
        objects = len({i for ids in video.targets.values() for i in ids})
        keys = sorted(set(video.targets.values()))
        shares = np.zeros((len(keys), len(video.frames)))
        for t, frame in enumerate(video.frames):
            masks = video.truth.masks(t, frame, keys)
            shares[:, t] = [masks[key].mean() for key in keys]
        for exp_id, target in video.targets.items():
            if (video.name, exp_id) not in scores:
                continue
            j, f = scores[video.name, exp_id]
            entry, share = video.expressions[exp_id], shares[keys.index(target)]
            text = ' '.join(str(entry.get('exp', '')).lower().split())
            rows.append(
                Row(
                    video.name,
                    exp_id,
                    text,
                    str(entry.get('kind') or ''),
                    j,
                    f,
                    words=len(text.split()),
                    motion=_MOTION.search(text) is not None,
                    targets=len(target),
                    objects=objects,
                    size=100 * float(share[share > 0].mean()) if share.any() else 0.0,
                    presence=100 * float((share > 0).mean()),
                )
            )
    return rows


def group(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """The rows by each property; properties that do not tell them apart are left out."""
    out = {}
    for title, (field, edges, labels) in _BINS.items():
        bins = np.digitize([getattr(row, field) for row in rows], edges)
        out[title] = {
            label: [row for row, b in zip(rows, bins) if b == i] for i, label in enumerate(labels)
        }
    out['words of motion in the sentence'] = {
        label: [row for row in rows if row.motion is motion]
        for label, motion in (('none', False), ('some', True))
    }
    kinds = sorted({row.kind for row in rows})
    out['kind of sentence'] = {k or 'none': [row for row in rows if row.kind == k] for k in kinds}
    present = {title: {k: v for k, v in parts.items() if v} for title, parts in out.items()}
    return {title: parts for title, parts in present.items() if len(parts) > 1}


def draw_groups(rows: Sequence[Row], groups: Mapping[str, Mapping[str, Sequence[Row]]]) -> bytes:
    """A PNG: how many expressions reach how much, and J&F by each property."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = -(-(len(groups) + 1) // 2)
    figure = Figure((11, 3.1 * lines), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, 2, squeeze=False).ravel()
    for axis in axes[len(groups) + 1 :]:
        axis.set_visible(False)
    steps = np.linspace(0, 100, 201)
    for (name, field), color in zip(_SCORES.items(), ('black', _BLUE, _ORANGE)):
        values = np.array([getattr(row, field) for row in rows])
        axes[0].plot(steps, 100 * (values[:, None] >= steps).mean(0), color=color, label=name)
    axes[0].set(xlim=(0, 100), xlabel='score', ylabel='expressions in percent')
    axes[0].set_title('expressions with at least this score', loc='left', fontsize=10)
    axes[0].legend(frameon=False)
    mean = np.mean([row.jf for row in rows])
    for axis, (title, parts) in zip(axes[1:], groups.items()):
        values = [np.array([row.jf for row in part]) for part in parts.values()]
        means = [v.mean() for v in values]
        errors = [v.std() / len(v) ** 0.5 for v in values]
        axis.bar(range(len(parts)), means, 0.7, yerr=errors, color=_BLUE, ecolor=_GREY, capsize=3)
        axis.axhline(mean, color=_ORANGE, linestyle='--', linewidth=1)
        for x, v in enumerate(values):
            axis.annotate(f'{v.mean():.1f}', (x, 8), ha='center', color='white', weight='bold')
            axis.annotate(f'n = {len(v)}', (x, 2), ha='center', color='white', fontsize=8)
        axis.set_xticks(range(len(parts)), parts)
        axis.set(ylabel='J&F')
        axis.set_title(title, loc='left', fontsize=10)
    for axis in axes:
        axis.set_ylim(0, 100)
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(axis='y', color='0.9')
        axis.set_axisbelow(True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png')
    return buffer.getvalue()


def draw_worst(
    rows: Sequence[Row], videos: Sequence[AnnotatedVideo], pred: Path, frames_dir: Path
) -> bytes:
    """A PNG: prediction and truth of these expressions on their worst frames.

    Args:
        rows: To draw.
        videos: Of the dataset.
        pred: ``<video>/<expression>/<frame>.png``.
        frames_dir: ``<video>/<frame>.jpg``.

    Raises:
        ValueError: If masks are missing or of another size than the truth.
    """
    names = {row.video_id for row in rows}
    found = expression_jobs(pred, [v for v in videos if v.name in names])
    problems = [problem for job in found for problem in job.check()]
    raise_problems(problems, f'--pred {pred}', 'Name the masks that were scored.')
    jobs = {job.name: job for job in found}
    cases = []
    for row in rows:
        job, nothing = jobs[row.video_id], np.zeros(0)
        score = Score(row.video_id, row.exp_id, nothing, nothing, job.frames)
        overlaps = [float(region_similarity(*job.masks(score, t))) for t in range(len(job.frames))]
        t = int(np.argmin(overlaps))
        masks = job.masks(score, t)
        frame = read_frame(frames_dir / row.video_id / f'{job.frames[t]}.jpg', masks[0].shape)
        where = f'{row.video_id} {row.exp_id}, frame {job.frames[t]}'
        note = f'J {overlaps[t]:.2f} here, J&F {row.jf:.1f}'
        cases.append(Case(frame, *masks, (where, row.text, note)))
    buffer = io.BytesIO()
    Image.fromarray(overlay_sheet(cases)).save(buffer, 'PNG')
    return buffer.getvalue()


def format_csv(rows: Sequence[Row]) -> str:
    """One line for each expression."""
    file = io.StringIO(newline='')
    fields = asdict(rows[0])
    writer = csv.DictWriter(file, ['jf', *fields])
    writer.writeheader()
    for row in rows:
        numbers = {'jf': row.jf} | asdict(row)
        writer.writerow({k: f'{v:.4f}' if isinstance(v, float) else v for k, v in numbers.items()})
    return file.getvalue()


def format_html(
    title: str,
    rows: Sequence[Row],
    groups: Mapping[str, Mapping[str, Sequence[Row]]],
    worst: Sequence[Row],
    sheet: bytes | None,
) -> str:
    """The report, pictures included: one file without links to others."""
    parts = [('all', '', rows)]
    parts += [(t, label, part) for t, group in groups.items() for label, part in group.items()]
    means = [
        {'property': t, 'value': label}
        | {k: f'{np.mean([getattr(r, f) for r in part]):.2f}' for k, f in _SCORES.items()}
        | {'expressions': str(len(part))}
        for t, label, part in parts
    ]
    listed = [
        {'video': r.video_id, 'expression': r.exp_id, 'sentence': r.text, 'kind': r.kind}
        | {name: f'{getattr(r, field):.1f}' for name, field in _SCORES.items()}
        | {'size %': f'{r.size:.2f}', 'presence %': f'{r.presence:.0f}', 'objects': str(r.objects)}
        for r in worst
    ]
    body = [
        f'<h1>{html.escape(title)}</h1>',
        f'<p>{len(rows)} expressions of {len({r.video_id for r in rows})} videos. Scores are means '
        'over expressions in percent, with the standard error of the mean; dashed: all '
        'expressions.</p>',
        _image(draw_groups(rows, groups)),
        '<h2>Means</h2>',
        _table(means),
        f'<h2>The {len(worst)} worst expressions</h2>',
        _table(listed),
    ]
    if sheet is not None:
        body += ['<h2>Their worst frames</h2>', _image(sheet)]
    return _PAGE.format(title=html.escape(title), body='\n'.join(body))


def _image(png: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(lines: Sequence[Mapping[str, str]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return '<tr>' + ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells) + '</tr>'

    rows = [line(lines[0], 'th'), *(line(row.values(), 'td') for row in lines)]
    return '\n'.join(['<table>', *rows, '</table>'])


if __name__ == '__main__':
    main()
