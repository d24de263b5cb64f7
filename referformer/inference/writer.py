"""What inference leaves on disk: the drawn video, masks as PNGs, a contact sheet, the scores."""

import json
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import check_folder
from ..video_io import FrameSource, VideoWriter, output_suffix
from ..visualization import EvenSample, contact_sheet, draw_tile, overlay, palette, write_image
from .clips import check_texts
from .prediction import ClipPrediction

_PENDING = 64  # PNGs that may wait to be written
_OURS = re.compile(r'overlay\.\w+|masks|contact_sheet\.png|scores\.json')


class ResultWriter:
    """Writes the results of one video into a folder, as a context manager.

    Everything goes into a temporary folder beside it, which takes the name at the end; on an
    exception it is removed, and what was there before stays. Written are ``overlay.mp4`` (or
    ``.gif``, ``.avi``, as the input), ``masks/<i>_<sentence>/<frame>.png`` (0 and 255),
    ``contact_sheet.png`` and ``scores.json``.

    Args:
        out_dir: The folder to write.
        reader: The video that is being segmented.
        texts: n sentences.
        overwrite: Replace results that are already there.
        boxes: Draw boxes and reference points.
        sheet_frames: Frames on the contact sheet.

    Raises:
        OSError: See ``check_output``.
    """

    def __init__(
        self,
        out_dir: str | Path,
        reader: FrameSource,
        texts: Sequence[str],
        overwrite: bool = False,
        boxes: bool = True,
        sheet_frames: int = 12,
    ) -> None:
        self.out_dir = Path(out_dir)
        self.texts = check_texts(texts)
        self.reader = reader
        self.boxes = boxes
        self.colors = palette(len(self.texts))
        self.mask_dirs = [f'masks/{i}_{_slug(text)}' for i, text in enumerate(self.texts)]
        self.video_name = f'overlay{output_suffix(reader)}'
        self.num_frames = 0
        self._clips: list[tuple[int, list[float]]] = []
        self._tiles: EvenSample[tuple[str, np.ndarray]] = EvenSample(sheet_frames)
        check_output(self.out_dir, overwrite)

    def __enter__(self) -> 'ResultWriter':
        self.out_dir.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.mkdtemp(prefix=f'{self.out_dir.name}.tmp-', dir=self.out_dir.parent)
        self._part = Path(part)
        try:
            for name in self.mask_dirs:
                (self._part / name).mkdir(parents=True)
            path = self._part / self.video_name
            reader = self.reader
            self._video = VideoWriter(path, reader.fps, reader.size, like=reader).__enter__()
        except BaseException:
            shutil.rmtree(self._part, ignore_errors=True)
            raise
        self._pool = ThreadPoolExecutor(2)
        self._pending: deque[Future] = deque()
        return self

    def write(self, clip: ClipPrediction) -> None:
        """Draw and write the next clip."""
        self._clips.append((clip.start, [round(float(score), 4) for score in clip.scores]))
        for t, frame in enumerate(clip.frames):
            index = clip.start + t
            masks = clip.masks[:, t]
            marks = (clip.boxes[:, t], clip.reference_points[:, t]) if self.boxes else (None, None)
            self._video.write(overlay(frame, masks, *marks, self.texts, self.colors))
            name = self._frame_name(index)
            for folder, mask in zip(self.mask_dirs, masks):
                self._save(self._part / folder / f'{name}.png', mask)
            if self._tiles.wants(index):
                tile = draw_tile(frame, masks, *marks, self.colors)
                self._tiles.add((f'frame {name}', tile))
        self.num_frames = clip.start + len(clip.frames)

    def __exit__(self, kind: type | None, *details: Any) -> None:
        try:
            self._video.__exit__(kind, *details)
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
            if kind is None:
                while self._pending:
                    self._pending.popleft().result()
                self._write_summaries()
                self._publish()
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def files(self) -> dict[str, Path]:
        """What was written, by what it is."""
        files = {'video': self.out_dir / self.video_name}
        for text, folder in zip(self.texts, self.mask_dirs):
            files[f'masks of "{text}"'] = self.out_dir / folder
        sheet = {'contact sheet': self.out_dir / 'contact_sheet.png'}
        return files | sheet | {'scores': self.out_dir / 'scores.json'}

    def _frame_name(self, index: int) -> str:
        names = self.reader.frame_names
        return f'{index:05d}' if names is None else names[index]

    def _save(self, path: Path, mask: np.ndarray) -> None:
        self._pending.append(self._pool.submit(_write_mask, path, mask))
        while len(self._pending) > _PENDING:
            self._pending.popleft().result()

    def _write_summaries(self) -> None:
        labels, tiles = zip(*self._tiles.result())
        scores = np.array([scores for _, scores in self._clips])
        notes = [f'score {_span(column)}' for column in scores.T]
        sheet = contact_sheet(tiles, labels, self.texts, self.colors, notes)
        write_image(self._part / 'contact_sheet.png', sheet)
        summary = {
            'video': self.reader.name,
            'frames': self.num_frames,
            'fps': self.reader.fps,
            'sentences': [
                {'text': text, 'masks': folder} for text, folder in zip(self.texts, self.mask_dirs)
            ],
            'clips': [{'start': start, 'scores': scores} for start, scores in self._clips],
        }
        text = json.dumps(summary, indent=2, ensure_ascii=False)
        (self._part / 'scores.json').write_text(text + '\n', encoding='utf-8')

    def _publish(self) -> None:
        """Let the finished folder take its name, in place of an older one."""
        self._part.chmod(0o777 & ~_umask())
        if self.out_dir.exists():
            old = self._part.with_name(f'{self._part.name}-old')
            self.out_dir.rename(old)
            self._part.rename(self.out_dir)
            shutil.rmtree(old)
        else:
            self._part.rename(self.out_dir)


def check_output(out_dir: Path, overwrite: bool) -> None:
    """Refuse a folder that results may not be written to.

    Raises:
        FileExistsError: If it holds results and ``overwrite`` is not set, or anything but results.
        NotADirectoryError, PermissionError: See ``check_folder``.
    """
    check_folder(out_dir)
    held = sorted(path.name for path in out_dir.iterdir()) if out_dir.exists() else []
    foreign = [name for name in held if not _OURS.fullmatch(name)]
    if foreign:
        raise FileExistsError(
            f'the output folder {out_dir} holds other files ({", ".join(foreign[:3])}); '
            'give a new folder.'
        )
    if held and not overwrite:
        raise FileExistsError(
            f'the output folder {out_dir} already holds results; give another folder, or '
            'overwrite them (--overwrite).'
        )


def _write_mask(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _slug(text: str) -> str:
    """A short file name for a sentence."""
    words = re.sub(r'[^\w]+', '-', text.lower()).strip('-')
    return words[:40].rstrip('-') or 'sentence'


def _span(scores: np.ndarray) -> str:
    low, high = f'{scores.min():.2f}', f'{scores.max():.2f}'
    return low if low == high else f'{low} to {high} over {len(scores)} clips'


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
