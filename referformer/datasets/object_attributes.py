"""What objects are like, without sentences: for the pre-training of backbones."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from referformer.files import advised, read_json
from referformer.registry import DATASETS, TRANSFORMS, build

from .annotation_files import get_entry, integer, read_frames, read_videos, require, require_folders
from .tolerant import TolerantDataset


@DATASETS.register_module()
class ObjectAttributes(TolerantDataset):
    """Clips of synthetic videos, with all their objects and the attributes that ``meta.json`` notes
    of each (docs/synthetic_data.md).

    There is one item for every ``num_frames``-th frame of each video. ``obj_id`` is the list of its
    N objects, ``label`` (N, A) says which value each has of each attribute; the other keys are
    those of training items of :class:`RVOSDataset`. No flip may follow: it would change what
    "left" means.

    Args:
        data_root: Folder that ``tools/dataset_tools/make_synthetic.py`` made.
        attributes: Names of A attributes, each with the values it can have, in the order of their
            labels.
        split: 'train' or 'valid'.
        num_frames: Distance of the frames that give items: the T of the clips.
        pipeline: Transforms or their configs.
        kwargs: ``max_broken``, see :class:`TolerantDataset`, and further arguments of
            :class:`mmengine.dataset.BaseDataset`.

    Raises:
        FileNotFoundError: Where a file is missing.
        ValueError: Where a video has no frames or no objects, or ``meta.json`` lacks an attribute
            of an object, or has another value; in training, past ``max_broken``.
    """

    def __init__(
        self,
        data_root: str,
        attributes: Mapping[str, Sequence[str]],
        split: str = 'train',
        num_frames: int = 5,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs: Any,
    ) -> None:
        if num_frames < 1:
            raise ValueError(f'num_frames must be at least 1, but is {num_frames}')
        self.attributes = attributes
        self.split = split
        self.num_frames = num_frames
        super().__init__(
            data_root=str(data_root),
            ann_file=f'meta_expressions/{split}/meta_expressions.json',
            pipeline=[build(transform, TRANSFORMS) for transform in pipeline],
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read and check the files."""
        folder = Path(self.data_root, self.split)
        meta_file = folder / 'meta.json'
        require(
            meta_file,
            f'the attributes; {advised("tools/dataset_tools/make_synthetic.py")} makes them',
        )
        meta = get_entry(read_json(meta_file), 'videos', meta_file, 'videos')
        videos = read_videos(self.ann_file)
        images, masks = f'{folder}/JPEGImages', f'{folder}/Annotations'
        require_folders(videos, images)
        require_folders(videos, masks)
        items = []
        for video_id, video in videos.items():
            frames = read_frames(video_id, video, self.ann_file)
            where = f'videos.{video_id}.objects'
            video = get_entry(meta, video_id, meta_file, f'videos.{video_id}')
            objects = get_entry(video, 'objects', meta_file, where)
            if not objects or not isinstance(objects, dict):
                raise ValueError(f'{meta_file}: {where} is empty. Remove the video.')
            shared = {
                'video_id': video_id,
                'frame_names': frames,
                'img_dir': f'{images}/{video_id}',
                'mask_dir': f'{masks}/{video_id}',
                'obj_id': [integer(i, f'{meta_file}: an id in {where}', 1, 255) for i in objects],
                'label': [
                    self._labels(attributes, f'{meta_file}: {where}.{obj_id}')
                    for obj_id, attributes in objects.items()
                ],
            }
            items += [{**shared, 'centre': i} for i in range(0, len(frames), self.num_frames)]
        return items

    def get_data_info(self, idx: int) -> dict:
        """The item with the given index, as described at the class."""
        return {
            **super().get_data_info(idx),
            'num_frames': self.num_frames,
            'img_suffix': '.jpg',
            'mask_suffix': '.png',
            'exp_id': None,
            'text': '',
            'kind': None,
        }

    def _labels(self, attributes: Mapping[str, str], where: str) -> list[int]:
        labels = []
        for name, values in self.attributes.items():
            value = attributes.get(name) if isinstance(attributes, dict) else None
            if value not in list(values):
                raise ValueError(
                    f'{where}.{name} must be one of {", ".join(values)}, not {value!r}'
                )
            labels.append(list(values).index(value))
        return labels
