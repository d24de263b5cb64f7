"""Reading annotation files, with errors that say what was looked for and what was found."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from referformer.files import read_json

_NO_NAME = re.compile('[/\\\\\0\ud800-\udfff]')  # separators, the end of a string, half characters
_LONGEST = 200  # bytes; a suffix is added
# Kinds of sentences become names of measures, among those of all sentences and of the controls.
_NO_KIND = re.compile(r'all|swapped.*|(.*_)?(shuffled|absent)|.*[^\w -].*|\s*')
_INTEGER = re.compile('-?[0-9]{1,10}')
_ID = re.compile('0|[1-9][0-9]{0,8}')
_LARGEST = 2**31 - 1


def clean_text(text: Any, where: str) -> str:
    """An expression in lower case with single spaces.

    Args:
        text: As the annotation file has it.
        where: File and place, for the message.

    Raises:
        ValueError: It is not a string, or has no words.
    """
    text = ' '.join(text.lower().split()) if isinstance(text, str) else ''
    if not text:
        raise ValueError(f'{where} is empty. Give it a sentence, or remove it.')
    return text


def read_videos(path: str | Path, nested: bool = False) -> dict[str, dict]:
    """The object under ``videos`` in a JSON file of the published layout.

    Args:
        path: The file.
        nested: Ids of videos may be names of folders in folders, ``UVO/all/a``.

    Raises:
        FileNotFoundError: Naming what is there instead.
        ValueError: Naming the position in the file, or the key.
    """
    require(path, 'a file of the published layout')
    content = read_json(path)
    videos = get_entry(content, 'videos', path, 'videos')
    if not isinstance(videos, dict):
        raise ValueError(
            f'{path}: videos must map video ids to videos, not be a {type(videos).__name__}'
        )
    names = [part for video in videos for part in video.split('/')] if nested else videos
    check_names(names, f'{path}: the id of a video')
    for video_id, video in videos.items():
        if not isinstance(video, dict):
            raise ValueError(
                f'{path}: videos.{video_id} must be an object, not a {type(video).__name__}'
            )
        expressions = video.get('expressions')
        if isinstance(expressions, dict):
            check_names(expressions, f'{path}: the id of an expression of video {video_id}')
            for exp_id, expression in expressions.items():
                if isinstance(expression, dict):
                    where = f'{path}: videos.{video_id}.expressions.{exp_id}.kind'
                    check_kind(expression.get('kind'), where)
    return videos


def integer(value: Any, where: str, least: int = 0, most: int = _LARGEST) -> int:
    """A whole number of an annotation file: one, or the digits of one.

    Raises:
        ValueError: It is something else, or out of range.
    """
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        large = type(value) is int and value > most != _LARGEST
        limit = f'an integer from {least}' + (f' to {most}' if large else '')
        raise ValueError(f'{where} must be {limit}, not {repr(value)[:80]}')
    return value


def check_kind(kind: Any, where: str) -> None:
    """Refuse a kind of sentence, None where there is none, that measures could not be named by.

    Raises:
        ValueError: It is no word, or one that they use already.
    """
    if kind is None:
        return
    if not isinstance(kind, str) or len(kind) > _LONGEST or _NO_KIND.fullmatch(kind):
        raise ValueError(
            f'{where} must be a word, not {str(kind)[:80]!r}; "all", "swapped...", "...shuffled" '
            'and "...absent" are taken: measures have these names.'
        )


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse names that are no plain name of a file: with them results would be written elsewhere.

    Args:
        names: Ids and names of frames.
        where: File and kind, for the message.

    Raises:
        ValueError: Naming the first that is empty, '.' or '..', has a slash, or is no text.
    """
    for name in names:
        if name in ('', '.', '..') or _NO_NAME.search(name) or len(name.encode()) > _LONGEST:
            raise ValueError(
                f'{where} must be a plain name, as of a file, not {name[:80]!r}. Change it there.'
            )


def read_frames(video_id: str, video: dict, path: str | Path) -> list[str]:
    """The frame names of one of the videos that :func:`read_videos` read from ``path``.

    Raises:
        ValueError: There are none, or they are no names.
    """
    where = f'videos.{video_id}.frames'
    frames = get_entry(video, 'frames', path, where)
    if not isinstance(frames, list) or not all(isinstance(name, str) for name in frames):
        raise ValueError(f'{path}: {where} must be a list of frame names')
    check_names(frames, f'{path}: a name in {where}')
    if len(set(frames)) < len(frames):
        raise ValueError(f'{path}: {where} has a frame twice. Name each once.')
    if not frames:
        raise ValueError(f'{path}: the video {video_id} has no frames. Remove it from the file.')
    return frames


def read_categories(path: str | Path) -> dict[str, dict[int, str]]:
    """Category of each object in a ``meta.json``: video -> object id -> name.

    Raises:
        FileNotFoundError, ValueError: As :func:`read_videos`.
    """
    require(path, 'the categories of the objects; meta_file=None does without')
    categories = {}
    for video_id, video in read_videos(path).items():
        where = f'videos.{video_id}.objects'
        objects = get_entry(video, 'objects', path, where)
        if not isinstance(objects, dict) or not all(map(_ID.fullmatch, objects)):
            raise ValueError(f'{path}: {where} must map object ids to objects')
        categories[video_id] = {
            int(obj_id): _category(entry, path, f'{where}.{obj_id}.category')
            for obj_id, entry in objects.items()
        }
    return categories


def _category(entry: Any, path: str | Path, where: str) -> str:
    category = get_entry(entry, 'category', path, where)
    if not isinstance(category, str) or not category.strip():
        raise ValueError(f'{path}: {where} must be a name, not {str(category)[:80]!r}')
    return category


def require(path: str | Path, what: str) -> None:
    """Raise FileNotFoundError where ``path`` does not exist, saying what its nearest parent
    holds."""
    path = Path(path)
    if path.exists():
        return
    parent = next(p for p in path.absolute().parents if p.exists())
    there = some_of(sorted(p.name for p in parent.iterdir())) if parent.is_dir() else 'no folder'
    raise FileNotFoundError(
        f'{path} not found: {what}. {parent} holds: {there or "nothing"}. '
        'Check data_root and the layout (docs/datasets.md).'
    )


def get_entry(mapping: Any, key: Any, path: str | Path | None, where: str) -> Any:
    """``mapping[key]``, or ValueError naming the file and the place in it."""
    if not isinstance(mapping, dict) or key not in mapping:
        raise ValueError(f'{path}: {where} is missing')
    return mapping[key]


def names_in(path: str) -> set[str]:
    """Names of what a folder holds; nothing where there is no such folder."""
    return {entry.name for entry in Path(path).iterdir()} if Path(path).is_dir() else set()


def require_folders(names: Iterable[str], path: str) -> None:
    """Raise FileNotFoundError where a folder lacks some of the names, saying what it holds."""
    found = names_in(path)
    missing = [n for n in names if n not in found and not ('/' in n and Path(path, n).is_dir())]
    if missing:
        raise FileNotFoundError(
            f'{path} lacks the folders of {len(missing)} videos: {some_of(missing)}. '
            f'It holds: {some_of(sorted(found)) or "nothing"}. '
            'The archive may be extracted in part: extract it again.'
        )


def some_of(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many there are."""
    more = f', ... ({len(names)} in all)' if len(names) > limit else ''
    return ', '.join(map(str, names[:limit])) + more
