"""Files from anywhere, fetched once, whole or not at all, to one place on this machine.

Addresses are ``https://...`` (those of Google Drive too), ``hf://OWNER/REPO/FILE`` of the Hugging
Face Hub, ``torchvision://NAME`` and ``open-mmlab://NAME``. The cache is ``$REFERFORMER_CACHE``,
else ``~/.cache/referformer``; ``$REFERFORMER_DRIVE`` and ``$HF_ENDPOINT`` name servers that stand
in for Google Drive and the Hub.
"""

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from ..files import atomic_write, is_address
from .names import published_models, unknown_name

_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_HUB = re.compile(r'hf://(?P<repo>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?/(?P<file>.+)')
# Names of MMEngine's schemes, in the tables of addresses that it brings.
_TABLES = {
    'torchvision': 'torchvision_0.12.json',
    'open-mmlab': 'openmmlab.json',
    'openmmlab': 'openmmlab.json',
}


# What tokenizers of transformers consist of; each has some, and the last.
_TOKENIZER_FILES = (
    *('config.json', 'tokenizer.json', 'vocab.json', 'merges.txt', 'vocab.txt', 'spm.model'),
    *('spiece.model', 'sentencepiece.bpe.model', 'special_tokens_map.json'),
    'tokenizer_config.json',
)


def cache_dir() -> Path:
    """The folder of all that is fetched."""
    home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(os.environ.get('REFERFORMER_CACHE') or Path(home, 'referformer')).expanduser()


def fetch(source: str | Path, place: Path | None = None, command: str | None = None) -> Path:
    """The file of an address on this machine, fetched unless it is there; a path is only checked.

    Several processes may ask for one file: one fetches it, the others wait. What a broken transfer
    brought is kept, and the next call goes on from there.

    Args:
        source: A path, or an address (see the module).
        place: The file to make; None: one in the cache that follows from the address.
        command: What goes on from a file put there by hand; None: whatever was called.

    Raises:
        FileNotFoundError: There is no such path.
        ValueError: The address is of an unknown kind, or the file was changed since it was fetched.
        ConnectionError: It could not be fetched; the message says how to do it by hand.
    """
    if not is_address(source):
        return _local(Path(source).expanduser())
    from filelock import FileLock

    url = _resolve(str(source))
    place = place or _place(url)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{place}.lock'):
        if not place.is_file():
            (_fetch_from_hub if url.startswith('hf://') else _fetch_by_http)(url, place, command)
        check_sum(place)
    return place


def check_sum(path: Path) -> None:
    """Compare a file of the cache with the SHA-256 kept beside it; without one, keep it.

    Raises:
        ValueError: They differ.
    """
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    record = Path(f'{path}.sha256')
    if not record.is_file():
        atomic_write(record, f'{digest.hexdigest()}  {path.name}\n'.encode())
    elif record.read_text().split()[:1] != [digest.hexdigest()]:
        raise ValueError(
            f'{path} has changed since it was fetched: its SHA-256 is {digest.hexdigest()}, not '
            f'that in {record.name}. Delete both files to fetch it again.'
        )


def remove(path: Path) -> None:
    """Delete a file of the cache and its SHA-256."""
    path.unlink(missing_ok=True)
    Path(f'{path}.sha256').unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Give a fetched file that is not what it should be another name, which is returned."""
    wrong = Path(f'{path}.wrong')
    path.replace(wrong)
    remove(path)
    return wrong


def find_tokenizer(name: str) -> str:
    """A folder for ``transformers`` to read a tokenizer from; what is no name of the Hub is kept.

    By the name alone ``transformers`` asks the Hub each time, and an unreachable one five times.

    Raises:
        ConnectionError: It is neither on this machine nor to be had from the Hub.
    """
    by_hand = cache_dir() / 'tokenizers' / name
    if (by_hand / 'tokenizer.json').is_file():
        return str(by_hand)
    # What lies in a folder that is there is meant to be a folder, too.
    is_path = Path(name).is_dir() or ('/' in name and Path(name).parent.is_dir())
    if is_path or not re.fullmatch(r'[\w.-]+(/[\w.-]+)?', name):
        return name
    import huggingface_hub as hub

    path = hub.try_to_load_from_cache(name, _TOKENIZER_FILES[-1])
    try:
        if not isinstance(path, str):
            _ask_hub(name, _TOKENIZER_FILES[-1])
            for file in _TOKENIZER_FILES:
                with suppress(hub.errors.EntryNotFoundError):
                    path = hub.hf_hub_download(name, file, endpoint=_endpoint())
    except Exception as error:  # the library changed its errors with the client it is built on
        if _is_local(error):
            raise
        raise ConnectionError(
            f'the tokenizer {name!r} was not fetched: {_reason(error)}.\n'
            f'  Open {_endpoint()}/{name}/tree/main in a browser,\n'
            f'  save config.json, tokenizer.json, tokenizer_config.json in {by_hand}/,\n'
            '  and give the same command again; or name the folder of a copy by '
            'model.text_encoder.tokenizer=FOLDER.'
        ) from error
    return str(Path(path).parent)


def _local(path: Path) -> Path:
    if path.is_file():
        return path
    advice = 'check the path'
    if path.stem in published_models() and published_models()[path.stem].weights:
        advice += f', or fetch it: referformer get-weights {path.stem} --out {path}'
    raise FileNotFoundError(f'checkpoint {path} does not exist; {advice}')


def _resolve(source: str) -> str:
    """The address behind a name of MMEngine's tables; others as they are."""
    scheme, name = source.split('://', 1)
    if scheme in ('http', 'https') or (_HUB.fullmatch(source) and '..' not in name.split('/')):
        return source
    if scheme not in _TABLES:
        raise ValueError(
            f'{source} is no address that can be fetched; expected a path, https://..., '
            'hf://OWNER/REPO/FILE, torchvision://NAME or open-mmlab://NAME'
        )
    import mmengine

    tables = Path(mmengine.__file__).with_name('hub')
    table = json.loads((tables / _TABLES[scheme]).read_text())
    if name not in table:
        known = unknown_name(name, table).split(';')[0]
        raise ValueError(f'{source}: {scheme} has no weights of this name; {known}')
    return table[name]


