"""What the command-line tools share: mistakes of a user end in one message, not in a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors a user can cause into ``error: ...`` on stderr and exit code 2.

    Serves as ``with user_errors():`` and as the decorator ``@user_errors()`` of ``main()``. Caught
    are ``ValueError``, ``OSError`` (missing file, folder in the way, no permission, full disk) and
    ``ModuleNotFoundError``; everything else is a bug and keeps its traceback. With
    ``REFERFORMER_DEBUG=1`` in the environment nothing is caught. Ctrl-C ends with exit code 130.
    """
    if os.environ.get('REFERFORMER_DEBUG', '0') not in ('', '0'):
        yield
        return
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f'error: {_message(error)}', file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print('error: interrupted', file=sys.stderr, flush=True)
        sys.exit(130)


def _message(error: Exception) -> str:
    """What happened, in words; errors of the operating system start with the file's name."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error) or f'{type(error).__name__} (REFERFORMER_DEBUG=1 shows where)'
