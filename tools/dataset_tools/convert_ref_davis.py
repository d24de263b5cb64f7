#!/usr/bin/env python
"""Convert Ref-DAVIS17 from its published archives to the layout of Ref-YouTube-VOS.

python tools/dataset_tools/convert_ref_davis.py data/ref-davis

SOURCE holds what these archives contain, extracted there or into folders of their names:
DAVIS-2017-Unsupervised-trainval-480p.zip, DAVIS-2017_semantics-480p.zip, davis_text_annotations.zip
"""

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from referformer.cli import user_errors
from referformer.datasets.base import clean_text
from referformer.datasets.ref_davis import NUM_ANNOTATORS, RefDAVIS
from referformer.files import check_folder, read_json

# Two people have described every object twice: by its first frame, and by the whole video. In this
# order the four files are the annotators 0 to 3 of the published numbers.
TEXT_FILES = (
    'Davis17_annot1.txt',
    'Davis17_annot1_full_video.txt',
    'Davis17_annot2.txt',
    'Davis17_annot2_full_video.txt',
)
SPLITS = {'train': 'train', 'valid': 'val'}  # our name: that of the file in ImageSets
# Names of videos that the text files misspell.
ALIASES = {'clasic-car': 'classic-car', 'dog-scale': 'dogs-scale', 'motor-bike': 'motorbike'}
FOLDERS = ('train', 'valid', 'meta_expressions')
_LINE = re.compile(r'(\S+)\s+(\d+)\s+(.+)')

Sentences = dict[str, dict[int, list[str]]]  # video -> object -> its lines, which should be one


class Source(NamedTuple):
    """The published files."""

    images: Path
    masks: Path
    splits: Path
    semantics: Path
    texts: Path


class Video(NamedTuple):
    """One converted video."""

    frames: list[str]
    sentences: dict[int, list[str]]  # object -> one sentence of each annotator
    categories: dict[str, str]  # object -> category


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder of the published files')
    parser.add_argument('out', type=Path, nargs='?', help='folder to write; default: SOURCE')
    parser.add_argument(
        '--images',
        choices=('link', 'copy'),
        default='link',
        help='symbolic links to the published folders of each video (default), or copies',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help=f'replace {", ".join(FOLDERS)} in OUT'
    )
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Check everything, then write."""
    args = parse_args(argv)
    out = args.out or args.source
    check_folder(out)
    there = [str(out / name) for name in FOLDERS if (out / name).exists()]
    if there and not args.overwrite:
        raise FileExistsError(
            f'{", ".join(there)} already there; name another OUT, or add --overwrite'
        )
    source = find_source(args.source)
    splits = read_dataset(source)
    write_dataset(source, splits, out, copy=args.images == 'copy')
    for split, videos in splits.items():
        count = sum(len(texts) for v in videos.values() for texts in v.sentences.values())
        frames = sum(len(v.frames) for v in videos.values())
        print(f'{out / split}: {len(videos)} videos, {frames} frames, {count} expressions')


def find_source(root: Path) -> Source:
    """Find the published files below a folder.

    Raises:
        FileNotFoundError: Naming all that is missing, where it was looked for, and what is there.
    """
    video = 'DAVIS-2017-Unsupervised-trainval-480p'
    texts = 'davis_text_annotations'
    parts = {
        'images': (video, 'DAVIS', 'JPEGImages/480p'),
        'masks': (video, 'DAVIS', 'Annotations_unsupervised/480p'),
        'splits': (video, 'DAVIS', 'ImageSets/2017'),
        'semantics': ('DAVIS-2017_semantics-480p', 'DAVIS', 'davis_semantics.json'),
        'texts': (texts, texts, TEXT_FILES[0]),
    }
    found, missing = {}, []
    for name, (archive, folder, file) in parts.items():
        folders = (root, root / folder, root / archive, root / archive / folder)
        places = [place / file for place in dict.fromkeys(folders)]
        found[name] = next((place for place in places if place.exists()), None)
        if found[name] is None:
            missing.append(f'{file} of {archive}.zip ({", ".join(map(str, places))})')
    if missing:
        there = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        raise FileNotFoundError(
            f'{root} is not complete. Looked for {"; ".join(missing)}. Found in {root}: '
            f'{", ".join(there[:10]) or "nothing"}. Extract the three archives there.'
        )
    return Source(**{**found, 'texts': found['texts'].parent})


def read_dataset(source: Source) -> dict[str, dict[str, Video]]:
    """Read and check all annotation; the videos of every split.

    Raises:
        FileNotFoundError: A listed video or file is not there.
        ValueError: A file is malformed, or an object lacks sentences or a category.
    """
    texts = [read_sentences(source.texts / name) for name in TEXT_FILES]
    semantics = read_json(source.semantics)
    splits: dict[str, dict[str, Video]] = {}
    for split, file in SPLITS.items():
        names = (source.splits / f'{file}.txt').read_text(encoding='utf-8').split()
        splits[split] = {
            name: read_video(source, name, texts, semantics)
            for name in tqdm(names, f'checking {split}', unit='video')
        }
        if not names:
            raise ValueError(f'{source.splits / file}.txt names no video. Extract it again.')
    return splits


def read_sentences(path: Path) -> Sentences:
    """Read one of the text files: ``video object "sentence"`` a line.

    They describe videos of other splits of DAVIS-2017, too.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: A line is not of this form.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path} not found. Extract davis_text_annotations.zip again.')
    content = path.read_bytes()
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError:  # that of the second person
        text = content.decode('latin-1')
    sentences: Sentences = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f'{path}, line {number}'
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f'{where} is not of the form: video object "sentence". It is {line!r}')
        video, obj_id = ALIASES.get(match[1], match[1]), int(match[2])
        sentence = match[3].strip().strip('"').strip()
        clean_text(sentence, where)
        sentences.setdefault(video, {}).setdefault(obj_id, []).append(sentence)
    return sentences


