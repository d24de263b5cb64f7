#!/usr/bin/env python
"""Write the ground truth of A2D- or JHMDB-Sentences as one file of the COCO kind.

`convert_a2d_jhmdb.py a2d data/a2d_sentences` reads the published files and writes
data/a2d_sentences/a2d_sentences_test_annotations_in_coco_format.json; `jhmdb data/jhmdb_sentences`
writes jhmdb_sentences_gt_annotations_in_coco_format.json. Every annotated frame of a sentence is an
image with one annotation. Images are named v_<video>_f_<frame>_i_<instance> (JHMDB:
v_<video>_f_<frame>), as in the files that the published figures are measured with.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from referformer.cli import user_errors
from referformer.datasets import A2DSentences, JHMDBSentences, RVOSDataset
from referformer.datasets.transforms import LoadH5Masks, LoadMatMasks, SampleFrames
from referformer.evaluation.measures.referring import encode_masks
from referformer.files import atomic_write, check_folder


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('dataset', choices=('a2d', 'jhmdb'))
    parser.add_argument('root', type=Path, help='folder of the dataset')
    parser.add_argument('out', type=Path, nargs='?', help='file to write; default: in ROOT')
    parser.add_argument('--overwrite', action='store_true', help='replace a file that is there')
    return parser.parse_args(argv)


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Read all masks, then write."""
    args = parse_args(argv)
    if args.dataset == 'a2d':
        name, load = 'a2d_sentences_test_annotations_in_coco_format.json', LoadH5Masks()
    else:
        name, load = 'jhmdb_sentences_gt_annotations_in_coco_format.json', LoadMatMasks()
    out = args.out or args.root / name
    if out.exists() and not args.overwrite:
        raise FileExistsError(f'{out} is already there; name another file, or add --overwrite')
    if args.dataset == 'a2d':
        dataset = A2DSentences(str(args.root), split='test')
    else:
        dataset = JHMDBSentences(str(args.root))
    check_folder(out.parent)
    content = convert(dataset, load.read)
    atomic_write(out, json.dumps(content).encode())
    empty = sum(annotation['area'] == 0 for annotation in content['annotations'])
    print(f'{out}: {len(content["images"])} annotated frames, {empty} of them without the object')


def convert(dataset: RVOSDataset, read_masks: Callable[[dict], np.ndarray]) -> dict[str, list]:
    """The content of the file.

    Args:
        dataset: With one annotated frame an item.
        read_masks: From an item with ``frame_inds`` and ``key_frames`` to its mask, (1, H, W) bool.

    Raises:
        ValueError: Two sentences are annotated under one name.
    """
    only_key_frame = SampleFrames(num_frames=1, mode='centred')
    images, annotations = {}, []
    for index in tqdm(range(len(dataset)), desc='masks', unit='frame'):
        item = only_key_frame(dataset.get_data_info(index))
        name = image_name(dataset, item)
        if name in images:
            raise ValueError(
                f'{dataset.ann_file}: two sentences are annotated as {name}; files of this kind '
                'have no place for the second one'
            )
        mask = read_masks(item)
        (code,) = encode_masks(mask)
        images[name] = {'id': name, 'height': mask.shape[1], 'width': mask.shape[2]}
        annotations.append(
            {
                'id': len(images),  # from 1: COCO's scorer takes number 0 for none
                'image_id': name,
                'category_id': 1,
                'segmentation': {'size': list(code['size']), 'counts': code['counts'].decode()},
                'bbox': coco_mask.toBbox(code).tolist(),
                'area': float(coco_mask.area(code)),
                'iscrowd': 0,
            }
        )
    return {
        'categories': [{'id': 1, 'name': 'object'}],
        'images': list(images.values()),
        'annotations': annotations,
    }


def image_name(dataset: RVOSDataset, item: dict) -> str:
    """The published name of an annotated frame."""
    name = f'v_{item["video_id"]}_f_{item["key_frame"] + 1}'
    return f'{name}_i_{item["obj_id"]}' if isinstance(dataset, A2DSentences) else name


if __name__ == '__main__':
    main()
