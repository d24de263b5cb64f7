"""Refinement of what a model predicts: the samples of a test, and the result of inference.

Letters: n sentences, T frames, H W size of the frames on disk, h w that of the model's input.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from ..inference import VideoPrediction
    from ..structures import RVOSDataSample
    from .refiner import Refiner

# How much surer than a mask without any certainty one is that has all of it; only the order counts.
_SCALE = 9.0


class _Frames:
    """Frames of a clip as they were before the model's preprocessing, again at each iteration."""

    def __init__(self, clip: Tensor, preprocessor: nn.Module, size: Sequence[int]) -> None:
        self.clip, self.preprocessor, self.size = clip, preprocessor, tuple(size)

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.clip:
            frame = (frame.float() * self.preprocessor.std + self.preprocessor.mean) * 255
            image = frame.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
            yield cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_LINEAR)


def refine_samples(
    refiner: 'Refiner',
    inputs: Tensor,
    data_samples: Sequence['RVOSDataSample'],
    preprocessor: nn.Module,
) -> None:
    """Put refined masks in place of the predicted ones; ``refined_from`` of a sample names the key
    frames, numbers within the clip.

    Args:
        refiner: See ``Refiner``.
        inputs: Normalised clips (B, T, 3, h, w); B may be 1 for several sentences.
        data_samples: With ``pred_instances`` of one query each. Logits, where there are any, become
            those of the refined masks, at half the original size.
        preprocessor: What normalised, a ``ClipPreprocessor``.
    """
    groups = [data_samples] if len(inputs) == 1 else [[sample] for sample in data_samples]
    for clip, samples in zip(inputs, groups):
        h, w = samples[0].img_shape[:2]
        frames = _Frames(clip[..., :h, :w], preprocessor, samples[0].ori_shape[:2])
        found = [sample.pred_instances for sample in samples]
        masks, frame_scores = (
            np.stack([one[key][0].float().cpu().numpy() for one in found])
            for key in ('masks', 'frame_scores')
        )
        certainty = None
        if all('logits' in one for one in found):
            certainty = np.stack([_certainty(one.logits[0]) for one in found])
        refined = refiner(frames, masks > 0.5, frame_scores, certainty)
        for sample, one, new, scores, keys in zip(samples, found, *refined):
            device = one.masks.device
            one.masks = torch.from_numpy(new)[None].to(device)
            if 'logits' in one:
                one.logits = _logits(new, scores)[None].to(device)
            sample.set_metainfo({'refined_from': keys})


def refine_video(
    result: 'VideoPrediction',
    refiner: 'Refiner',
    out_dir: str | Path | None = None,
    **options: Any,
) -> 'VideoPrediction':
    """Refine a result over the whole video, and write it.

    Args:
        result: Of a source that can be read again.
        refiner: See ``Refiner``.
        out_dir: Where to write what ``inference.ResultWriter`` describes; None: nowhere.
        options: Of ``ResultWriter``.

    Raises:
        ValueError: If the video cannot be read again.
    """
    from ..inference import ResultWriter, VideoPrediction

    frames = result.open()
    masks = np.stack([found.masks for found in result])
    refined = refiner(frames, masks, result.frame_scores)
    better = VideoPrediction(result.texts, result.fps, result.size, result.source)
    better.remarks, better.seconds = result.remarks, result.seconds
    better.key_frames = refined.key_frames
    writer = ResultWriter(out_dir, better, **options) if out_dir else None
    with writer or nullcontext():
        for clip in result.clips(frames):
            part = slice(clip.start, clip.start + len(clip.frames))
            clip = clip._replace(masks=refined.masks[:, part])
            better.append(clip)
            if writer:
                writer.write(clip)
    if writer:
        better.files = writer.files()
    return better


def _certainty(logits: Tensor) -> np.ndarray:
    """How far the probabilities of each mask's pixels are above one half, (T,)."""
    prob = logits.float().sigmoid().flatten(1)
    inside = prob > 0.5
    total = ((2 * prob - 1) * inside).sum(1) / inside.sum(1).clamp(min=1)
    return total.cpu().numpy()


def _logits(masks: np.ndarray, scores: np.ndarray) -> Tensor:
    """Logits (T, H/2, W/2) that give these masks, and let the surer one of two objects win."""
    H, W = masks.shape[1:]
    size = (max(1, W // 2), max(1, H // 2))
    small = [cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA) for m in masks]
    sure = 1 + _SCALE * torch.from_numpy(np.asarray(scores, np.float32))[:, None, None]
    return (2 * torch.from_numpy(np.stack(small)) - 1) * sure
