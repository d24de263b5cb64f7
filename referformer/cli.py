"""What the command-line tools share: mistakes of a user end in one message, not in a traceback."""

import argparse
import errno
import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

import mmengine
from mmengine.config import DictAction

from .errors import message_of, raised_in
from .version import __version__

_WHERE = '(REFERFORMER_DEBUG=1 shows where)'
# What MMEngine's registries and Python say about a config with a wrong type or argument.
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the \S+::(.+?) registry\.')
_WRONG_ARGUMENT = re.compile(r'(\w+)\.__init__\(\) ((got an unexpected|missing \d+ required) .+)')
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.I)  # PyTorch's
_MMENGINE = [Path(mmengine.__file__).parent]
_BUG = 70  # the exit code; sysexits.h calls it EX_SOFTWARE


@contextmanager
def user_errors(memory: str = 'Make the work smaller, or end other programs.') -> Iterator[None]:
    """Turn errors a user can cause into ``error: ...`` on stderr and exit code 2.

    Serves as ``with user_errors():`` and as the decorator ``@user_errors()`` of ``main()``. Which
    errors these are, and what becomes of all others, says :func:`explain`. With
    ``REFERFORMER_DEBUG=1`` in the environment nothing is caught. Ctrl-C ends with exit code 130.

    Args:
        memory: What helps where memory ran out.
    """
    if os.environ.get('REFERFORMER_DEBUG', '0') not in ('', '0'):
        yield
        return
    try:
        yield
    except BrokenPipeError:  # whoever read the output has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print('error: interrupted', file=sys.stderr, flush=True)
        sys.exit(130)
    except Exception as error:
        _end(*explain(error, memory))


def explain(error: Exception, memory: str = '') -> tuple[str, int]:
    """What to tell a user about an error, and the exit code.

    Code 2, with a message: what a ``raise`` of this project made (also in a worker); where the
    operating system names a file, or has no more room or memory; a module that is not installed; a
    config that does not fit. Messages of all other errors would tell a user nothing. They are bugs:
    code 70, and the traceback goes to a file.

    Args:
        error: As it was caught.
        memory: What helps where memory ran out.
    """
    number = error.errno if isinstance(error, OSError) else None
    out_of_memory = isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))
    if isinstance(error, MemoryError) or number == errno.ENOMEM or out_of_memory:
        return f'out of memory. {memory}'.rstrip(), 2
    if number in _NO_ROOM:
        where = f'{error.filename}: ' if error.filename else ''
        return f'{where}{error.strerror}. Free space there, or write to another disk.', 2
    if number is not None and error.filename is not None:
        return f'{error.filename}: {error.strerror}', 2
    if isinstance(error, (ValueError, OSError, ImportError, KeyError)) and raised_in(error):
        return message_of(error) or f'{type(error).__name__} {_WHERE}', 2
    if isinstance(error, ModuleNotFoundError):
        return f'{error} {_WHERE}', 2
    message = _config_mistake(error)
    return (_report(error), _BUG) if message is None else (message, 2)


class OptionsAction(DictAction):
    """``--cfg-options KEY=VALUE ...``; says what is wrong with an option that has no ``=``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Collect the options in a dict."""
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} {value}: expected KEY=VALUE, as in train_cfg.a=1')
        super().__call__(parser, namespace, values, option_string)


def unknown_type(name: str, kind: str) -> str:
    """What to say about a type in a config that no registry of this kind has.

    Args:
        name: The type.
        kind: Name of the registry, such as 'model' or 'data sampler'.
    """
    from . import registry as ours

    known = {
        key.lower(): key
        for child in vars(ours).values()
        if isinstance(child, ours.Registry) and child.name == kind
        for registry in (child, child.parent)
        for key in registry.module_dict
    }
    similar = [known[key] for key in get_close_matches(name.lower(), known)]
    names = ', '.join(similar or sorted(known.values())[:10])
    return (
        f'the config asks for the {kind} {name!r}, which does not exist here; '
        f'{"similar" if similar else "known"} names: {names}. '
        'Correct the name; where it is in a module of your own, list that in custom_imports.'
    )


def _end(message: str, code: int) -> None:
    """Print the error and exit; of the processes of ``tools/dist_*.sh``, the first one prints."""
    mark = os.environ.get('REFERFORMER_ERROR_MARK')
    with suppress(FileExistsError):
        if mark:
            open(mark, 'x').close()
        # Names of files may have halves of characters.
        message = message.encode('utf-8', 'backslashreplace').decode()
        print(f'error: {message}', file=sys.stderr, flush=True)
    sys.exit(code)


def _report(error: Exception) -> str:
    """Write the traceback to a file, and say where it is."""
    text = ''.join(traceback.format_exception(error))
    about = f'referformer {__version__}, Python {platform.python_version()}, {platform.platform()}'
    try:
        descriptor, path = tempfile.mkstemp('.txt', 'referformer-bug-')
        with open(descriptor, 'w', encoding='utf-8', errors='backslashreplace') as file:
            file.write(f'{about}\n{shlex.join(sys.argv)}\n\n{text}')
    except OSError:  # where there is no room for a file, either
        path = f'the following lines:\n{text}'
    return (
        f'this is a bug of referformer ({type(error).__name__}), or of a module that the config '
        f'brings along. Please report it with {path}'
    )


def _config_mistake(error: Exception) -> str | None:
    """The message where building something from a config failed by that config, else None."""
    frames = traceback.extract_tb(error.__traceback__)
    if not any(frame.name in ('build_from_cfg', 'from_cfg') for frame in frames):
        return None
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, KeyError) and (found := _UNKNOWN_TYPE.match(text)):
        return unknown_type(found[1], found[2])
    if isinstance(error, TypeError) and (found := _WRONG_ARGUMENT.search(text)):
        return f'the config does not fit {found[1]}: it {found[2]} {_WHERE}'
    if isinstance(error, (ValueError, TypeError, KeyError)) and raised_in(error, _MMENGINE):
        return f'the config does not fit MMEngine: {text} {_WHERE}'
    return None
