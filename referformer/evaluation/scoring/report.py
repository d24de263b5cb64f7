"""Scores of videos and of annotated images as a table, CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..measures.referring import RANKS
from .images import ImageScore
from .videos import Score, by_sequence


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


def format_image_table(overall: Mapping[str, Mapping[str, float]]) -> str:
    """A line for each number in [0, 1], a column for all images and for each dataset."""
    names = list(dict.fromkeys(name for row in overall.values() for name in row))
    width = max(map(len, names))
    columns = {title: max(8, len(title)) for title in overall}
    lines = [' '.join([f'{"":{width}}', *(f'{title:>{w}}' for title, w in columns.items())])]
    for name in names:
        cells = [
            f'{overall[title][name]:{w}.4f}' if name in overall[title] else f'{"-":>{w}}'
            for title, w in columns.items()
        ]
        lines.append(' '.join([f'{name:{width}}', *cells]))
    return '\n'.join(lines)


def format_image_csv(scores: Sequence[ImageScore]) -> str:
    """One line for each image, that is for each expression."""
    file = io.StringIO(newline='')
    writer = csv.DictWriter(file, ['image_id', 'dataset', 'text', *_image_row(scores[0])])
    writer.writeheader()
    for score in scores:
        image = score.image
        ids = {'image_id': image.image_id, 'dataset': image.group, 'text': image.text}
        writer.writerow(ids | _image_row(score))
    return file.getvalue()


def format_image_json(
    protocol: str,
    scores: Sequence[ImageScore],
    overall: Mapping[str, Mapping[str, float]],
    missing: Mapping[str, int],
) -> str:
    """Everything, in [0, 1]. The arguments are those of ``format_json``."""
    content = {
        'protocol': protocol,
        'overall': {title: _plain(row) for title, row in overall.items()},
        'images': {str(score.image.image_id): _image_row(score) for score in scores},
        'scored_as_empty': dict(missing),
    }
    return json.dumps(content, indent=2)


def _image_row(score: ImageScore) -> dict[str, float | int | bool | None]:
    masks, best = score.masks, score.best
    row = {'IoU': score.iou, 'intersection': score.inter, 'union': score.union}
    row |= {'score': None if best is None else masks.scores[best], 'predictions': len(masks.masks)}
    for name, hits in (('REC_P', score.hits), ('REC_IoU_P', score.plain_hits)):
        row |= {f'{name}@{k}': hit for k, hit in zip(RANKS, hits)}
    return row


def _plain(row: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in row.items()}
