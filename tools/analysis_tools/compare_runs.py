#!/usr/bin/env python
"""Compare trainings: compare_runs.py WORK_DIR... [--format markdown|latex|csv].

For each its last loss and its best and last J&F in percent, with their iterations.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from referformer.cli import user_errors
from referformer.engine.training_log import LOGS, read_log

COLUMNS = ('run', 'iterations', 'loss', 'best J&F', 'at', 'last J&F')


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read all logs, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='of train.py')
    parser.add_argument('--format', choices=('markdown', 'latex', 'csv'), default='markdown')
    args = parser.parse_args(argv)
    runs = [path for path in args.work_dirs if any(path.glob(LOGS))]
    for path in args.work_dirs if runs else ():
        if path not in runs:  # work_dirs/* has other things
            print(f'no log, left out: {path}', file=sys.stderr)
    print(format_rows([row_of(path) for path in runs or args.work_dirs], args.format))


def row_of(work_dir: Path) -> tuple[str, ...]:
    """The cells of ``COLUMNS``; '-' where nothing was validated."""
    losses, scores = read_log(work_dir)
    iteration, loss = losses[-1]
    row = (work_dir.name, str(iteration), f'{loss:.3f}')
    curve = scores.get('J&F')
    if not curve:
        return *row, '-', '-', '-'
    at, best = max(curve, key=lambda point: point[1])
    return *row, f'{best:.2f}', str(at), f'{curve[-1][1]:.2f}'


def format_rows(rows: Sequence[Sequence[str]], kind: str) -> str:
    """A table as 'markdown', 'latex' or 'csv'."""
    if kind == 'csv':
        file = io.StringIO(newline='')
        csv.writer(file, lineterminator='\n').writerows([COLUMNS, *rows])
        return file.getvalue().rstrip()
    if kind == 'markdown':
        cells = [COLUMNS, ['---'] + ['---:'] * (len(COLUMNS) - 1), *rows]
        return '\n'.join(f'| {" | ".join(row)} |' for row in cells)
    escaped = [[c.replace('&', r'\&').replace('_', r'\_') for c in r] for r in (COLUMNS, *rows)]
    head, *body = (' & '.join(row) + r' \\' for row in escaped)
    start = rf'\begin{{tabular}}{{l{"r" * (len(COLUMNS) - 1)}}}'
    return '\n'.join([start, r'\hline', head, r'\hline', *body, r'\hline', r'\end{tabular}'])


if __name__ == '__main__':
    main()