def _place(url: str) -> Path:
    hub = _HUB.fullmatch(url)
    if hub:
        repo = hub['repo'] + (f'@{hub["revision"]}' if hub['revision'] else '')
        return cache_dir() / 'downloads' / 'hf' / repo / hub['file']
    name = Path(unquote(urlsplit(url).path)).name or 'file'
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return cache_dir() / 'downloads' / f'{digest}-{name}'


def _fetch_by_http(url: str, place: Path, command: str | None) -> None:
    import requests
    from gdown.exceptions import DownloadError
    from gdown.parse_url import parse_url

    try:
        file_id, _ = parse_url(url)
        _download(_drive_address(file_id) if file_id else url, place)
    except (requests.RequestException, DownloadError) as error:
        raise _not_fetched(url, url, place, command, error) from error


def _download(url: str, place: Path) -> None:
    """Fetch a file with a progress bar, from where an earlier try ended."""
    import gdown

    def parts() -> dict[Path, int]:
        files = (p for p in place.parent.iterdir() if p.name.startswith(place.name))
        return {p: p.stat().st_size for p in files if p.suffix == '.part'}

    options = {'resume': True, 'timeout': _TIMEOUT, 'use_cookies': False}
    before = parts()
    try:
        gdown.download(url, str(place), **options)
    except gdown.exceptions.DownloadError:
        if not before or parts() != before:
            raise
        for part in before:  # the server cannot go on in the middle of this file
            part.unlink()
        gdown.download(url, str(place), **options)


def _drive_address(file_id: str) -> str:
    """Where Google Drive has a file: behind a page that asks for a confirmation, if it is large."""
    import requests
    from gdown.download import get_url_from_gdrive_confirmation

    drive = os.environ.get('REFERFORMER_DRIVE') or 'https://drive.google.com'
    page = requests.get(
        f'{drive.rstrip("/")}/uc',
        params={'id': file_id, 'export': 'download'},
        headers={'User-Agent': 'Mozilla/5.0'},
        stream=True,
        timeout=_TIMEOUT,
    )
    with page:
        page.raise_for_status()
        if 'Content-Disposition' in page.headers:
            return page.url
        return urljoin(page.url, get_url_from_gdrive_confirmation(page.text))


def _fetch_from_hub(url: str, place: Path, command: str | None) -> None:
    import huggingface_hub as hub

    parts = _HUB.fullmatch(url)
    repo, revision, file = parts['repo'], parts['revision'], parts['file']
    folder = place.parents[file.count('/')]
    try:
        _ask_hub(repo, file, revision)
        hub.hf_hub_download(repo, file, revision=revision, endpoint=_endpoint(), local_dir=folder)
    except Exception as error:  # the library changed its errors with the client it is built on
        if _is_local(error):
            raise
        page = f'{_endpoint()}/{repo}/blob/{revision or "main"}/{file}'
        raise _not_fetched(url, page, place, command, error) from error


def _endpoint() -> str:
    return (os.environ.get('HF_ENDPOINT') or 'https://huggingface.co').rstrip('/')


def _ask_hub(repo: str, file: str, revision: str | None = None) -> None:
    """One try, which raises where there is no such file or no network; other calls make five."""
    import huggingface_hub as hub

    url = hub.hf_hub_url(repo, file, revision=revision, endpoint=_endpoint())
    hub.get_hf_file_metadata(url, timeout=_TIMEOUT)


def _not_fetched(
    url: str, page: str, place: Path, command: str | None, error: Exception
) -> ConnectionError:
    return ConnectionError(
        f'{url} was not fetched: {_reason(error)}.\n'
        f'  Open {page} in a browser,\n'
        f'  save the file as {place},\n'
        f'  and go on with {command or "the same command"}'
        ' (which also continues a broken transfer).'
    )


def _is_local(error: Exception) -> bool:
    """Whether it is about this machine's files: no space, no permission."""
    return isinstance(error, OSError) and error.errno is not None and error.filename is not None


def _reason(error: BaseException) -> str:
    """What went wrong, in a line: libraries wrap it several times."""
    response = getattr(error, 'response', None)
    if response is not None:
        return f'the server answers {response.status_code} ({response.url})'
    text = str(error).strip()
    while error.__context__ is not None:
        error = error.__context__
    lines = [line.strip() for line in (getattr(error, 'strerror', None) or text).splitlines()]
    return next((line.rstrip('.') for line in lines if line), type(error).__name__)
