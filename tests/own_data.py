"""Own videos with masks of two objects, in every form that ``make-dataset`` reads."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from fixtures_rvos import write_ref_youtube_vos
from PIL import Image
from pycocotools import mask as coco_mask

from referformer.video_io import VideoWriter

VIDEOS = ('beach', 'city', 'park')
OBJECTS = {'1': 'dog', '2': 'cat'}
SIZE = (48, 64)


def write_own_data(root: Path, num_frames: int = 4) -> tuple[Path, dict[str, np.ndarray]]:
    """Write ``videos`` (of which park is an mp4) and ``sentences.csv``.

    Returns:
        ``root``, and the label maps of each video, uint8 (T, H, W): object 2 is absent in the last.
    """
    source = write_ref_youtube_vos(root / '.source', num_train=3, num_valid=0, size=SIZE,
                                   num_frames=num_frames)  # fmt: skip
    truth = {}
    for index, name in enumerate(VIDEOS):
        frames = source / 'train' / 'JPEGImages' / f'train{index}'
        maps = sorted((source / 'train' / 'Annotations' / f'train{index}').iterdir())
        truth[name] = np.stack([np.asarray(Image.open(path)) for path in maps])
        place = root / 'videos' / name
        place.parent.mkdir(exist_ok=True)
        if name != 'park':
            frames.rename(place)
            continue
        with VideoWriter(place.with_suffix('.mp4'), 5, SIZE) as writer:
            for path in sorted(frames.iterdir()):
                writer.write(np.asarray(Image.open(path)))
    write_table(root, [(v, o, f'the {OBJECTS[o]} of {v}') for v in VIDEOS for o in OBJECTS])
    return root, truth


def write_table(root: Path, rows: list, header=('video', 'object', 'sentence'), delimiter=','):
    """Write ``sentences.csv``."""
    with open(root / 'sentences.csv', 'w', newline='', encoding='utf-8') as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def stems(video: str, count: int) -> list[str]:
    """Names of the frames of a video."""
    return [f'{t:05d}' if video == 'park' else f'{5 * t:05d}' for t in range(count)]


def write_palette(masks: Path, truth: dict) -> None:
    """Index maps, with an object 7 that no sentence names."""
    for video, maps in truth.items():
        for name, labels in zip(stems(video, len(maps)), maps):
            labels = labels.copy()
            labels[0, :3] = 7
            image = Image.fromarray(labels)
            image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
            _save(image, masks / video / f'{name}.png')


def write_binary(masks: Path, truth: dict) -> None:
    """A folder of black and white images for each object, numbered from 1 as they come."""
    for video, maps in truth.items():
        for number in OBJECTS:
            for t, labels in enumerate(maps):
                image = Image.fromarray(np.uint8(255) * (labels == int(number)))
                image = image.convert('RGB') if t % 2 else image
                _save(image, masks / video / number / f'{t + 1}.png')


def write_youtube_vis(masks: Path, truth: dict) -> None:
    """One file of all; ids of annotations are not those of objects, so labels name them."""
    videos, annotations = [], []
    for i, (video, maps) in enumerate(truth.items()):
        files = [f'{video}/{name}.jpg' for name in stems(video, len(maps))]
        entry = {'id': i + 5, 'file_names': files, 'height': SIZE[0], 'width': SIZE[1]}
        videos.append({**entry, 'length': len(maps)})
        for number in OBJECTS:
            codes = [_rle(labels == int(number)) for labels in maps]
            annotations.append(
                {
                    'id': 50 + len(annotations),
                    'video_id': i + 5,
                    'category_id': int(number),
                    'segmentations': [code if code['counts'] else None for code in codes],
                }
            )
    _dump(masks / 'instances.json', _coco({'videos': videos}, annotations))


def write_coco(masks: Path, truth: dict) -> None:
    """One file a video; images in any order, polygons, tracks."""
    for video, maps in truth.items():
        images, annotations = [], []
        for t in reversed(range(len(maps))):
            file = f'{stems(video, len(maps))[t]}.png'
            images.append({'id': t + 9, 'file_name': file, 'height': SIZE[0], 'width': SIZE[1]})
            for number in OBJECTS:
                polygon = _rectangle(maps[t] == int(number))
                if polygon:
                    label = {'category_id': 1, 'attributes': {'track_id': int(number)}}
                    entry = {'image_id': t + 9, 'segmentation': [polygon], **label}
                    annotations.append({'id': len(annotations), **entry})
        _dump(masks / f'{video}.json', _coco({'images': images}, annotations))


def write_cvat(masks: Path, truth: dict) -> None:
    """One file a video: a track of polygons, and a track for each mask."""
    for video, maps in truth.items():
        root = ElementTree.Element('annotations')
        task = ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task')
        for name, value in {'name': 'task 3', 'size': len(maps)}.items():
            ElementTree.SubElement(task, name).text = str(value)
        size = ElementTree.SubElement(task, 'original_size')
        for name, value in zip(('height', 'width'), SIZE):
            ElementTree.SubElement(size, name).text = str(value)
        track = ElementTree.SubElement(root, 'track', id='20', label='dog')
        for t, labels in enumerate(maps):
            points = np.reshape(_rectangle(labels == 1), (-1, 2))
            points = ';'.join(f'{x:.2f},{y:.2f}' for x, y in points)
            fields = {'frame': str(t), 'outside': '0', 'points': points}
            ElementTree.SubElement(track, 'polygon', fields)
            ys, xs = np.nonzero(labels == 2)
            if len(ys):
                _add_cvat_mask(root, t, labels == 2, ys, xs)
        ElementTree.ElementTree(root).write(masks / f'{video}.xml')


def write_label_studio(masks: Path, truth: dict) -> None:
    """One file of all: brushes for the dog, polygons for the cat."""
    tasks = []
    for video, maps in truth.items():
        for name, labels in zip(stems(video, len(maps)), maps):
            size = {'original_height': SIZE[0], 'original_width': SIZE[1]}
            brush = {'format': 'rle', 'rle': brush_code(labels == 1), 'brushlabels': ['dog']}
            regions = [{'type': 'brushlabels', 'value': brush, **size}]
            polygon = np.reshape(_rectangle(labels == 2), (-1, 2))
            if len(polygon):
                points = (polygon / SIZE[::-1] * 100).tolist()
                value = {'points': points, 'polygonlabels': ['cat']}
                regions.append({'type': 'polygonlabels', 'value': value, **size})
            image = f'/data/local-files/?d={video}/0a1b2c3d-{name}.jpg'
            wrong = {'was_cancelled': True, 'result': []}
            tasks.append({'data': {'image': image}, 'annotations': [wrong, {'result': regions}]})
    _dump(masks / 'tasks.json', tasks)


def brush_code(mask: np.ndarray) -> list[int]:
    """Label Studio's bytes: a repeated value for each row, the last row value by value."""
    values = np.repeat(np.where(mask.ravel(), 255, 0), 4)
    bits = f'{len(values):032b}' + f'{7:05b}' + ''.join(f'{n - 1:04b}' for n in (3, 4, 8, 16))
    start = 0
    last_row = len(values) - 4 * mask.shape[1]
    while start < last_row:
        end = start + 1
        while end < last_row and values[end] == values[start] and end - start < 2**16:
            end += 1
        bits += f'111{end - start - 1:016b}{values[start]:08b}'
        start = end
    bits += f'010{len(values) - start - 1:08b}' + ''.join(f'{v:08b}' for v in values[start:])
    bits += '0' * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


