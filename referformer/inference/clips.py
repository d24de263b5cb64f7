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

from ..models.linking import QueryLink
from ..models.memory import read_bytes
from ..registry import TRANSFORMS, build
from ..structures import RVOSDataSample
from ..video_io import check_frames, prefetch
from .modes import DEFAULT_WINDOW, Mode, choose_mode
from .prediction import ClipPrediction, VideoPrediction


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
        max_memory: What a prediction may take beyond the loaded model, such as '2GB': fewer
            sentences run together, and what cannot fit is refused. None: what the config says, and
            nothing is refused.
    """

    def __init__(
        self,
        model: nn.Module,
        pipeline: Sequence[dict] | None = None,
        shorter: int | None = None,
        presence_thr: float | None = None,
        max_memory: str | None = None,
    ) -> None:
        if model.training:
            raise ValueError('the model is in training mode; call model.eval() before inference.')
        self.model = model
        check_sizes(presence_thr=presence_thr)
        if presence_thr is None:
            presence_thr = getattr(model, 'test_cfg', {}).get('presence_thr', 0.0)
        self.presence_thr = presence_thr
        if max_memory is not None:
            read_bytes(max_memory)
        self.max_memory = max_memory
        pipeline = _test_pipeline(model) if pipeline is None else pipeline
        self.transforms = _clip_transforms(pipeline, shorter)

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
        return self._predict(self._pack(frames), frames, self._samples(texts), start)

    def stream(
        self,
        frames: Iterable[np.ndarray],
        texts: Sequence[str],
        window: int | None = DEFAULT_WINDOW,
        mode: str | None = None,
    ) -> Iterator[ClipPrediction]:
        """Predict a video clip by clip; no more than one clip of frames is held, and two that wait.

        Args:
            frames: RGB uint8 (H, W, 3), in order; they are read and resized in a thread.
            texts: n sentences.
            window: Frames of a clip: independent clips (36 is the official Ref-DAVIS17 mode). 0:
                the whole video is one clip (the official Ref-YouTube-VOS mode; memory grows with
                its length).
            mode: ``whole``, ``window`` or ``stream``: overlapping windows of which each gives the
                frames that none before it had, with one object followed through all of them; for
                videos of any length. None: ``window`` decides.
        """
        chosen = choose_mode(mode, window)
        samples = self._samples(check_texts(texts))
        links = [QueryLink() for _ in samples] if chosen.name == 'stream' else None
        clips = (
            (start, clip, self._pack(clip)) for start, clip in chosen.divide(check_frames(frames))
        )
        with torch.no_grad():  # of this thread: a generator leaves it where it stops
            if hasattr(self.model, 'read'):
                text = self.model.read(samples)
                for i, sample in enumerate(samples):
                    sample.text_features = text.select(slice(i, i + 1))
        for start, clip, packed in prefetch(clips, depth=1):
            yield self._predict(packed, clip, samples, start, links)

    def plan(self, num_frames: int, frame: np.ndarray, num_sentences: int, mode: Mode) -> str:
        """What a video will take, in words.

        Args:
            num_frames: Of the video; 0 where it is not known.
            frame: Its first frame, (H, W, 3).
            num_sentences: n.
            mode: How it is to be seen.

        Raises:
            ValueError: If it does not fit into ``max_memory``.
        """
        if not hasattr(self.model, 'predict_memory'):
            return str(mode)
        length = min(mode.window or num_frames, num_frames or mode.window)
        if not length:
            return f'{mode}; the length of the video is not known, nor how much memory it takes'
        size = tuple(self._pack(frame[None])['inputs'].shape[-2:])
        masks = self.model.query_embed.num_embeddings if mode.name == 'stream' else 1
        limit = self.max_memory or self.model.test_cfg['max_memory']
        sizes = (size, frame.shape[:2])
        together = self.model.sentences_together(length, *sizes, masks, limit)
        together = min(together, num_sentences)
        needed = self.model.predict_memory(length, *sizes, together, masks)
        if self.max_memory and needed > read_bytes(limit):
            fits = self._longest(length, sizes, masks)
            way = f'--window {fits} or mode stream' if fits > 1 else 'smaller frames (--shorter)'
            raise ValueError(
                f'{mode.name} of {length} frames needs about {needed / 1e9:.1f} GB, more than '
                f'max_memory={limit}: try {way}, or allow more.'
            )
        return (
            f'{mode}; about {needed / 1e9:.2f} GB beyond the model of {limit}, '
            f'{together} of {num_sentences} sentences together'
        )

    def _longest(self, length: int, sizes: tuple, masks: int) -> int:
        """The most frames that fit with one sentence."""
        limit = read_bytes(self.max_memory)
        one, more = (self.model.predict_memory(n, *sizes, 1, masks) for n in (1, length + 1))
        return int((limit - one) / ((more - one) / length)) + 1 if limit >= one else 0

    def _samples(self, texts: Sequence[str]) -> list[RVOSDataSample]:
        """What there is to say of each sentence."""
        # Whole videos are refined, by who asks for them.
        asked = {'presence_thr': self.presence_thr, 'refine': False}
        if self.max_memory:
            asked['max_memory'] = self.max_memory
        return [
            RVOSDataSample(metainfo={'text': text.lower(), 'exp_id': str(i), **asked})
            for i, text in enumerate(texts)
        ]

    @torch.no_grad()
    def _predict(
        self,
        packed: dict,
        frames: np.ndarray,
        sentences: Sequence[RVOSDataSample],
        start: int,
        links: Sequence[QueryLink] | None = None,
    ) -> ClipPrediction:
        """What the sentences find in one clip; with ``links``, in those frames of it that are
        new."""
        shape = packed['data_samples'].metainfo
        samples = []
        for sentence in sentences:
            samples.append(RVOSDataSample(metainfo={**shape, **sentence.metainfo}))
            if 'text_features' in sentence:
                samples[-1].text_features = sentence.text_features
            if links:
                samples[-1].set_metainfo({'keep': 'all'})
        # One clip for all sentences: the model sees it once, and divides them to fit its memory.
        samples = self.model.test_step({'inputs': [packed['inputs']], 'data_samples': samples})
        relocked = None
        if links:
            pairs = zip(links, samples)
            found = [link.follow(sample.pred_instances, start) for link, sample in pairs]
            for sample, (instances, _) in zip(samples, found):
                sample.pred_instances = instances
            relocked = np.array([other for _, other in found])
        fields = [np.stack(field) for field in zip(*map(_best, samples))]
        new = fields[1].shape[1]
        first = start + len(frames) - new
        clip = ClipPrediction(first, frames[len(frames) - new :], *fields, relocked)
        return clip.hide(presence_thr=self.presence_thr)

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
    window: int | None = 0,
    shorter: int | None = None,
    fps: float = 0.0,
    presence_thr: float | None = None,
    mode: str | None = None,
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
        mode: See ``ClipInferencer.stream``.

    Raises:
        ValueError: If there are no frames, or no sentence or an empty one.
    """
    texts = check_texts(texts)
    video = None
    clips = ClipInferencer(model, shorter=shorter, presence_thr=presence_thr)
    for clip in clips.stream(frames, texts, window, mode):
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
    window: int | None = 0,
    shorter: int | None = None,
    presence_thr: float | None = None,
    mode: str | None = None,
) -> Mode:
    """Refuse windows, frame sizes and thresholds that make no sense.

    Raises:
        ValueError: See ``choose_mode``; if ``shorter`` is under 32, or ``presence_thr`` not in
            [0, 1].
    """
    chosen = choose_mode(mode, window)
    if shorter is not None and shorter < 32:
        raise ValueError(f'the shorter side must be at least 32 pixels, got {shorter}.')
    if presence_thr is not None and not 0 <= presence_thr <= 1:
        raise ValueError(f'presence_thr must be a score in [0, 1], got {presence_thr}.')
    return chosen


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


def _best(sample: RVOSDataSample) -> tuple[np.ndarray, ...]:
    """Score, masks, boxes, reference points and scores of the frames of the query with the highest
    score."""
    found = sample.pred_instances
    best = int(found.scores.argmax())
    fields = ('scores', 'masks', 'boxes', 'reference_points', 'frame_scores')
    return tuple(found[field][best].cpu().numpy() for field in fields)
