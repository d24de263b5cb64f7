"""Errors of this project's own, which tell a user what to do, and all others, which do not."""

import re
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .files import project_file

_FRAME = re.compile(r'^ *File "(.+?)", line \d+, in .+\n +(.+)$', re.M)  # of a traceback
_LIBRARIES = tuple(Path(sysconfig.get_path(n)) for n in ('stdlib', 'purelib', 'platlib'))
_OURS = (Path(__file__).parent, project_file('tools').absolute())
_MALFORMED = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
)


def raised_in(error: Exception, folders: Sequence[Path] = _OURS) -> bool:
    """Whether a ``raise`` statement in one of the folders made an error; by default in this
    project. Of errors of workers (of a data loader, of a pool) it is the one there that counts."""
    told = told_by_worker(error)
    if told:
        frames = _FRAME.findall(told)
    else:
        frames = [(f.filename, f.line or '') for f in traceback.extract_tb(error.__traceback__)]
    if not frames or not re.match(r'raise\b', frames[-1][1]):
        return False
    file = Path(frames[-1][0]).absolute()
    if folders is _OURS and not any(file.is_relative_to(folder) for folder in _LIBRARIES):
        return True  # a module of the user's own
    return any(file.is_relative_to(folder) for folder in folders)


def told_by_worker(error: Exception) -> str:
    """The traceback that came from another process as text, else nothing."""
    text = str(error)
    if text.startswith(f'Caught {type(error).__name__} in '):  # PyTorch's
        return text
    cause = error.__cause__
    return str(cause) if type(cause).__name__.endswith('RemoteTraceback') else ''


def message_of(error: Exception) -> str:
    """The message; that of a data loader's worker stands at the end of a traceback."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if text and text == told_by_worker(error):
        text = re.split(rf'^(?:\w+\.)*{type(error).__name__}: ', text, flags=re.M)[-1].strip()
    return text


@contextmanager
def well_formed(path: str | Path, form: str) -> Iterator[None]:
    """While the content of a file is taken apart, make one error of all that its form can cause.

    Args:
        path: The file.
        form: What it should be.

    Raises:
        ValueError: Naming the file, what it should be, and what is wrong where that is known.
    """
    try:
        yield
    except _MALFORMED as error:
        if raised_in(error):
            if str(path) in str(error):
                raise
            reason = message_of(error)
        elif isinstance(error, KeyError):
            reason = f'{str(error)[:80]} is missing'
        else:
            reason = 'something in it is of another type than it should be'
        raise ValueError(f'{path} is not {form}, or is damaged: {reason}.') from error
