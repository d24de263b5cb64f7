"""Print what the quickstart measured, as a table, and which pictures to look at."""

import argparse
import json
from pathlib import Path

from referformer.cli import user_errors

# What a row says, and what its metrics have behind their name.
ROWS = {
    'all sentences': '',
    '  about appearance': '_appearance',
    '  about motion': '_motion',
    '    frames in random order': '_motion_shuffled',
    '  about relations': '_relation',
    'about what is not there': '_appearance_absent',
}
COLUMNS = {
    'J': 'J',
    'F': 'F',
    'J&F': 'J&F',
    'J&F_swapped': 'swapped J&F',
    'gap': 'difference',
    'wrongly_found': 'found wrong',
}
SWAPPED = """swapped: the same masks compared with another object of the same video
found wrong: frames with a mask, of all frames that do not show the object"""
# Folder of a test, and whose it is.
TESTS = {
    'test': 'The model that comes with the package',
    'scratch': 'The model trained here from scratch, in minutes',
}
PICTURES = {
    'data': 'data.png',
    'curve of the training from scratch': 'curve.png',
    'test, predictions beside the truth': 'test/pictures/**/*.png',
    'sentences on a video': 'infer/contact_sheet.png',
    'the same as a video': 'infer/overlay.*',
}


def table(title: str, metrics: dict[str, float | None]) -> str:
    """Lay out the scores of tools/test.py, in percent; '-' where there is none.

    Args:
        title: Whose they are.
        metrics: The "metrics" that ``tools/test.py --out`` writes.
    """
    # A config may give its metric a prefix: vos/J&F.
    metrics = {name.rsplit('/')[-1]: value for name, value in metrics.items()}

    def cell(name: str) -> str:
        value = metrics.get(name)
        return f'{"-" if value is None else format(value, ".1f"):>12}'

    lines = [f'{"Held-out videos, percent":26}' + ''.join(f'{c:>12}' for c in COLUMNS.values())]
    for text, suffix in ROWS.items():
        lines.append(f'{text:26}' + ''.join(cell(column + suffix) for column in COLUMNS))
    rule = '-' * len(lines[0])
    return '\n'.join([title, rule, lines[0], rule, *lines[1:], rule])


@user_errors()
def main() -> None:
    """Read the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('run_dir', type=Path, help='work folder of the quickstart')
    run_dir = parser.parse_args().run_dir
    for folder, title in TESTS.items():
        result = run_dir / folder / 'metrics.json'
        if not result.is_file():
            raise FileNotFoundError(f'{result} not found; run the quickstart again')
        result = json.loads(result.read_text())
        print(table(f'{title}: {result["checkpoint"]}', result['metrics']), end='\n\n')
    print(SWAPPED)
    print('Pictures to look at:')
    for what, pattern in PICTURES.items():
        for path in sorted(run_dir.glob(pattern))[:3]:
            print(f'  {path}  ({what})')


if __name__ == '__main__':
    main()
