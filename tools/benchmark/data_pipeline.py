"""Time the training pipeline of Ref-YouTube-VOS against its plain form, frame by frame with Pillow.

Clips of 720p JPEGs are made on the spot, in the published layout. Both forms get the same items and
the same random geometry, so that each clip has the same size in both, and each has one worker. They
take turns. Both end with uint8 clips; the plain form does not even bring them to floats.
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from referformer.benchmark.loading import (
    SIZE,
    SeededClips,
    make_frames,
    read_frames,
    write_dataset,
)
from referformer.datasets import RVOSDataset
from referformer.datasets.transforms import RandomChoice
from referformer.datasets.transforms.geometry import resized_shape, swap_sides

REPO = Path(__file__).resolve().parents[2]
CROP_SHORTER = 500  # before the crop, on average


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--config',
        type=Path,
        default=REPO / 'configs/_base_/datasets/ref_youtube_vos.py',
        help='file with train_pipeline (default: %(default)s)',
    )
    parser.add_argument(
        '--video',
        type=Path,
        default=REPO.parent / 'shared/real/01_dog.mp4',
        help='frames to use; generated ones where it does not exist (default: %(default)s)',
    )
    parser.add_argument(
        '--quality', type=int, default=90, help='of the JPEGs (default: %(default)s)'
    )
    parser.add_argument('--num-frames', type=int, default=5, help='T')
    parser.add_argument('--clips', type=int, default=16, help='in one turn')
    parser.add_argument('--rounds', type=int, default=5, help='turns of each form')
    return parser.parse_args()


def main() -> None:
    """Make the clips, let both forms take turns, print a table."""
    args = parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    pipeline = Config.fromfile(args.config)['train_pipeline']
    with tempfile.TemporaryDirectory() as folder:
        frames = read_frames(str(args.video)) if args.video.exists() else make_frames()
        write_dataset(Path(folder), frames, args.quality)
        dataset = RVOSDataset(folder, num_frames=args.num_frames, pipeline=pipeline)
        forms = {
            'ours': SeededClips(dataset, args.clips),
            'plain': Plain(dataset, args.clips),
        }
        sizes = [path.stat().st_size for path in Path(folder).rglob('*.jpg')]
        print(
            f'{platform.machine()}, torch {torch.__version__}, OpenCV {cv2.__version__}, '
            f'JPEGs of {statistics.mean(sizes) / 1e3:.0f} kB'
        )
        spent = forms['ours'].profile()
        each = (f'{k} {1e3 * v["median"] / args.clips:.1f}' for k, v in spent.items())
        print('ours, ms a clip:', ', '.join(each))
        for name, form in forms.items():
            print(f'{name:<6} {processor_time(form):6.1f} ms of processor time a clip')
        compare(forms, args.rounds)


def compare(forms: dict[str, SeededClips], rounds: int) -> None:
    """Time all clips through a loader with one worker, form by form, round by round."""
    loaders = {
        name: DataLoader(form, num_workers=1, persistent_workers=True, collate_fn=pseudo_collate)
        for name, form in forms.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in forms}
    sizes = {}
    for turn in tqdm(range(rounds + 1), desc='rounds', unit='round'):
        for name, loader in loaders.items():
            start = time.perf_counter()
            sizes[name] = [tuple(batch['inputs'][0].shape) for batch in loader]
            if turn:  # the first one warms up
                rates[name].append(len(loader) / (time.perf_counter() - start))
    assert sizes['ours'] == sizes['plain']
    ratios = [ours / plain for ours, plain in zip(rates['ours'], rates['plain'])]
    pixels = statistics.mean(h * w for *_, h, w in sizes['ours'])
    print(f'{len(sizes["ours"])} clips a turn, {pixels / 1e3:.0f} k pixels a frame on average')
    for name in forms:
        print(f'{name:<6} {statistics.median(rates[name]):6.2f} clips/s')
    print(f'ratio  {statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f})')


def processor_time(form: SeededClips) -> float:
    """Milliseconds a clip, in this process: what other programs do counts less than in a race."""
    start = time.process_time()
    for index in range(len(form)):
        form[index]
    return 1e3 * (time.process_time() - start) / len(form)


class Plain(SeededClips):
    """The same augmentation as loops over frames, in the order of the reference: flip, distortion
    at full size, then resize or resize, crop, resize."""

    def __getitem__(self, index: int) -> dict:
        """The clip and its masks, as uint8 and bool."""
        np.random.seed(index)
        transforms = self.dataset.pipeline.transforms
        item = transforms[0](self.dataset.get_data_info(index % len(self.dataset)))
        choice = next(t for t in transforms if isinstance(t, RandomChoice))
        geometry = draw_geometry(choice)
        names = [item['frame_names'][i] for i in item['frame_inds']]
        frames, masks = [], []
        for name in names:
            frames.append(Image.open(f'{item["img_dir"]}/{name}.jpg').convert('RGB'))
            ids = np.array(Image.open(f'{item["mask_dir"]}/{name}.png').convert('P'))
            masks.append(Image.fromarray((ids == item['obj_id']).astype(np.uint8)))
        boxes = [plain_box(np.array(mask)) for mask in masks]
        if np.random.rand() < 0.5:
            frames = [frame.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for frame in frames]
            masks = [mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for mask in masks]
            item['text'] = swap_sides(item['text'])
        frames = [plain_distort(frame) for frame in frames]
        frames = [plain_resize(frame, geometry, Image.Resampling.BILINEAR) for frame in frames]
        masks = [plain_resize(mask, geometry, Image.Resampling.NEAREST) for mask in masks]
        inputs = np.stack([np.array(frame).transpose(2, 0, 1) for frame in frames])
        masks = np.stack([np.array(mask) for mask in masks]).astype(bool)
        return {'inputs': torch.from_numpy(inputs), 'masks': masks, 'boxes': boxes}


class Geometry(NamedTuple):
    """What happens to the frames of a clip."""

    first: tuple[int, int]  # height, width before the crop
    window: tuple[int, int, int, int]  # left, top, right, bottom
    size: tuple[int, int]  # height, width in the end


def draw_geometry(choice: RandomChoice) -> Geometry:
    """What the transforms of the config draw, as a resize, or as resize, crop, resize."""
    sequence = choice.transforms[np.random.choice(len(choice.transforms), p=choice.prob)]
    *crop, resize = sequence.transforms
    first, window, shape = SIZE, (0, 0, SIZE[1], SIZE[0]), SIZE
    if crop:
        first = resized_shape(*SIZE, CROP_SHORTER)
        top, left, *shape = crop[0].draw(*SIZE)
        scale = first[0] / SIZE[0]
        window = tuple(round(scale * x) for x in (left, top, left + shape[1], top + shape[0]))
    size = resized_shape(*shape, int(np.random.choice(resize.scales)), resize.max_size)
    return Geometry(first, window, size)


def plain_box(mask: np.ndarray) -> list[int]:
    """First and last column and row of the foreground."""
    rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    return [columns[0], rows[0], columns[-1], rows[-1]]


def plain_resize(image: Image.Image, geometry: Geometry, how: int) -> Image.Image:
    """Resize, or resize, crop and resize one frame or mask."""
    if geometry.first != SIZE:
        image = image.resize(geometry.first[::-1], how).crop(geometry.window)
    return image.resize(geometry.size[::-1], how)


def plain_distort(frame: Image.Image) -> Image.Image:
    """SSD's photometric distortion of one frame, step by step on floats."""
    uniform, heads = np.random.uniform, lambda: np.random.rand() < 0.5
    image = np.asarray(frame).astype(np.float32)
    if heads():
        image += uniform(-32, 32)
    contrast = uniform(0.5, 1.5) if heads() else None
    contrast_first = heads()
    if contrast is not None and contrast_first:
        image *= contrast
    image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if heads():
        image[..., 1] *= uniform(0.5, 1.5)
    if heads():
        image[..., 0] += uniform(-18, 18)
        image[..., 0][image[..., 0] > 360] -= 360
        image[..., 0][image[..., 0] < 0] += 360
    image = cv2.cvtColor(image, cv2.COLOR_HSV2BGR)
    if contrast is not None and not contrast_first:
        image *= contrast
    if heads():
        image = image[..., np.random.permutation(3)]
    return Image.fromarray(image.astype(np.int32).astype(np.uint8))


if __name__ == '__main__':
    main()
