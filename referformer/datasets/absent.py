"""Sentences about objects that their video does not show."""

import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from referformer.structures import ABSENT

from .annotation_files import get_entry, read_videos, require

# What a meta.json notes of an object in words: {'category': 'star', 'colour': 'red', ...}.
Description = Mapping[str, str]


def add_absent_sentences(
    expressions: Mapping[str, list[dict]], kinds: Collection[str | None], meta_file: str | None
) -> None:
    """Add to each video, in place, as many sentences of other videos as it has of these kinds.

    A sentence is taken where every object of the video differs from the one it means in something
    that it names: "the red star" where all stars are blue. What ``meta_file`` notes of objects
    counts, in its own words; a sentence that names none of them is not taken. The draw is the same
    every time. Added expressions have ``obj_id`` ``ABSENT`` and no label.

    Raises:
        ValueError: There is no ``meta_file``, or no sentence of another video fits.
    """
    if meta_file is None:
        raise ValueError('absent_kinds needs a meta_file, which tells what objects a video shows')
    require(meta_file, 'what the objects are: absent_kinds needs it')
    videos = {
        video_id: get_entry(video, 'objects', meta_file, f'videos.{video_id}.objects')
        for video_id, video in read_videos(meta_file).items()
    }
    donors = []
    for video_id, found in expressions.items():
        for expression in found:
            if expression['kind'] in kinds and expression['obj_id'] is not None:
                obj = videos[video_id][str(expression['obj_id'])]
                donors.append((expression, _named(expression['text'], obj)))
    added = {}
    for video_id, found in expressions.items():
        wanted = sum(expression['kind'] in kinds for expression in found)
        objects = videos.get(video_id, {}).values()
        texts: dict[str, dict] = {}
        for index in np.random.default_rng(zlib.crc32(video_id.encode())).permutation(len(donors)):
            if len(texts) == wanted:
                break
            expression, named = donors[index]
            if named and all(_differs(obj, named) for obj in objects):
                texts[expression['text']] = expression
        added[video_id] = [
            {
                **expression,
                'video_id': video_id,
                'exp_id': f'{expression["video_id"]}-{expression["exp_id"]}',
                'obj_id': ABSENT,
                'label': 0,
            }
            for expression in texts.values()
        ]
    if not any(added.values()):
        raise ValueError(
            f'absent_kinds={tuple(kinds)}: {Path(meta_file).parent.name} has no sentence of these '
            f'kinds that names what {meta_file} notes of its object and no object of another video '
            'is. Name other kinds, or give more videos.'
        )
    for video_id, found in expressions.items():
        found += added[video_id]


def _named(text: str, obj: Description) -> Description:
    """What a sentence says of the object it means, in the words of its description."""
    words = f' {text} '
    return {
        attribute: value
        for attribute, value in obj.items()
        if isinstance(value, str) and f' {value.replace("_", " ")} ' in words
    }


def _differs(obj: Description, named: Description) -> bool:
    return any(obj.get(attribute, value) != value for attribute, value in named.items())
