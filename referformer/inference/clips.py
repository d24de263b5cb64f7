"""Clips, windows and whole videos over one model.

Letters: n sentences, T frames, H W size of the frames on disk.

Every prediction goes through ``model.test_step`` with the transforms of the config's own test
pipeline: the path of ``tools/test.py`` and of validation.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.registry import init_default_scope
from torch import nn

from ..registry import TRANSFORMS, build
from ..structures import RVOSDataSample
from ..video_io import check_frames
from .prediction import ClipPrediction, VideoPrediction

DEFAULT_WINDOW = 36


class ClipInferencer:
    """Runs one model over clips with several sentences each.

    Args:
        model: A model in evaluation mode, as ``apis.init_model`` makes it.
        pipeline: Configs of test transforms; what samples and loads is left out. By default those
            of ``model.cfg``.
        shorter: Resize frames to this shorter side, in pixels, instead of what the pipeline says.
            Masks have the size of the frames on disk either way.
        presence_thr: Frames in which the model is less sure than this that the object is there have
            an empty mask; None: what its config says (``model.test_cfg.presence_thr``).
    """

    def __init__(
        self,
        model: nn.Module,
        pipeline: Sequence[dict] | None = None,
        shorter: int | None = None,
        presence_thr: float | None = None,
    ) -> None:
        if model.training:
            raise ValueError('the model is in training mode; call model.eval() before inference.')
        self.model = model
        check_sizes(presence_thr=presence_thr)
        if presence_thr is None:
            presence_thr = getattr(model, 'test_cfg', {}).get('presence_thr', 0.0)
        self.presence_thr = presence_thr
        pipeline = _test_pipeline(model) if pipeline is None else pipeline
        self.transforms = _clip_transforms(pipeline, shorter)

    @torch.no_grad()
    def predict(self, frames: np.ndarray, texts: Sequence[str], start: int = 0) -> ClipPrediction:
        """Segment what each sentence names in one clip.

        Args:
            frames: RGB uint8, (T, H, W, 3).
            texts: n sentences.
            start: Number of the first frame in the video.

        Raises:
            ValueError: If there is no sentence or an empty one, or no frame.
        """
        texts = check_texts(texts)
        if frames.ndim != 4 or not len(frames):
            raise ValueError(f'expected a clip (T, H, W, 3) with frames, got shape {frames.shape}.')
        packed = self._pack(frames)
        samples = []
        for i, text in enumerate(texts):
            samples.append(packed['data_samples'].new())
            samples[-1].set_metainfo(
                {'text': text.lower(), 'exp_id': str(i), 'presence_thr': self.presence_thr}
            )
            samples[-1].set_metainfo({'refine': False})  # whole videos are, by who asks for them
        # One clip for all sentences: the model sees it once, and divides them to fit its memory.
        samples = self.model.test_step({'inputs': [packed['inputs']], 'data_samples': samples})
        found = [_best(sample) for sample in samples]
        clip = ClipPrediction(start, frames, *(np.stack(field) for field in zip(*found)))
        return clip.hide(presence_thr=self.presence_thr)

    def stream(
        self, frames: Iterable[np.ndarray], texts: Sequence[str], window: int = DEFAULT_WINDOW
    ) -> Iterator[ClipPrediction]:
        """Predict a video clip by clip; never more than one clip of frames is held.

        Args:
            frames: RGB uint8 (H, W, 3), in order.
            texts: n sentences.
            window: Frames of a clip: independent clips (36 is the official Ref-DAVIS17 mode). 0:
                the whole video is one clip (the official Ref-YouTube-VOS mode; memory grows with
                its length).
        """
        check_sizes(window)
        start = 0
        for clip in _windows(check_frames(frames), window):
            yield self.predict(clip, texts, start)
            start += len(clip)

    def _pack(self, frames: np.ndarray) -> dict:
        T, H, W, _ = frames.shape
        results: dict[str, Any] = {
            'imgs': np.ascontiguousarray(frames),
            'ori_shape': (H, W),
            'img_shape': (H, W),
            'frame_inds': np.arange(T),
            'key_frames': np.arange(T),
            'frame_names': [f'{t:05d}' for t in range(T)],
            'video_id': '',
            'exp_id': '0',
            'obj_id': None,
            'kind': None,
            'text': '',
        }
        for transform in self.transforms:
            results = transform(results)
        return results


def segment_video(
    model: nn.Module,
    frames: Iterable[np.ndarray],
    texts: Sequence[str],
    window: int = 0,
    shorter: int | None = None,
    fps: float = 0.0,
    presence_thr: float | None = None,
) -> VideoPrediction:
    """Segment what each sentence names in a video.

    Args:
        model: A model in evaluation mode, as ``apis.init_model`` makes it.
        frames: RGB uint8 (H, W, 3) in order, or one array (T, H, W, 3).
        texts: n sentences.
        window: Frames of a clip; 0: the whole video is one.
        shorter: See ``ClipInferencer``.
        fps: Noted in the result.
        presence_thr: See ``ClipInferencer``.

    Raises:
        ValueError: If there are no frames, or no sentence or an empty one.
    """
    texts = check_texts(texts)
    video = None
    clips = ClipInferencer(model, shorter=shorter, presence_thr=presence_thr)
    for clip in clips.stream(frames, texts, window):
        video = video or VideoPrediction(texts, fps, clip.frames.shape[1:3])
        video.append(clip)
    if video is None:
        raise ValueError('the video has no frames.')
    return video


def check_texts(texts: Sequence[str] | str) -> list[str]:
    """Sentences with their white space collapsed.

    Raises:
        ValueError: If there is none, or one of them is empty.
    """
    texts = [' '.join(text.split()) for text in ([texts] if isinstance(texts, str) else texts)]
    if not texts:
        raise ValueError('no sentence is given; name at least one object, such as "the dog".')
    if not all(texts):
        raise ValueError(
            f'sentence {texts.index("") + 1} of {len(texts)} is empty; name an object, such as '
            '"the dog".'
        )
    return texts


def check_sizes(
    window: int = 0, shorter: int | None = None, presence_thr: float | None = None
) -> None:
    """Refuse windows, frame sizes and thresholds that make no sense.

    Raises:
        ValueError: If ``window`` is negative, ``shorter`` under 32, or ``presence_thr`` not in
            [0, 1].
    """
    if window < 0:
        raise ValueError(
            f'the window must be a number of frames, or 0 for the whole video, got {window}.'
        )
    if shorter is not None and shorter < 32:
        raise ValueError(f'the shorter side must be at least 32 pixels, got {shorter}.')
    if presence_thr is not None and not 0 <= presence_thr <= 1:
        raise ValueError(f'presence_thr must be a score in [0, 1], got {presence_thr}.')


def _test_pipeline(model: nn.Module) -> Sequence[dict]:
    cfg = getattr(model, 'cfg', None)
    try:
        return cfg.test_dataloader.dataset.pipeline
    except AttributeError:
        raise ValueError(
            'the model carries no config with test_dataloader.dataset.pipeline: make it by '
            'referformer.apis.init_model, or give the pipeline.'
        ) from None


def _clip_transforms(pipeline: Sequence[dict], shorter: int | None) -> list[Any]:
    """What comes after loading, in the order of the pipeline."""
    init_default_scope('referformer')
    steps = [dict(step) for step in pipeline]
    # A sentence is given here, not made.
    steps = [step for step in steps if not _kind(step).startswith(('Sample', 'Load', 'Write'))]
    check_sizes(shorter=shorter)
    if shorter is not None:
        kept = [step for step in steps if _kind(step) != 'Resize']
        steps = [{'type': 'Resize', 'shorter': shorter, 'resize_masks': False}, *kept]
    return [build(step, TRANSFORMS) for step in steps]


def _kind(step: dict) -> str:
    kind = step['type']
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__


def _windows(frames: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Stacks of ``size`` frames, the last one shorter; of all frames if ``size`` is 0."""
    clip: list[np.ndarray] = []
    for frame in frames:
        clip.append(frame)
        if len(clip) == size:
            yield np.stack(clip)
            clip = []
    if clip:
        yield np.stack(clip)


def _best(sample: RVOSDataSample) -> tuple[np.ndarray, ...]:
    """Score, masks, boxes, reference points and scores of the frames of the query with the highest
    score."""
    found = sample.pred_instances
    best = int(found.scores.argmax())
    fields = ('scores', 'masks', 'boxes', 'reference_points', 'frame_scores')
    return tuple(found[field][best].cpu().numpy() for field in fields)