# Each form: its writer, and what the table calls the two objects.
FORMS = {
    'palette': (write_palette, ('1', '2')),
    'binary': (write_binary, ('1', '2')),
    'youtube-vis': (write_youtube_vis, ('dog', 'cat')),
    'coco': (write_coco, ('1', '2')),
    'cvat': (write_cvat, ('20', 'cat')),
    'label-studio': (write_label_studio, ('dog', 'cat')),
}


def _add_cvat_mask(root, t, mask, ys, xs):
    part = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].ravel()
    runs, value = [0], False
    for pixel in part:
        if pixel != value:
            runs, value = [*runs, 0], pixel
        runs[-1] += 1
    fields = {'left': xs.min(), 'top': ys.min(), 'width': np.ptp(xs) + 1, 'height': np.ptp(ys) + 1}
    fields |= {'rle': ', '.join(map(str, runs))}
    track = ElementTree.SubElement(root, 'track', id=str(100 + t), label='cat')
    for frame, outside in ((t, '0'), (t + 1, '1')):
        values = {name: str(value) for name, value in fields.items()}
        ElementTree.SubElement(track, 'mask', {'frame': str(frame), 'outside': outside, **values})


def _rectangle(mask):
    """A polygon that COCO draws as exactly these pixels, which are a rectangle."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return []
    left, right, top, bottom = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    polygon = [left, top, right, top, right, bottom, left, bottom]
    return [float(value) for value in polygon]


def _rle(mask):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(mask.shape), 'counts': code['counts'].decode() if mask.any() else ''}


def _coco(content, annotations):
    categories = [{'id': int(number), 'name': name} for number, name in OBJECTS.items()]
    return {**content, 'categories': categories, 'annotations': annotations}


def _save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
