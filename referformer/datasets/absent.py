"""Sentences about objects that their video does not show."""

import logging
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import islice

import numpy as np
from mmengine.logging import print_log

from referformer.structures import ABSENT

from .annotation_files import read_videos, require

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
        ValueError: There is no ``meta_file``.
    """
    if meta_file is None:
        raise ValueError('absent_kinds needs a meta_file, which tells what objects a video shows')
    require(meta_file, 'what the objects are: absent_kinds needs it')
    videos = read_videos(meta_file)
    donors = [
        (video_id, expression, videos[video_id]['objects'][str(expression['obj_id'])])
        for video_id, found in expressions.items()
        for expression in found
        if expression['kind'] in kinds and expression['obj_id'] is not None
    ]
    number_of = Counter(video_id for video_id, *_ in donors)
    donors = [(expression, _named(expression['text'], obj)) for _, expression, obj in donors]
    total = 0
    for video_id, number in number_of.items():
        objects = videos[video_id]['objects'].values()
        order = np.random.default_rng(zlib.crc32(video_id.encode())).permutation(len(donors))
        fitting = (
            expression
            for expression, named in map(donors.__getitem__, order)
            if named and all(_differs(obj, named) for obj in objects)
        )
        chosen = list(islice(fitting, number))
        expressions[video_id] += [
            {
                **expression,
                'video_id': video_id,
                'exp_id': f'{expression["video_id"]}-{expression["exp_id"]}',
                'obj_id': ABSENT,
                'label': 0,
            }
            for expression in chosen
        ]
        total += len(chosen)
    if not total:
        print_log(
            f'absent_kinds={tuple(kinds)} adds no sentence: none of these kinds names, in the '
            f'words of {meta_file}, something that no object of another video is.',
            'current',
            logging.WARNING,
        )


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
