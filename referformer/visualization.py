"""Pictures of predictions: objects on frames, sheets of frames, truth beside prediction.

All images are RGB uint8 (H, W, 3). An object is drawn in the colour of its sentence, everywhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
from mmengine.dist import master_only
from mmengine.visualization import LocalVisBackend, Visualizer
from PIL import Image, ImageDraw

from .evaluation.measures.region_boundary import region_similarity
from .files import atomic_open
from .registry import VISUALIZERS
from .structures import RVOSDataSample
from .text_drawing import GREY, PAPER, font, legend_patch, sheet_header

# Bright, far apart from each other, and rare in photographs.
_COLORS = (
    (255, 59, 48),
    (10, 132, 255),
    (48, 209, 88),
    (255, 204, 0),
    (191, 90, 242),
    (100, 230, 225),
    (255, 130, 30),
    (255, 110, 190),
)
Item = TypeVar('Item')


def palette(num: int) -> list[tuple[int, int, int]]:
    """One RGB colour for each of ``num`` sentences; after 8 they repeat."""
    return [_COLORS[i % len(_COLORS)] for i in range(num)]


def overlay(
    frame: np.ndarray,
    masks: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    reference_points: np.ndarray | None = None,
    texts: Sequence[str] = (),
    colors: Sequence[tuple[int, int, int]] | None = None,
    alpha: float = 0.45,
    spotlight: bool = False,
) -> np.ndarray:
    """Draw k objects on a copy of one frame.

    Args:
        frame: RGB uint8, (H, W, 3).
        masks: Bool, (k, H, W); filled with the colour and outlined.
        boxes: xyxy in pixels, (k, 4); boxes without area are left out.
        reference_points: xy in pixels, (k, 2); NaN is left out.
        texts: Sentences for the legend in the upper left corner, which takes at most a quarter of
            the height; what does not fit ends in an ellipsis.
        colors: One RGB colour per object.
        alpha: Opacity of the fill, 0 to 1.
        spotlight: Instead of filling the objects, which hides their own colours, make everything
            else grey and dark.
    """
    out = np.ascontiguousarray(frame).copy()
    height, width = out.shape[:2]
    num = max(len(x) for x in (masks, boxes, reference_points, texts, ()) if x is not None)
    colors = list(colors or palette(num))
    line = max(1, round(min(height, width) / 300))
    if spotlight and masks is not None:
        _dim(out, np.any(masks, axis=0))
        alpha = 0.0
    for mask, color in zip(() if masks is None else masks, colors):
        _draw_mask(out, mask, color, alpha, line)
    for box, color in zip(() if boxes is None else boxes, colors):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        if x2 > x1 and y2 > y1:
            cv2.rectangle(out, (x1, y1), (x2, y2), color, line, cv2.LINE_AA)
    for point, color in zip(() if reference_points is None else reference_points, colors):
        if not np.isfinite(point).all():
            continue
        centre = tuple(round(float(v)) for v in point)
        cv2.circle(out, centre, 2 * line + 1, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(out, centre, 2 * line, color, -1, cv2.LINE_AA)
    if texts:
        _paste(out, legend_patch(tuple(texts), tuple(map(tuple, colors)), height, width))
    return out


def draw_tile(
    frame: np.ndarray,
    masks: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    reference_points: np.ndarray | None = None,
    colors: Sequence[tuple[int, int, int]] | None = None,
    width: int = 400,
    spotlight: bool = False,
) -> np.ndarray:
    """``overlay`` on a frame brought to about ``width`` pixels.

    Small frames grow by the largest whole factor that fits, large ones shrink.
    """
    scale = max(1, width // frame.shape[1]) if frame.shape[1] <= width else width / frame.shape[1]
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    frame = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    if masks is not None:
        masks = np.stack([resize_mask(mask, size[::-1]) for mask in masks]) if len(masks) else None
    boxes = None if boxes is None else np.asarray(boxes) * scale
    points = None if reference_points is None else np.asarray(reference_points) * scale
    return overlay(frame, masks, boxes, points, colors=colors, spotlight=spotlight)


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a bool mask (H, W) to ``size`` (h, w); a pixel is set if half of it is covered."""
    if mask.shape == tuple(size):
        return mask.astype(bool)
    shrinks = size[0] < mask.shape[0]
    covered = cv2.resize(
        mask.astype(np.float32),
        (size[1], size[0]),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST,
    )
    return covered >= 0.5


