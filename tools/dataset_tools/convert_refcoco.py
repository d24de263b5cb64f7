#!/usr/bin/env python
"""Convert RefCOCO, RefCOCO+ and RefCOCOg, as published with `refer`, to files of the COCO kind.

`convert_refcoco.py REFER data/coco` reads REFER/<name>/refs(unc).p (RefCOCOg: refs(umd).p) and
REFER/<name>/instances.json, and writes data/coco/<name>/instances_<name>_<split>.json, with one
image entry and one annotation for each expression.
"""

import argparse
import json
import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from referformer.cli import user_errors
from referformer.datasets.annotation_files import require
from referformer.files import atomic_write, check_folder, read_json

# Whose division into splits the published figures are for.
SPLIT_BY = {'refcoco': 'unc', 'refcoco+': 'unc', 'refcocog': 'umd'}
_PUBLISHED = 'the release of https://github.com/lichengunc/refer'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('src', type=Path, help='folder that holds refcoco, refcoco+ and refcocog')
    parser.add_argument('dst', type=Path, help='folder of COCO, to write to')
    parser.add_argument(
        '--names', nargs='+', choices=list(SPLIT_BY), default=list(SPLIT_BY), help='default: all'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace files that are there')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read and check everything of a dataset, then write its splits."""
    args = parse_args(argv)
    check_folder(args.dst)
    for name in args.names:
        for path in source_files(args.src, name):
            require(path, f'a file of {_PUBLISHED}')
        there = sorted((args.dst / name).glob(f'instances_{name}_*.json'))
        if there and not args.overwrite:
            raise ValueError(f'{", ".join(map(str, there))} already there; --overwrite replaces it')
    for name in args.names:
        refs_file, instances_file = source_files(args.src, name)
        for split, content in convert(name, refs_file, instances_file).items():
            path = args.dst / name / f'instances_{name}_{split}.json'
            atomic_write(path, json.dumps(content).encode())
            images = {image['original_id'] for image in content['images']}
            objects = {annotation['original_id'] for annotation in content['annotations']}
            print(
                f'{path}: {len(content["images"])} expressions, {len(objects)} objects, '
                f'{len(images)} images'
            )


def source_files(src: Path, name: str) -> tuple[Path, Path]:
    """Expressions and annotations of a published dataset."""
    return src / name / f'refs({SPLIT_BY[name]}).p', src / name / 'instances.json'


def convert(name: str, refs_file: Path, instances_file: Path) -> dict[str, dict]:
    """The content of the files of all splits, by split.

    Expressions stand in the order of their images, so that those of one image are neighbours.

    Raises:
        ValueError: A file is broken, or an expression lacks its object or its image.
    """
    instances = read_instances(instances_file)
    images = {image['id']: image for image in instances['images']}
    annotations = {annotation['id']: annotation for annotation in instances['annotations']}
    refs = read_refs(refs_file)
    splits = {
        split: {'images': [], 'annotations': [], 'categories': instances['categories']}
        for split in sorted({ref['split'] for ref in refs})
    }
    skipped = Counter()
    for ref in tqdm(sorted(refs, key=lambda ref: (ref['image_id'], ref['ref_id'])), desc=name):
        where = f'{refs_file}: ref {ref["ref_id"]}'
        image = _look_up(images, ref['image_id'], 'image', where, instances_file)
        annotation = _look_up(annotations, ref['ann_id'], 'annotation', where, instances_file)
        content = splits[ref['split']]
        for sentence in ref['sentences']:
            text = decode_text(sentence.get('sent') or sentence.get('raw') or '')
            if not text.split():
                skipped[ref['split']] += 1
                continue
            number = len(content['images'])
            about = {'caption': text, 'dataset_name': name, 'ref_id': ref['ref_id']}
            content['images'].append(
                {**image, **about, 'id': number, 'original_id': ref['image_id']}
            )
            content['annotations'].append(
                {**annotation, 'id': number, 'image_id': number, 'original_id': ref['ann_id']}
            )
    for split, count in skipped.items():
        print(f'{refs_file}: {count} empty sentences of the split {split} are left out')
    return splits


def read_instances(path: Path) -> dict[str, list[dict]]:
    """Images, annotations and categories of a file of COCO, their fields checked."""
    content = read_json(path)
    needed = {
        'images': ('id', 'file_name', 'height', 'width'),
        'annotations': ('id', 'category_id', 'bbox', 'area', 'iscrowd', 'segmentation'),
        'categories': ('id', 'name'),
    }
    for key, fields in needed.items():
        _check_entries(content.get(key) if isinstance(content, dict) else None, fields, path, key)
    return {
        key: [{field: entry[field] for field in fields} for entry in content[key]]
        for key, fields in needed.items()
    }


def read_refs(path: Path) -> list[dict]:
    """The references of a pickle, which may hold plain data only.

    Raises:
        ValueError: It is broken, asks for code to be run, or lacks a field.
    """
    try:
        with path.open('rb') as file:
            refs = PlainUnpickler(file, encoding='latin1').load()
    except PickleRefused as error:
        raise ValueError(
            f'{path} was not read: {error}. The published file holds plain data only; this one may '
            f'be harmful. Get it from {_PUBLISHED}.'
        ) from None
    except Exception as error:  # a broken pickle ends in errors of many types
        raise ValueError(
            f'{path} is not a complete pickle: {type(error).__name__}: {error}. '
            f'Get it again: {_PUBLISHED}.'
        ) from error
    _check_entries(refs, ('ref_id', 'ann_id', 'image_id', 'split', 'sentences'), path, 'refs')
    return refs


class PickleRefused(Exception):
    """A pickle asks for something that is not plain data."""


class PlainUnpickler(pickle.Unpickler):
    """Reads numbers, strings, lists and dicts; any class or function is refused, so that nothing
    runs."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse."""
        raise PickleRefused(f'it asks for {module}.{name}')

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse."""
        raise PickleRefused(f'it asks for the object {pid!r} outside the file')


def decode_text(text: str) -> str:
    """Undo the reading of Python 2's UTF-8 byte strings as Latin-1."""
    try:
        return text.encode('latin1').decode('utf-8')
    except UnicodeError:
        return text


def _check_entries(entries: Any, fields: Sequence[str], path: Path, where: str) -> None:
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{path}: {where} must be a list with entries. Get it from {_PUBLISHED}.')
    for position, entry in enumerate(entries):
        missing = [f for f in fields if not isinstance(entry, Mapping) or f not in entry]
        if missing:
            raise ValueError(f'{path}: {where}[{position}] lacks {", ".join(missing)}')


def _look_up(table: Mapping, key: Any, what: str, where: str, path: Path) -> dict:
    if key not in table:
        raise ValueError(
            f'{where} names the {what} {key}, which is not in {path}. Both files must be of one '
            f'release: {_PUBLISHED}.'
        )
    return table[key]


if __name__ == '__main__':
    main()
