"""List the models that can be used by name: with the package, fetched, to be fetched.

%(prog)s '*vswin*' lists some. Figures are those the authors published, measured with their code.
"""

import argparse
from collections.abc import Sequence
from fnmatch import fnmatch

from ..cli import user_errors
from ..zoo import PublishedModel, published_models, shipped_models
from ..zoo.download import cache_dir


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('pattern', nargs='?', default='*', help="such as '*_ytvos'; default: all")
    parser.add_argument('--all', action='store_true', help='those without weights, too')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    args = parse_args(argv)
    print(table(args.pattern, args.all))


def table(pattern: str = '*', without_weights: bool = False) -> str:
    """Names, where the weights are, and figures, one model a line.

    Raises:
        ValueError: No name fits the pattern.
    """
    shipped = shipped_models()
    models = [m for m in published_models().values() if m.weights or without_weights]
    rows = [(name, 'with the package', '') for name in shipped]
    rows += [(m.name, _where(m), figures(m)) for m in models if m.name not in shipped]
    rows = [row for row in rows if fnmatch(row[0], pattern)]
    if not rows:
        raise ValueError(f'no model has a name like {pattern}; without a pattern all are listed')
    rows.insert(0, ('model', 'weights', 'figures of the authors'))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return '\n'.join(
        f'{name:<{widths[0]}}  {where:<{widths[1]}}  {text}'.rstrip() for name, where, text in rows
    )


def figures(model: PublishedModel) -> str:
    """Published figures in a line: ``Ref-YouTube-VOS J&F 55.6``."""
    return '; '.join(
        f'{result["Dataset"]} ' + ', '.join(f'{k} {v}' for k, v in result['Metrics'].items())
        for result in model.results
    )


def _where(model: PublishedModel) -> str:
    if model.weights is None:
        return 'none'
    fetched = (cache_dir() / 'models' / f'{model.file}.safetensors').is_file()
    return 'fetched' if fetched else 'to fetch'
