"""What the command-line tools share: mistakes of a user end in one message, not in a traceback."""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches

from mmengine.config import DictAction

_WHERE = '(REFERFORMER_DEBUG=1 shows where)'
# What MMEngine's registries and Python say about a config with a wrong type or argument.
_UNKNOWN_TYPE = re.compile(r'(\S+) is not in the \S+::(.+?) registry\.')
_WRONG_ARGUMENT = re.compile(r'(\w+)\.__init__\(\) ((got an unexpected|missing \d+ required) .+)')


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors a user can cause into ``error: ...`` on stderr and exit code 2.

    Serves as ``with user_errors():`` and as the decorator ``@user_errors()`` of ``main()``. Caught
    are ``ValueError``, ``OSError`` (missing file, folder in the way, no permission, full disk) and
    ``ModuleNotFoundError``, also from workers of a data loader, and what a registry says to a
    config with an unknown type or argument; everything else is a bug and keeps its traceback. With
    ``REFERFORMER_DEBUG=1`` in the environment nothing is caught. Ctrl-C ends with exit code 130.
    """
    if os.environ.get('REFERFORMER_DEBUG', '0') not in ('', '0'):
        yield
        return
    try:
        yield
    except BrokenPipeError:  # whoever read the output has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        _end(_message(error))
    except (KeyError, TypeError) as error:
        message = _config_mistake(error)
        if message is None:
            raise
        _end(message)
    except KeyboardInterrupt:
        print('error: interrupted', file=sys.stderr, flush=True)
        sys.exit(130)


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


def _end(message: str) -> None:
    """Print the error and exit; of the processes of ``tools/dist_*.sh``, the first one prints."""
    mark = os.environ.get('REFERFORMER_ERROR_MARK')
    with suppress(FileExistsError):
        if mark:
            open(mark, 'x').close()
        print(f'error: {message}', file=sys.stderr, flush=True)
    sys.exit(2)


def _message(error: Exception) -> str:
    """What happened, in words; errors of the operating system start with the file's name."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    text = str(error)
    if text.startswith(f'Caught {type(error).__name__} in '):
        # A worker of a data loader: its whole traceback, which ends with the message.
        text = re.split(rf'^(?:\w+\.)*{type(error).__name__}: ', text, flags=re.M)[-1].strip()
    return text or f'{type(error).__name__} {_WHERE}'


def _config_mistake(error: KeyError | TypeError) -> str | None:
    """The message where building something from a config failed by that config, else None."""
    frames = traceback.extract_tb(error.__traceback__)
    if not any(frame.name == 'build_from_cfg' for frame in frames):
        return None
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, KeyError):
        found = _UNKNOWN_TYPE.match(text)
        return found and unknown_type(found[1], found[2])
    found = _WRONG_ARGUMENT.search(text)
    return found and f'the config does not fit {found[1]}: it {found[2]} {_WHERE}'
