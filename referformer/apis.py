"""Using a trained model without knowing its config."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from logging import WARNING
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from torch import nn
from tqdm import tqdm

from .engine.checkpoint import load_checkpoint
from .engine.device import check_device
from .engine.launch import read_config, read_tokenizer
from .inference import (
    ClipInferencer,
    ClipPrediction,
    ResultWriter,
    VideoPrediction,
    check_sizes,
    check_texts,
)
from .inference.sources import open_source
from .models.precision import check_dtype
from .refine import Refiner, refine_video
from .registry import INFERENCERS, MODELS
from .video_io import prefetch
from .zoo import DEFAULT_MODEL, list_models
from .zoo.cards import read_card
from .zoo.weights import find_checkpoint, settle_tokenizer

__all__ = ['ReferFormerInferencer', 'check_device', 'init_model', 'list_models']


def init_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str = 'auto',
    cfg_options: dict[str, Any] | None = None,
    dtype: str | None = None,
) -> nn.Module:
    """Build a model, load its weights, and make it ready for inference.

    Args:
        config: The name of a model (``list_models()``; published weights are fetched on first use),
            the folder of a published one, a config file, or a loaded config.
        checkpoint: ``.pth`` or ``.safetensors``, an address (``https://...``,
            ``hf://OWNER/REPO/FILE``) or the name of a published model; official files will do. None
            takes those of the name or folder, and leaves the weights random where there are none.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes CUDA where there is any.
        cfg_options: Changes to the config, ``{'model.num_queries': 1}``.
        dtype: What predictions are computed in: ``fp32`` (exact), ``bf16`` (CPU and CUDA) or
            ``fp16`` (CUDA); None: what the config says, which is ``fp32`` unless it says so.

    Returns:
        The model in evaluation mode, with its config as ``model.cfg``, and as ``model.card`` what
        lies beside its weights: a ``zoo.cards.Card`` or None.

    Raises:
        FileNotFoundError: If config or checkpoint do not exist.
        ConnectionError: If weights could not be fetched; the message says how to do it by hand.
        ValueError: If the device does not exist, the config cannot be read, or the checkpoint
            belongs to another architecture.
        OSError: If the tokenizer is not there.
    """
    target = check_device(device)
    if dtype is not None:
        check_dtype(dtype, target)
        cfg_options = {**(cfg_options or {}), 'model.test_cfg.dtype': dtype}
    source = config
    if not isinstance(config, Config):
        config = read_config(config)
    if cfg_options:
        config.merge_from_dict(cfg_options)
    settle_tokenizer(config)
    if checkpoint is not None or not isinstance(source, Config):
        checkpoint = find_checkpoint(source, checkpoint)
    init_default_scope(config.get('default_scope', 'referformer'))
    model = MODELS.build(config.model)
    if checkpoint is None:
        print_log(
            'no checkpoint is given: the weights of the model are random.', 'current', WARNING
        )
    else:
        load_checkpoint(model, checkpoint)
    read_tokenizer(model)
    model.cfg = config
    model.card = None if checkpoint is None else read_card(checkpoint)
    return model.to(target).eval()


@INFERENCERS.register_module()
class ReferFormerInferencer:
    """Segments what sentences name in videos.

    >>> inferencer = ReferFormerInferencer('referformer_vswin-b_ytvos')
    >>> result = inferencer('video.mp4', ['the dog', 'the woman'], out_dir='results')
    >>> print(result)
    >>> result['the dog'].masks  # bool (frames, H, W)

    Args:
        model: What ``init_model`` takes, or a model made by it; by default the small one for real
            video that comes with the package.
        weights: The checkpoint; see ``init_model``.
        device: See ``init_model``.
        cfg_options: See ``init_model``.
        dtype: See ``init_model``.
    """

    def __init__(
        self,
        model: str | Path | Config | nn.Module = DEFAULT_MODEL,
        weights: str | Path | None = None,
        device: str = 'auto',
        cfg_options: dict[str, Any] | None = None,
        dtype: str | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            model = init_model(model, weights, device, cfg_options, dtype)
        self.model = model

    def __call__(
        self,
        video: Any,
        texts: Sequence[str] | str,
        out_dir: str | Path | None = None,
        window: int | None = None,
        shorter: int | None = None,
        score_thr: float = 0.0,
        presence_thr: float | None = None,
        overwrite: bool = False,
        boxes: bool = True,
        extras: Sequence[str] = (),
        progress: bool = False,
        mode: str | None = None,
        max_memory: str | None = None,
        refine: dict[str, Any] | None = None,
        each: Callable[[ClipPrediction], None] | None = None,
    ) -> VideoPrediction:
        """Segment one video.

        Args:
            video: What ``inference.sources.open_source`` takes: a file, a folder, an array, ...
            texts: One sentence per object.
            out_dir: Where to write what ``inference.ResultWriter`` describes; None: nowhere.
            window: Frames that are seen together, 36 by default; 0 for the whole video.
            shorter: Shorter side, in pixels, that the model sees; None: what its config says.
            score_thr: Where a sentence scores less than this in a clip, its masks are empty.
            presence_thr: Frames in which the model is less sure than this that the object is there
                have an empty mask; None: what the model's config says.
            overwrite: Replace results that are in ``out_dir``.
            boxes: Draw boxes and reference points.
            extras: What else to write into ``out_dir``: ``matte``, ``cutout``, ``cutout-png``,
                ``cvat``, ``labelstudio``; see ``inference.ResultWriter``.
            progress: Show a progress bar, and how the video is seen and what memory that takes.
            mode: ``whole``, ``window`` or ``stream``; see ``inference.ClipInferencer.stream``.
            max_memory: See ``inference.ClipInferencer``.
            refine: What refines the masks over the whole video, such as
                ``dict(type='FlowPropagator')``; None: what the model's config says. The video is
                read twice more.
            each: Gets every clip as soon as it is found, in another thread.

        Raises:
            FileNotFoundError, ValueError: As ``open_source``; for an empty sentence.
            FileExistsError: If ``out_dir`` holds results.
        """
        texts = check_texts(texts)
        chosen = check_sizes(window, shorter, presence_thr, mode)
        reader = open_source(video)
        clips = ClipInferencer(
            self.model, shorter=shorter, presence_thr=presence_thr, max_memory=max_memory
        )
        plan = clips.plan(len(reader), np.zeros((*reader.size, 3), np.uint8), len(texts), chosen)
        if progress:
            print(plan, flush=True)
        result = VideoPrediction(texts, reader.fps, reader.size, reader)
        refine = refine or getattr(self.model, 'test_cfg', {}).get('refine')
        refiner = refine and Refiner.from_config(refine)
        if refiner and not reader.repeatable:
            raise ValueError(f'{reader.name} cannot be read twice, as refine needs it.')
        writer = out_dir and ResultWriter(out_dir, result, overwrite, boxes, extras)
        first = None if refiner else writer  # what is refined is written afterwards
        begin = perf_counter()
        bar = tqdm(total=len(reader) or None, unit='frame', disable=not progress)

        def keep(clip: ClipPrediction) -> None:
            clip = clip.hide(below=score_thr)
            if not clip.start:
                result.remarks = self._remarks(texts, clip.frames)
            result.remarks += _relocks(texts, clip)
            result.append(clip)
            if first:
                first.write(clip)
            if each:
                each(clip)
            result.seconds = round(perf_counter() - begin, 2)

        with bar, first or nullcontext(), ThreadPoolExecutor(1) as other:
            written: Future | None = None
            for clip in clips.stream(prefetch(reader), texts, window, mode):
                if written:  # no more than one clip waits
                    written.result()
                written = other.submit(keep, clip)
                bar.update(len(clip.frames))
            if written:
                written.result()
            bar.total = bar.n  # the container may have claimed another number
        if refiner:
            options = {'overwrite': overwrite, 'boxes': boxes, 'extras': extras}
            return refine_video(result, refiner, out_dir, **options)
        if writer:
            result.files = writer.files()
        return result

    def _remarks(self, texts: Sequence[str], frames: np.ndarray) -> list[str]:
        """What the model's card says about these sentences and frames; it is logged too."""
        card = getattr(self.model, 'card', None)
        remarks = [] if card is None else card.remarks(texts, frames)
        for remark in remarks:
            print_log(remark, 'current', WARNING)
        return remarks


def _relocks(texts: Sequence[str], clip: ClipPrediction) -> list[str]:
    """Where a stream lost its object for another one; logged too."""
    if clip.relocked is None:
        return []
    remarks = [
        f'"{text}": another object is followed from frame {clip.start} on'
        for text, relocked in zip(texts, clip.relocked)
        if relocked
    ]
    for remark in remarks:
        print_log(remark, 'current', WARNING)
    return remarks