def read_video(
    source: Source, name: str, texts: Sequence[Sentences], semantics: Mapping[str, dict]
) -> Video:
    """Check one video and put its sentences together."""
    frames = _stems(source.images / name, '.jpg')
    masks = set(_stems(source.masks / name, '.png'))
    lost = [frame for frame in frames if frame not in masks]
    if lost:
        raise FileNotFoundError(
            f'{source.masks / name} lacks the masks of {len(lost)} of {len(frames)} frames: '
            f'{", ".join(lost[:5])}. Extract the archive again.'
        )
    described = [
        [i for i, lines in sorted(sentences.get(name, {}).items()) for _ in lines]
        for sentences in texts
    ]
    objects = described[0]
    unique = len(set(objects)) == len(objects) > 0
    if not unique or any(ids != objects for ids in described):
        counts = [f'{ids} in {file}' for file, ids in zip(TEXT_FILES, described)]
        raise ValueError(
            f'{source.texts}: each of the four files must describe the same objects of {name}, '
            f'once each, but there are {", ".join(counts)}. Correct the names or numbers there.'
        )
    categories = semantics.get(name, {})
    for obj_id in objects:
        if categories.get(str(obj_id)) not in RefDAVIS.METAINFO['classes']:
            raise ValueError(
                f'{source.semantics}: object {obj_id} of {name} has the category '
                f'{categories.get(str(obj_id))!r}, not one of the 78 of DAVIS-2017. Get it again.'
            )
    sentences = {i: [texts[a][name][i][0] for a in range(NUM_ANNOTATORS)] for i in objects}
    return Video(frames, sentences, dict(categories))


def write_dataset(
    source: Source, splits: Mapping[str, Mapping[str, Video]], out: Path, copy: bool = False
) -> None:
    """Write everything beside its final place, then move it there; what was there goes last."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.converting.', dir=out) as name:
        new = Path(name)
        for split, videos in splits.items():
            _write_json(new / 'meta_expressions' / split / 'meta_expressions.json', _listed(videos))
            objects = {v: {'objects': _objects(video)} for v, video in videos.items()}
            _write_json(new / split / 'meta.json', {'videos': objects})
            for video in tqdm(videos, f'writing {split}', unit='video'):
                for kind, folder in (('JPEGImages', source.images), ('Annotations', source.masks)):
                    part = Path(split, kind)
                    (new / part).mkdir(exist_ok=True)
                    if copy:
                        shutil.copytree(folder / video, new / part / video)
                    else:
                        target = os.path.relpath((folder / video).resolve(), (out / part).resolve())
                        (new / part / video).symlink_to(target, target_is_directory=True)
        for folder in FOLDERS:
            if (out / folder).exists():
                (out / folder).rename(new / f'earlier_{folder}')
            (new / folder).rename(out / folder)


def _listed(videos: Mapping[str, Video]) -> dict:
    """The expression file: object by object, annotator by annotator."""
    content = {}
    for name, video in videos.items():
        listed = [(i, text) for i, texts in video.sentences.items() for text in texts]
        content[name] = {
            'expressions': {
                str(exp_id): {'exp': text, 'obj_id': str(obj_id)}
                for exp_id, (obj_id, text) in enumerate(listed)
            },
            'frames': video.frames,
        }
    return {'videos': content}


def _objects(video: Video) -> dict[str, dict[str, str]]:
    return {obj_id: {'category': name} for obj_id, name in video.categories.items()}


def _stems(folder: Path, suffix: str) -> list[str]:
    names = sorted(path.stem for path in folder.glob(f'*{suffix}'))
    if not names:
        raise FileNotFoundError(
            f'{folder} has no *{suffix} files, but ImageSets lists this video. '
            'Extract the archive again.'
        )
    return names


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')


if __name__ == '__main__':
    main()
