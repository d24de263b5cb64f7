"""Work that visitors of the page ask for: in turn, within limits, ended at any time."""

import math
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
from torch.nn.modules.module import register_module_forward_pre_hook

from ..apis import ReferFormerInferencer
from ..inference import ClipPrediction, VideoPrediction
from ..inference.painting import drawn
from ..inference.sources import open_source
from ..video_io import FrameSource
from ..visualization import EvenSample

_HELD_MODELS = 2
_PICTURES = 12  # of a result, evenly spaced
_BEAT = 0.5  # seconds between two looks at a job


class Limits(NamedTuple):
    """What one visitor may ask for."""

    megabytes: int = 200  # of the video's file
    length: float = 60.0  # of the video, in seconds
    time: float = 600.0  # for one video, in seconds, without waiting for its turn
    queue: int = 20  # visitors that wait
    workers: int = 1  # videos at the same time


class Stopped(Exception):
    """Nobody waits for this job any more."""


class Job:
    """A video of a visitor, while it is being segmented and after.

    Attributes:
        session: Of the visitor.
        folder: Where ``results`` are written; it is removed when ``Jobs.segment`` ends.
        result: When it is found.
        frames: How many are found.
        length: How many there are, as the file claims.
        began: When its turn came; None while it waits.
    """

    def __init__(self, session: str) -> None:
        self.session = session
        self.folder = Path(tempfile.mkdtemp(prefix='referformer-job-'))
        self.result: VideoPrediction | None = None
        self.frames = self.length = 0
        self.began: float | None = None
        self.deadline = math.inf
        self._stop = threading.Event()
        self._pictures: EvenSample[tuple[int, np.ndarray]] = EvenSample(_PICTURES)

    def stop(self) -> None:
        """Let it end at the next module of the model."""
        self._stop.set()

    def check(self) -> None:
        """End it where nobody waits for it, or where it takes too long.

        Raises:
            Stopped: The first of them.
            ValueError: The second.
        """
        if self._stop.is_set():
            raise Stopped
        if monotonic() > self.deadline:
            raise ValueError(
                'this takes longer than the page allows: take a shorter or smaller video, fewer '
                'sentences, or a smaller model.'
            )

    def add(self, clip: ClipPrediction, texts: list[str]) -> None:
        """Draw some frames of a clip that was found."""
        self.check()
        paint = drawn(texts)
        for t in range(len(clip.frames)):
            if self._pictures.wants(clip.start + t):
                self._pictures.add((clip.start + t, paint(clip, t)))
        self.frames = clip.start + len(clip.frames)

    def pictures(self) -> list[tuple[np.ndarray, str]]:
        """Drawn frames found so far, evenly spaced, with a word about each."""
        if not self.frames:
            return []
        return [(picture, f'frame {t}') for t, picture in self._pictures.result()]


class Jobs:
    """Segments videos on a fixed number of threads, with models loaded when first asked for.

    Args:
        limits: See ``Limits``.
        device: See ``apis.init_model``.
    """

    def __init__(self, limits: Limits, device: str = 'auto') -> None:
        self.limits, self.device = limits, device
        self._models: OrderedDict[tuple[str, str], ReferFormerInferencer] = OrderedDict()
        self._loading = threading.Lock()
        self._pool = ThreadPoolExecutor(limits.workers)
        self._thread = threading.local()  # knows the job that runs on it
        self._running: set[Job] = set()
        self._hook = register_module_forward_pre_hook(self._check)

    def __enter__(self) -> 'Jobs':
        return self

    def __exit__(self, *_: Any) -> None:
        for job in list(self._running):
            job.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._hook.remove()

    def segment(
        self, session: str, video: Path, texts: list[str], model: str, dtype: str, **options: Any
    ) -> Iterator[Job]:
        """Segment a video; what becomes of it is yielded twice a second, and at its end.

        Closing the iterator, or ``leave(session)``, ends the job.

        Args:
            session: Of the visitor.
            video: The file.
            texts: Sentences.
            model: Its name, see ``apis.init_model``.
            dtype: Precision, see there.
            options: Of the inferencer's call: ``mode``, ``window``.

        Raises:
            Stopped: If the visitor has left.
            ValueError, OSError: About the video, the sentences, or the time they take.
        """
        job = Job(session)
        self._running.add(job)
        future = self._pool.submit(self._run, job, video, texts, (model, dtype), options)
        try:
            while not future.done():
                job.check()
                yield job
                wait([future], _BEAT)
            future.result()
            yield job
        finally:
            job.stop()
            future.cancel()
            future.add_done_callback(lambda _: self._forget(job))

    def leave(self, session: str) -> None:
        """End the jobs of a visitor."""
        for job in list(self._running):
            if job.session == session:
                job.stop()

    def _run(
        self, job: Job, video: Path, texts: list[str], model: tuple[str, str], options: dict
    ) -> None:
        self._thread.job = job
        try:
            job.began = monotonic()
            job.deadline = job.began + self.limits.time
            job.check()
            source = self._open(video)
            job.length = len(source)
            inferencer = self._load(*model)
            job.result = inferencer(
                source,
                texts,
                job.folder / 'results',
                extras=('matte', 'cvat'),
                each=lambda clip: job.add(clip, texts),
                **options,
            )
        finally:
            self._thread.job = None

    def _open(self, video: Path) -> FrameSource:
        """The video, if it is not too large; no longer than it may be, whatever it claims."""
        if video.stat().st_size > self.limits.megabytes * 1e6:
            raise ValueError(f'the file is larger than {self.limits.megabytes} MB.')
        source = open_source(video)
        allowed = math.ceil(self.limits.length * source.fps)
        if len(source) > allowed:
            raise ValueError(
                f'the video lasts {len(source) / source.fps:.0f} s; the page takes up to '
                f'{self.limits.length:g} s. Cut it, or use the command `referformer infer`.'
            )
        source = open_source(video, max_frames=allowed)
        source.verify()
        return source

    def _load(self, name: str, dtype: str) -> ReferFormerInferencer:
        """A model, loaded or at hand; those that were used last are kept."""
        with self._loading:
            key = name, dtype
            if key not in self._models:
                while len(self._models) >= _HELD_MODELS:
                    self._models.popitem(last=False)
                self._models[key] = ReferFormerInferencer(name, device=self.device, dtype=dtype)
            self._models.move_to_end(key)
            return self._models[key]

    def _check(self, *_: Any) -> None:
        """Before every module of a model: a window of frames can take minutes."""
        job = getattr(self._thread, 'job', None)
        if job is not None:
            job.check()

    def _forget(self, job: Job) -> None:
        self._running.discard(job)
        shutil.rmtree(job.folder, ignore_errors=True)
