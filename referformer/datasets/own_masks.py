"""Masks of own videos in the forms people have them: PNGs, COCO, YouTube-VIS, CVAT, Label Studio.

Objects are known by names: their number in the file (an index of a palette, the id of a track or of
an annotation), or their label, which means all that have it together. docs/own_data.md lists the
forms.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np

from referformer.image_files import BROKEN_IMAGE, open_image
from referformer.structures.run_lengths import decode_mask
from referformer.video_io import IMAGE_SUFFIXES, natural

from .annotation_files import some_of

_FILES = ('.json', '.xml')
_UPLOADED = re.compile('^[0-9a-f]{8}-')  # what Label Studio puts before the names of its files
_Frames = dict[int, list[Callable[[], np.ndarray]]]  # frame -> parts of an object, to be drawn


class Masks:
    """The masks of one video.

    Args:
        names: Of the frames they are of; None where frames are only counted.
        length: How many frames; None: unknown.

    Attributes:
        found: Names of the objects seen so far; of a drawing all.
    """

    def __init__(self, names: Sequence[str] | None, length: int | None) -> None:
        self.names, self.length = names, length
        self.found: set[str] = set()

    def read(self, index: int, objects: Sequence[str]) -> np.ndarray:
        """Masks of n objects on a frame, bool (n, H, W), or (n, 0, 0) where it has none.

        Raises:
            ValueError: A file cannot be read, or does not hold masks.
        """
        raise NotImplementedError

    def order(self, frames: Sequence[str] | None, count: int) -> list[int]:
        """Index of the masks of each of ``count`` frames: by name where any agree, else in order.

        Raises:
            ValueError: There are not as many.
        """
        length = self.length if self.names is None else len(self.names)
        if self.names and frames and set(self.names) & set(frames):
            bare = [name for name in frames if name not in self.names]
            lost = [name for name in self.names if name not in frames]
            if bare or lost:
                parts = [f'frames without masks: {some_of(bare)}'] if bare else []
                parts += [f'masks without frames: {some_of(lost)}'] if lost else []
                raise ValueError('; '.join(parts))
            place = {name: index for index, name in enumerate(self.names)}
            return [place[name] for name in frames]
        if length not in (None, count):
            raise ValueError(f'there are {count} frames, but masks for {length}')
        return list(range(count))


class ImageMasks(Masks):
    """PNG files: index maps or one object in black and white (key ''), or a folder an object."""

    def __init__(self, files: dict[str, list[Path]]) -> None:
        first = next(iter(files.values()))
        super().__init__([file.stem for file in first], len(first))
        self.files = files
        self.found.update(files.keys() - {''})

    def read(self, index: int, objects: Sequence[str]) -> np.ndarray:
        """See :class:`Masks`."""
        if '' not in self.files:
            known = {name: _read_png(self.files[name][index])[0] > 0 for name in self.files}
            empty = np.zeros_like(next(iter(known.values())))
            return np.stack([known.get(name, empty) for name in objects])
        file = self.files[''][index]
        values, is_palette = _read_png(file)
        there = set(np.unique(values).tolist()) - {0}
        if is_palette or 255 not in there:
            self.found.update(map(str, there))
            return np.stack([values == (int(o) if o.isdecimal() else -1) for o in objects])
        if there != {255}:
            raise ValueError(
                f'{file} has grey values ({some_of(sorted(there))}): neither 0 and 255, nor ids in '
                'the indices of a palette image'
            )
        if len(objects) > 1:
            raise ValueError(
                f'{file} is black and white, which holds one object, but the sentences name '
                f'{some_of(list(objects))}: give each a folder {file.parent}/<object>/'
            )
        self.found.update(objects)
        return values[None] > 0


class DrawnMasks(Masks):
    """Run lengths and polygons of a json or xml file."""

    def __init__(self, names: Sequence[str] | None = None, length: int | None = None) -> None:
        super().__init__(names, length)
        self._by_id: dict[str, _Frames] = {}
        self._by_label: dict[str, _Frames] = {}

    def add(self, key: Any, label: str, frame: int, draw: Callable[[], np.ndarray]) -> None:
        """Note a part of the object with this id (None: it has none) and label."""
        for name, objects in ((key, self._by_id), (label, self._by_label)):
            if name is not None:
                parts = objects.setdefault(str(name), defaultdict(list))
                parts[frame].append(draw)
                self.found.add(str(name))

    def read(self, index: int, objects: Sequence[str]) -> np.ndarray:
        """See :class:`Masks`."""
        known = {**self._by_label, **self._by_id}
        try:
            parts = [[draw() for draw in known.get(name, {}).get(index, ())] for name in objects]
        except ValueError as error:
            raise ValueError(f'a mask of frame {index} is malformed: {error}') from error
        shapes = {part.shape for found in parts for part in found}
        if len(shapes) > 1:
            raise ValueError(f'masks of one frame have several sizes: {sorted(shapes)}')
        empty = np.zeros(shapes.pop() if shapes else (0, 0), bool)
        return np.stack([np.logical_or.reduce([empty, *found]) for found in parts])


def find_masks(place: Path, video: str) -> Masks:
    """The masks of a video in a folder of all masks, or in one file of all.

    Raises:
        FileNotFoundError: There are none.
        ValueError: What is there cannot be read.
    """
    if place.is_file():
        return _from_file(place, video)
    if (place / video).is_dir():
        return _from_folder(place / video, video)
    files = [place / f'{video}{suffix}' for suffix in _FILES]
    files = [file for file in files if file.is_file()] or _annotation_files(place)
    if len(files) == 1:
        return _from_file(files[0], video)
    raise FileNotFoundError(
        f'no masks: {place} has neither a folder {video} nor {video}.json or {video}.xml'
    )


def _from_folder(folder: Path, video: str) -> Masks:
    files = _pngs(folder)
    if files:
        return ImageMasks({'': files})
    objects = {p.name: _pngs(p) for p in sorted(folder.iterdir()) if p.is_dir()}
    objects = {name: found for name, found in objects.items() if found}
    if objects:
        names = {name: [file.stem for file in found] for name, found in objects.items()}
        if len(set(map(tuple, names.values()))) > 1:
            counts = [f'{len(found)} of {name}' for name, found in names.items()]
            raise ValueError(f'{folder}: objects have masks of other frames: {some_of(counts)}')
        return ImageMasks(objects)
    files = _annotation_files(folder)
    if len(files) == 1:
        return _from_file(files[0], video, sole=True)
    raise FileNotFoundError(f'{folder} has neither PNG files nor one json or xml file')


def _from_file(path: Path, video: str, sole: bool = False) -> Masks:
    """Those of a video in a file; a file of its name, or without names, need not name it."""
    videos = _read_file(path)
    if len(videos) == 1 and (sole or path.stem == video or '' in videos):
        return next(iter(videos.values()))
    if video not in videos:
        raise ValueError(f'{path} has no masks of it, but of: {some_of(sorted(videos))}')
    return videos[video]


@lru_cache(maxsize=4)
def _read_file(path: Path) -> dict[str, DrawnMasks]:
    try:
        if path.suffix == '.xml':
            return _read_cvat(ElementTree.parse(path).getroot())
        content = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(content, list):
            return _read_label_studio(content)
        return (_read_youtube_vis if 'videos' in content else _read_coco)(content)
    except (ElementTree.ParseError, LookupError, TypeError, ValueError, AttributeError) as error:
        detail = f'lacks {error}' if isinstance(error, KeyError) else error
        raise ValueError(
            f'{path} is no export of COCO, YouTube-VIS, CVAT or Label Studio: {detail}'
        ) from error


def _read_youtube_vis(content: dict) -> dict[str, DrawnMasks]:
    labels = {category['id']: category['name'] for category in content['categories']}
    found, videos = {}, {entry['id']: entry for entry in content['videos']}
    for number, entry in videos.items():
        files = [Path(name) for name in entry.get('file_names', ())]
        masks = DrawnMasks([file.stem for file in files] or None, len(files) or entry['length'])
        name = entry.get('name') or (files[0].parent.name if files else '')
        found[number] = name, masks
    for annotation in content['annotations']:
        number = annotation['video_id']
        size = videos[number]['height'], videos[number]['width']
        label, frames = labels.get(annotation['category_id']), annotation['segmentations']
        if len(frames) != found[number][1].length:
            raise ValueError(f'annotation {annotation["id"]} has {len(frames)} segmentations')
        for frame, parts in enumerate(frames):
            if parts:
                draw = partial(decode_mask, parts, size)
                found[number][1].add(annotation['id'], label, frame, draw)
    return dict(found.values())


def _read_coco(content: dict) -> dict[str, DrawnMasks]:
    """Frames as images; what follows an object is ``track_id`` or ``instance_id``."""
    labels = {category['id']: category['name'] for category in content['categories']}
    images = {image['id']: image for image in content['images']}
    found, places = _group(images, lambda image: image['file_name'])
    for annotation in content['annotations']:
        if not annotation.get('segmentation'):
            continue
        image, (name, frame) = images[annotation['image_id']], places[annotation['image_id']]
        notes = {**annotation.get('attributes', {}), **annotation}
        key = notes.get('track_id', notes.get('instance_id'))
        size = image['height'], image['width']
        draw = partial(decode_mask, annotation['segmentation'], size)
        found[name].add(key, labels.get(annotation['category_id']), frame, draw)
    return found


def _read_label_studio(tasks: list[dict]) -> dict[str, DrawnMasks]:
    """Tasks about single frames, with brushes or polygons."""
    found, places = _group(dict(enumerate(tasks)), _image_of_task)
    for number, task in enumerate(tasks):
        done = [entry for entry in task.get('annotations', ()) if not entry.get('was_cancelled')]
        for region in (done or task.get('predictions') or [{'result': ()}])[0]['result']:
            value, kind = region['value'], region['type']
            if kind not in ('brushlabels', 'polygonlabels'):
                continue
            height, width = region['original_height'], region['original_width']
            if kind == 'brushlabels':
                draw = partial(_decode_brush, value['rle'], height, width)
            else:
                points = np.array(value['points']) * [width / 100, height / 100]
                draw = partial(decode_mask, [points.ravel().tolist()], (height, width))
            name, frame = places[number]
            found[name].add(None, value[kind][0], frame, draw)
    return found


def _image_of_task(task: dict) -> str:
    for value in task['data'].values():
        if isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES):
            path = Path(unquote(value).rpartition('=')[2])  # ...?d=folder/frame.jpg
            return str(path.with_name(_UPLOADED.sub('', path.name)))
    raise ValueError('its tasks are not about images. Tasks about videos hold boxes, not masks')


def _group(
    images: dict[Any, dict], file_of: Callable[[dict], str]
) -> tuple[dict[str, DrawnMasks], dict[Any, tuple[str, int]]]:
    """Videos from the folders that images are in; folder and frame number of each image."""
    folders: dict[str, list] = defaultdict(list)
    for key, image in images.items():
        folders[Path(file_of(image)).parent.name].append((natural(file_of(image)), key))
    found, places = {}, {}
    for name, entries in folders.items():
        keys = [key for _, key in sorted(entries, key=lambda entry: entry[0])]
        found[name] = DrawnMasks([Path(file_of(images[key])).stem for key in keys])
        places |= {key: (name, frame) for frame, key in enumerate(keys)}
    return found, places


def _read_cvat(root: ElementTree.Element) -> dict[str, DrawnMasks]:
    """CVAT for video 1.1, of one task."""
    tasks = root.findall('.//task')
    if len(tasks) != 1 or root.find('image') is not None:
        raise ValueError('it must be "CVAT for video 1.1", of one task; export each task alone')
    name, size = tasks[0].findtext('name', ''), tasks[0].findtext('size')
    original = [int(root.findtext(f'.//original_size/{side}')) for side in ('height', 'width')]
    masks = DrawnMasks(length=size and int(size))
    for track in root.iter('track'):
        for shape in track:
            if shape.get('outside') == '1' or shape.tag not in ('mask', 'polygon'):
                continue
            if shape.tag == 'mask':
                draw = partial(_draw_cvat, dict(shape.attrib), *original)
            else:
                points = [float(v) for v in re.split('[,;]', shape.attrib['points'])]
                draw = partial(decode_mask, [points], tuple(original))
            masks.add(track.get('id'), track.get('label'), int(shape.attrib['frame']), draw)
    if not masks.found:
        raise ValueError('its tracks have neither masks nor polygons')
    return {Path(name).stem: masks}


def _draw_cvat(fields: dict[str, str], height: int, width: int) -> np.ndarray:
    """Run lengths, row by row, in a box; the first is one of background."""
    left, top, columns, rows = (round(float(fields[k])) for k in ('left', 'top', 'width', 'height'))
    runs = np.array(fields['rle'].split(','), int)
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = part.reshape(rows, columns)
    return mask


def _decode_brush(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """Label Studio's packed bits, of which RGBA values come; a pixel with alpha belongs."""
    bits = ''.join(f'{byte:08b}' for byte in code)
    at = 0

    def take(length: int) -> int:
        nonlocal at
        at += length
        return int(bits[at - length : at], 2)

    count, width_of_value = take(32), take(5) + 1
    widths_of_length = [take(4) + 1 for _ in range(4)]
    values, filled = np.zeros(count, np.uint8), 0
    while filled < count:
        repeats, length = take(1), take(widths_of_length[take(2)]) + 1
        for end in (filled + length,) if repeats else range(filled + 1, filled + length + 1):
            values[filled:end] = take(width_of_value)
            filled = end
    return values.reshape(height, width, 4)[..., 3] > 0


def _read_png(path: Path) -> tuple[np.ndarray, bool]:
    """Values (H, W) uint8 of a mask file, and whether they are indices of a palette."""
    try:
        image = open_image(path)
        values, mode = np.asarray(image.convert('L') if image.mode == '1' else image), image.mode
    except BROKEN_IMAGE as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    if values.ndim == 3 and mode == 'RGB' and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.max(initial=0) > 255:
        raise ValueError(f'{path} is of mode {mode}; masks are palette images, or black and white')
    return values.astype(np.uint8), mode == 'P'


def _pngs(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() == '.png')
    return sorted(files, key=lambda file: natural(file.name))


def _annotation_files(folder: Path) -> list[Path]:
    """Its json files; xml files only where it has none, as Label Studio's labels are one, too."""
    kinds = [sorted(folder.glob(f'*{suffix}')) for suffix in _FILES]
    return kinds[0] or kinds[1]