def contact_sheet(
    tiles: Sequence[np.ndarray],
    labels: Sequence[str],
    texts: Sequence[str] = (),
    colors: Sequence[tuple[int, int, int]] | None = None,
    notes: Sequence[str] = (),
    columns: int | None = None,
    remarks: Sequence[str] = (),
) -> np.ndarray:
    """Put drawn frames of one size on a sheet, with the sentences above as a legend.

    Args:
        tiles: n images of one size.
        labels: What stands under each of them.
        texts: Sentences, each beside a patch of its colour; they wrap and are never cut.
        colors: One RGB colour per sentence.
        notes: One line of small print per sentence (scores, names); may be empty.
        columns: Tiles in a row; by default the rows are about as many as the columns.
        remarks: What holds for all sentences; stands under them in red.

    Raises:
        ValueError: If there are no tiles.
    """
    if not tiles:
        raise ValueError('a contact sheet needs at least one frame.')
    height, width = tiles[0].shape[:2]
    if columns is None:
        columns = max(1, round((len(tiles) * height / width) ** 0.5 * 1.5))
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    gap = 14
    sheet_width = max(480, gap + columns * (width + gap))
    size = min(30, max(14, sheet_width // 60))
    small = max(12, round(size * 0.7))
    colors = colors or palette(len(texts))
    header = sheet_header(texts, colors, notes, sheet_width, size, small, remarks)
    row_height = height + small + gap + 4
    sheet = Image.new('RGB', (sheet_width, header.shape[0] + rows * row_height + gap // 2), PAPER)
    sheet.paste(Image.fromarray(header), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for i, (tile, label) in enumerate(zip(tiles, labels)):
        x = gap + i % columns * (width + gap)
        y = header.shape[0] + i // columns * row_height
        sheet.paste(Image.fromarray(tile), (x, y))
        draw.text((x, y + height + 3), label, GREY, font(small))
    return np.asarray(sheet)


def compare(
    frames: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    text: str,
    note: str = '',
    names: Sequence[str] | None = None,
    boxes: np.ndarray | None = None,
    reference_points: np.ndarray | None = None,
    max_frames: int = 6,
) -> np.ndarray:
    """Evenly spaced frames of a clip: truth above, prediction and its J below.

    Args:
        frames: RGB uint8, (T, H, W, 3).
        truth: Bool, (T, h, w), of any size.
        prediction: Bool, (T, h, w), of the same size as ``truth``.
        text: The sentence.
        note: Small print under the sentence.
        names: Names of the frames; their numbers by default.
        boxes: Predicted xyxy in pixels of ``frames``, (T, 4).
        reference_points: Predicted xy in pixels of ``frames``, (T, 2).
        max_frames: How many frames are drawn at most.
    """
    similarity = region_similarity(prediction, truth)
    names = names or [str(t) for t in range(len(frames))]
    chosen = spread(len(frames), max_frames)
    color = palette(1)

    def tile(t: int, mask: np.ndarray, *marks: np.ndarray | None) -> np.ndarray:
        mask = resize_mask(mask, frames.shape[1:3])
        marks = [None if mark is None else mark[t][None] for mark in marks]
        look = {'colors': color, 'width': 320, 'spotlight': True}
        return draw_tile(frames[t], mask[None], *marks, **look)

    upper = [tile(t, truth[t]) for t in chosen]
    lower = [tile(t, prediction[t], boxes, reference_points) for t in chosen]
    labels = [f'truth, frame {names[t]}' for t in chosen]
    labels += [f'prediction, J {similarity[t]:.2f}' for t in chosen]
    return contact_sheet(upper + lower, labels, [text], color, [note], columns=len(chosen))


def spread(length: int, count: int) -> list[int]:
    """At most ``count`` evenly spaced indices of ``length`` things, first and last included."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


class EvenSample(Generic[Item]):
    """Keeps evenly spaced items of a stream whose length is unknown, in bounded memory.

    Args:
        count: How many items are wanted in the end; at most four times as many are held.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._step = 1
        self._items: list[Item] = []

    def wants(self, index: int) -> bool:
        """Whether item number ``index`` of the stream should be added."""
        return index % self._step == 0

    def add(self, item: Item) -> None:
        """Keep the item that was asked for by ``wants``."""
        self._items.append(item)
        if len(self._items) > 4 * self.count:
            self._items = self._items[::2]
            self._step *= 2

    def result(self) -> list[Item]:
        """The evenly spaced items, at most ``count``."""
        return [self._items[i] for i in spread(len(self._items), self.count)]


@VISUALIZERS.register_module()
class RVOSVisualizer(Visualizer):
    """MMEngine's visualizer for clips with a sentence.

    Args:
        max_frames: How many frames of a clip are drawn at most.
        kwargs: Those of ``mmengine.visualization.Visualizer``.
    """

    def __init__(self, name: str = 'visualizer', max_frames: int = 6, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.max_frames = max_frames

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: RVOSDataSample,
        out_file: str | Path | None = None,
        step: int = 0,
    ) -> None:
        """Draw truth and prediction of one clip and write or record the picture.

        Args:
            name: Name of the picture for the back ends.
            image: The clip as RGB uint8, (T, H, W, 3), at any size.
            data_sample: With ``gt_instances`` and ``pred_instances``.
            out_file: Where to write a PNG; back ends other than local files get the picture too.
            step: Iteration, for the back ends.
        """
        picture = draw_sample(image, data_sample, self.max_frames)
        for backend in self._vis_backends.values():
            if out_file is None or not isinstance(backend, LocalVisBackend):
                backend.add_image(name, picture, step)
        if out_file is None:
            return
        out_file = Path(out_file)
        out_file.parent.mkdir(parents=True, exist_ok=True)
        write_image(out_file, picture)


def draw_sample(clip: np.ndarray, sample: RVOSDataSample, max_frames: int = 6) -> np.ndarray:
    """``compare`` for the best query of a tested clip.

    Args:
        clip: RGB uint8, (T, H, W, 3), at any size.
        sample: With ``gt_instances.masks (N, T', H0, W0)`` and the model's ``pred_instances``.
        max_frames: How many frames are drawn at most.
    """
    truth = sample.gt_instances.masks.any(0).cpu().numpy()
    pred = sample.pred_instances
    best = int(pred.scores.argmax())
    key_frames = list(sample.get('key_frames', range(len(truth))))
    frames = clip[key_frames]
    # Predictions are in pixels of the file; the clip may have been resized.
    scale = np.array(frames.shape[2:0:-1]) / np.array(sample.ori_shape)[::-1]
    boxes = pred.boxes[best].cpu().numpy() * np.tile(scale, 2) if 'boxes' in pred else None
    points = (
        pred.reference_points[best].cpu().numpy() * scale if 'reference_points' in pred else None
    )
    prediction = pred.masks[best].cpu().numpy()
    mean = region_similarity(prediction, truth).mean()
    parts = [f'{sample.get("video_id", "")} {sample.get("exp_id", "")}'.strip()]
    parts += [f'J {mean:.2f}', f'score {float(pred.scores[best]):.2f}', sample.get('kind') or '']
    note = '   '.join(part for part in parts if part)
    names = sample.get('frame_names')
    return compare(frames, truth, prediction, sample.text, note, names, boxes, points, max_frames)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG whole or not at all."""
    with atomic_open(path) as file:
        Image.fromarray(image).save(file, 'PNG')


def _draw_mask(
    out: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], alpha: float, line: int
) -> None:
    mask = np.ascontiguousarray(mask, dtype=np.uint8)
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return
    part, inside = out[y : y + h, x : x + w], mask[y : y + h, x : x + w]
    if alpha > 0:
        tinted = cv2.addWeighted(part, 1 - alpha, np.full_like(part, color), alpha, 0)
        cv2.copyTo(tinted, inside, part)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if line > 1:  # a dark rim, so that a red line shows on a red object
        cv2.drawContours(out, contours, -1, (0, 0, 0), line + 2, cv2.LINE_AA, offset=(x, y))
    cv2.drawContours(out, contours, -1, color, line, cv2.LINE_AA, offset=(x, y))


def _dim(out: np.ndarray, keep: np.ndarray) -> None:
    grey = cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None] * 0.5
    np.copyto(out, grey.astype(np.uint8), where=~keep[..., None])


def _paste(out: np.ndarray, patch: np.ndarray) -> None:
    """Blend an RGBA patch into the upper left corner."""
    target = out[: patch.shape[0], : patch.shape[1]]
    patch = patch[: target.shape[0], : target.shape[1]]
    opacity = patch[..., 3:].astype(np.float32) / 255
    target[:] = (target * (1 - opacity) + patch[..., :3] * opacity + 0.5).astype(np.uint8)
