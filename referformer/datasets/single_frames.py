"""What A2D- and JHMDB-Sentences share: sentences that are annotated on one frame, numbered from
1."""

from collections.abc import Iterable
from pathlib import Path

from mmengine.dataset import BaseDataset

from referformer.files import read_json

from .annotation_files import integer
from .base import require

_MOST = 1_000_000  # frames of a video


def read_rows(path: str, fields: str) -> list[list]:
    """The rows of an annotation file.

    Args:
        path: A JSON file that holds a list of lists.
        fields: What a row must hold, as '[text, video]'.

    Raises:
        FileNotFoundError: Naming what is there instead.
        ValueError: Naming the position in the file, or the row.
    """
    require(path, 'the annotation file')
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f'{path} must be a list of rows {fields}')
    length = fields.count(',') + 1
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != length:
            raise ValueError(f'{path}: row {number} must be {fields}, not {row!r}')
    return rows


def positive_int(value: object, where: str) -> int:
    """``value`` as an integer from 1 to a million, or ValueError with ``where`` it stands."""
    return integer(value, where, 1, _MOST)


def name_frames(count: int) -> list[str]:
    """File names, without suffix, of frames that are counted from 1: '00001', '00002', ..."""
    return [f'{number:05d}' for number in range(1, count + 1)]


def require_all(paths: Iterable[Path], what: str) -> None:
    """Raise FileNotFoundError where a path does not exist, naming the first ones and the count.

    Each folder is listed once, because a look at every file takes long on network drives.

    Args:
        paths: Files or folders.
        what: They are, in the message.
    """
    listed: dict[Path, set[str]] = {}
    missing = []
    for path in paths:
        folder = path.parent
        if folder not in listed:
            listed[folder] = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        if path.name not in listed[folder]:
            missing.append(str(path))
    if missing:
        some = ', '.join(missing[:5]) + (', ...' if len(missing) > 5 else '')
        raise FileNotFoundError(
            f'{len(missing)} {what} not found: {some}. '
            'The archive may be extracted in part: extract it again.'
        )


def check_unique(items: Iterable[dict], path: str) -> None:
    """Raise ValueError where two items have one key (video, expression, frame): metrics could not
    tell them apart."""
    seen = set()
    for item in items:
        key = item['video_id'], item['exp_id'], item['key_frame']
        if key in seen:
            raise ValueError(
                f'{path}: the expression {key[1]} of video {key[0]} is on frame {key[2] + 1} twice '
                '(the second time as '
                f'{item["text"]!r}). Remove one of the rows.'
            )
        seen.add(key)


def expected_frames(dataset: BaseDataset) -> list[tuple[str, str, str]]:
    """The keys of all that a metric has to score: (video_id, exp_id, name of the frame)."""
    items = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [
        (item['video_id'], item['exp_id'], item['frame_names'][item['key_frame']]) for item in items
    ]
