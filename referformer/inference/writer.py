"""What inference leaves on disk: drawn videos, masks as PNGs, a contact sheet, scores, exports."""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import atomic_write, check_folder, umask
from ..video_io import DEFAULT_FPS, WRITABLE_SUFFIXES, FrameSource, output_suffix
from ..visualization import write_image
from .coco import NAME, to_coco
from .export import optional, write_cvat, write_label_studio
from .painting import Recorder, Sheet, drawn, masked, plain

if TYPE_CHECKING:
    from .prediction import ClipPrediction, VideoPrediction

EXTRAS = ('matte', 'cutout', 'cutout-png', 'cvat', 'labelstudio')
_OURS = re.compile(
    r'overlay\.\w+|(contact_sheet\.png|(scores|predictions)\.json|cvat\.xml)'
    r'|masks|matte|cutout|cutout-png|labelstudio'
)
# What ``save`` writes, and under which suffixes; the first kind that has a suffix is its own.
_KINDS = {
    'overlay': WRITABLE_SUFFIXES,
    'matte': WRITABLE_SUFFIXES,
    'cutout': WRITABLE_SUFFIXES,
    'sheet': ('.png',),
    'coco': ('.json',),
    'cvat': ('.xml',),
    'labelstudio': ('',),
}


class ResultWriter:
    """Writes the results of one video into a folder, as a context manager.

    Everything goes into a temporary folder beside it, which takes the name at the end; on an
    exception it is removed, and what was there before stays. Written are ``overlay.mp4`` (or
    ``.gif``, ``.avi``, as the input), ``masks/<i>_<sentence>/<frame>.png`` (0 and 255),
    ``contact_sheet.png``, ``scores.json`` for readers, and ``predictions.json``, which
    ``VideoPrediction.load`` reads.

    Args:
        out_dir: The folder to write.
        result: Of the video that is being segmented; every clip is added to it before it is
            written.
        overwrite: Replace results that are already there.
        boxes: Draw boxes and reference points.
        extras: Of ``EXTRAS``. For each sentence a video ``matte/<i>_<sentence>.mp4`` (white where
            the object is) or ``cutout/...`` (the object on black), or a folder ``cutout-png/...``
            (on nothing); for annotation tools ``cvat.xml`` and ``labelstudio/``.
        sheet_frames: Frames on the contact sheet.

    Raises:
        OSError: See ``check_output``.
        ValueError: If there is no such extra.
    """

    def __init__(
        self,
        out_dir: str | Path,
        result: 'VideoPrediction',
        overwrite: bool = False,
        boxes: bool = True,
        extras: Sequence[str] = (),
        sheet_frames: int = 12,
    ) -> None:
        self.out_dir = Path(out_dir)
        self.result = result
        self.boxes = boxes
        self.extras = check_extras(extras)
        self.suffix = output_suffix(result.source)
        self.objects = [f'{i}_{_slug(text)}' for i, text in enumerate(result.texts)]
        self._sheet = Sheet(result, boxes, sheet_frames)
        check_output(self.out_dir, overwrite)

    def __enter__(self) -> 'ResultWriter':
        self.out_dir.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.mkdtemp(prefix=f'{self.out_dir.name}.tmp-', dir=self.out_dir.parent)
        self._part = Path(part)
        self._recorder = _recorder(self.result, self.result.source).__enter__()
        try:
            self._plan(self._recorder)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, clip: 'ClipPrediction') -> None:
        """Draw and write the next clip."""
        self._recorder.write(clip)
        self._sheet.write(clip)

    def __exit__(self, kind: type | None, *details: Any) -> None:
        try:
            self._recorder.__exit__(kind, *details)
            if kind is None:
                self._write_summaries()
                self._publish()
        finally:
            shutil.rmtree(self._part, ignore_errors=True)

    def files(self) -> dict[str, Path]:
        """What was written, by what it is."""
        names = {'video': f'overlay{self.suffix}'}
        for text, name in zip(self.result.texts, self.objects):
            names[f'masks of "{text}"'] = f'masks/{name}'
        names |= {'contact sheet': 'contact_sheet.png', 'scores': 'scores.json', 'COCO': NAME}
        names |= {extra: 'cvat.xml' if extra == 'cvat' else extra for extra in self.extras}
        return {what: self.out_dir / name for what, name in names.items()}

    def _plan(self, recorder: Recorder) -> None:
        part = self._part
        recorder.video(part / f'overlay{self.suffix}', drawn(self.result.texts, self.boxes))
        for i, name in enumerate(self.objects):
            recorder.pictures(part / 'masks' / name, masked('mask', i))
            for kind in {'matte', 'cutout'}.intersection(self.extras):
                recorder.video(part / kind / f'{name}{self.suffix}', masked(kind, i))
            if 'cutout-png' in self.extras:
                recorder.pictures(part / 'cutout-png' / name, masked('rgba', i))
        if 'labelstudio' in self.extras:
            recorder.pictures(part / 'labelstudio' / 'frames', plain, '.jpg')

    def _write_summaries(self) -> None:
        result, part = self.result, self._part
        write_image(part / 'contact_sheet.png', self._sheet.image())
        content = to_coco(result)
        summary = {
            'video': result.source.name,
            'frames': len(result),
            'fps': result.fps,
            'remarks': result.remarks,
            'sentences': [
                {
                    'text': found.text,
                    'masks': f'masks/{name}',
                    'score': annotation['score'],
                    'note': found.absence or 'a mask in every frame',
                }
                for found, name, annotation in zip(result, self.objects, content['annotations'])
            ],
            'clips': [
                {'start': start, 'scores': [float(round(score, 4)) for score in scores]}
                for start, scores in zip(result.starts, result.scores.astype(float))
            ],
        }
        for sentence, frames in zip(summary['sentences'], result.key_frames or ()):
            sentence['key_frames'] = frames
        text = json.dumps(summary, indent=2, ensure_ascii=False) + '\n'
        (part / 'scores.json').write_text(text, encoding='utf-8')
        (part / NAME).write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
        if 'cvat' in self.extras:
            write_cvat(result, part / 'cvat.xml')
        if 'labelstudio' in self.extras:
            write_label_studio(result, part / 'labelstudio')

    def _publish(self) -> None:
        """Let the finished folder take its name, in place of an older one."""
        self._part.chmod(0o777 & ~umask())
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


