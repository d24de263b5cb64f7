"""The command ``referformer VERB ...``, the same as ``python -m referformer VERB ...``."""

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from .commands import VERBS
from .version import __version__


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb; only its module is imported."""
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ['--help']
    if verb in ('-h', '--help', 'help'):
        print(usage())
    elif verb in ('-V', '--version'):
        print(f'referformer {__version__}')
    elif verb in VERBS:
        sys.argv = [f'referformer {verb}', *rest]  # argparse names the program by it
        load(verb).main(rest)
    else:
        print(f'error: {unknown(verb)}', file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """All verbs, one a line."""
    width = max(map(len, VERBS))
    return '\n'.join(
        [
            'usage: referformer VERB ...',
            '',
            *(f'  {verb:<{width}}  {what}' for verb, what in VERBS.items()),
            '',
            'referformer VERB --help shows the options of a verb.',
        ]
    )


def load(verb: str) -> ModuleType:
    """Import the module of a verb.

    Without garbage collection: what modules define stays, and looking through it again and again
    takes a seventh of the time that PyTorch and transformers need.
    """
    gc.disable()
    try:
        return import_module(f'.commands.{verb.replace("-", "_")}', __package__)
    finally:
        gc.freeze()
        gc.enable()


def unknown(verb: str) -> str:
    """What to say about a verb that does not exist."""
    from difflib import get_close_matches

    similar = get_close_matches(verb, VERBS)
    hint = f'did you mean {" or ".join(similar)}?' if similar else f'there are {", ".join(VERBS)}.'
    return f'there is no verb {verb!r}: {hint}'


if __name__ == '__main__':
    main()
