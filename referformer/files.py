"""Files: outputs are never half-written under their final name, bad inputs are named."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_HALF = re.compile(r'\\u[dD][89a-fA-F]')  # in JSON, half of a character beyond 16 bits
_INSTALLED = Path(__file__).parent / '.mim'  # of a wheel; a checkout has none


def is_address(source: str | Path) -> bool:
    """Whether this is an address, such as https://..., and no path."""
    return re.match(r'[A-Za-z][A-Za-z0-9+.-]+://', str(source)) is not None


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that nothing could be written to; it need not exist.

    Raises:
        NotADirectoryError: If it, or a folder above it, is a file.
        PermissionError: If nothing may be written there.
    """
    nearest = next(p for p in (Path(folder), *Path(folder).absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f'{nearest} is a file; give a folder for the output {folder}.')
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f'the output {folder} cannot be written: no permission in {nearest}.')


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give the error of a full disk, which says no name or a temporary one, that of the file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def atomic_open(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name ``path`` at the end; after an exception it is gone.

    The folder is made where it is missing; what has the name already stays until the end.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f'.{path.name}.', dir=path.parent)
    try:
        with naming(path), os.fdopen(descriptor, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def atomic_write(path: str | Path, content: bytes) -> None:
    """Write ``path`` whole or not at all: under a temporary name first, then renamed."""
    with atomic_open(path) as file:
        file.write(content)


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: Naming the file and the place in it.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
        content = json.loads(text)
        if _HALF.search(text):
            json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'{path} has half a character, {error.object[error.start]!r}.') from error
    except (ValueError, RecursionError) as error:  # JSON's and Unicode's errors among them
        raise ValueError(
            f'{path} is not valid JSON: {error}. The file may be incomplete: get it again.'
        ) from error
    return content


def umask() -> int:
    """The permissions that new files of this process do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def project_file(path: str) -> Path:
    """Where ``configs/...`` or ``tools/...`` of this project is, in a checkout or installed."""
    root = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1]
    return root / path


def advised(path: str) -> str:
    """The name under which a message speaks of such a file: as it is typed at the root of a
    checkout, else where it was installed."""
    return str(project_file(path)) if _INSTALLED.is_dir() else path


def mmcv_command() -> str:
    """The command that installs mmcv with compiled ops, and mmdet."""
    if not _INSTALLED.is_dir():
        return 'bash tools/setup/install_mmcv.sh'
    return (
        "pip install 'setuptools<81' wheel ninja shapely six terminaltables && MMCV_WITH_OPS=1 pip "
        'install --no-deps --no-build-isolation --no-binary onedl-mmcv onedl-mmcv onedl-mmdetection'
    )
