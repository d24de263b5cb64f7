"""The last step: from a dict of arrays to what the model takes."""

import numpy as np
import torch
from mmengine.structures import InstanceData

from referformer.registry import TRANSFORMS
from referformer.structures import RVOSDataSample, xyxy_to_cxcywh

_META = ('text', 'kind', 'video_id', 'exp_id', 'obj_id', 'ori_shape', 'img_shape')


@TRANSFORMS.register_module()
class PackClip:
    """Pack a clip as ``inputs``, uint8 (T, 3, h, w), and ``data_samples``, a
    :class:`RVOSDataSample`.

    Meta: ``text, kind, video_id, exp_id, obj_id, frame_names`` (of the T' annotated frames),
    ``key_frames``, ``ori_shape``, ``img_shape``, ``scale_factor`` (x, y).
    ``gt_instances``, where masks were loaded: ``labels (N,)``, or (N, A) where the item has so
    many, ``boxes (N, T', 4)`` cxcywh in [0, 1], ``masks (N, T', h, w)`` bool, ``valid (N, T')``
    bool.
    ``gt_control`` and ``gt_foreground``, where their masks were loaded: ``masks (1, T', H0, W0)``.
    """

    def __call__(self, results: dict) -> dict:
        """Pack."""
        key_frames = results['key_frames']
        names = [results['frame_names'][i] for i in results['frame_inds'][key_frames]]
        sample = RVOSDataSample(metainfo={key: results[key] for key in _META})
        sample.set_metainfo(
            {
                'frame_names': names,
                'key_frames': np.asarray(key_frames).tolist(),
                'scale_factor': results.get('scale_factor', (1.0, 1.0)),
                'frame_order': results.get('frame_order'),
            }
        )
        if 'masks' in results:
            sample.gt_instances = _pack_instances(results)
        if 'control_masks' in results:
            sample.gt_control = InstanceData(masks=_tensor(results['control_masks']))
        if 'foreground' in results:
            sample.gt_foreground = InstanceData(masks=_tensor(results['foreground']))
        frames = np.asarray(results['imgs']).transpose(0, 3, 1, 2)
        return {'inputs': _tensor(frames), 'data_samples': sample}


def _pack_instances(results: dict) -> InstanceData:
    height, width = results['img_shape']
    boxes = xyxy_to_cxcywh(_tensor(results['boxes']))
    labels = torch.as_tensor(results['label'], dtype=torch.int64)
    return InstanceData(
        labels=labels if labels.dim() else labels.expand(len(boxes)),
        boxes=boxes / boxes.new_tensor([width, height, width, height]),
        masks=_tensor(results['masks']),
        valid=_tensor(results['valid']),
    )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