def save(
    result: 'VideoPrediction',
    path: str | Path,
    kind: str | None = None,
    video: Any = None,
    sentence: str | int | None = None,
) -> Path:
    """Write a result in one form.

    Args:
        result: What to write.
        path: The file; of ``labelstudio`` the folder.
        kind: ``overlay`` (the drawn video; what ``.mp4``, ``.gif`` and ``.avi`` stand for),
            ``matte``, ``cutout`` (videos too), ``sheet`` (``.png``), ``coco`` (``.json``), ``cvat``
            (``.xml``), ``labelstudio``. None: what the suffix stands for.
        video: Where the frames come from, if ``result.source`` is not the video or has moved.
        sentence: Draw only this one; matte and cutout are of all together otherwise.

    Returns:
        The path.

    Raises:
        ValueError: If kind and suffix do not fit, or the frames are not to be had.
        KeyError: If there is no such sentence.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    kinds = [name for name, suffixes in _KINDS.items() if suffix in suffixes]
    if kind is None and suffix and kinds:
        kind = kinds[0]
    if kind not in kinds:
        forms = '; '.join(f'{name} ({", ".join(s) or "a folder"})' for name, s in _KINDS.items())
        raise ValueError(f'cannot save {path} as {kind or "anything"}; there are: {forms}.')
    if sentence is not None:
        result = result.select(sentence)
    if kind == 'coco':
        atomic_write(path, json.dumps(to_coco(result), ensure_ascii=False).encode())
    elif kind == 'cvat':
        write_cvat(result, path)
    elif kind == 'sheet':
        sheet = Sheet(result)
        for clip in result.clips(result.open(video)):
            sheet.write(clip)
        write_image(path, sheet.image())
    else:
        source = result.open(video)
        with _recorder(result, source) as recorder:
            if kind == 'labelstudio':
                recorder.pictures(path / 'frames', plain, '.jpg')
            else:
                paint = drawn(result.texts) if kind == 'overlay' else masked(kind)
                recorder.video(path, paint)
            for clip in result.clips(source):
                recorder.write(clip)
        if kind == 'labelstudio':
            write_label_studio(result, path)
    return path


def show(result: 'VideoPrediction', video: Any = None) -> None:
    """Play the drawn video in a notebook.

    Raises:
        ModuleNotFoundError: If IPython is not installed.
    """
    display = optional('IPython.display', 'show()')
    with tempfile.TemporaryDirectory() as folder:
        path = save(result, Path(folder) / 'drawn.mp4', video=video)
        display.display(display.Video(str(path), embed=True))


def check_extras(extras: Sequence[str]) -> tuple[str, ...]:
    """Refuse what is not of ``EXTRAS``.

    Raises:
        ValueError: Naming them.
    """
    unknown = [extra for extra in extras if extra not in EXTRAS]
    if unknown:
        raise ValueError(f'there is no extra {unknown[0]!r}; there are: {", ".join(EXTRAS)}.')
    return tuple(extras)


def _recorder(result: 'VideoPrediction', source: FrameSource) -> Recorder:
    return Recorder(result.names, result.fps or DEFAULT_FPS, result.size, source)


def _slug(text: str) -> str:
    """A short file name for a sentence."""
    words = re.sub(r'[^\w]+', '-', text.lower()).strip('-')
    return words[:40].rstrip('-') or 'sentence'
