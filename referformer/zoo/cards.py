"""What a model knows: its card says when a sentence or a video is outside of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_SIDE = 96  # pixels of the shorter side on which edges are counted
_STEEP = 8.0  # grey levels a pixel
_LOOKS = 8  # frames that are looked at


@dataclass(frozen=True)
class Card:
    """What a model was trained on.

    Args:
        domain: What its videos show, as in "this model knows ... only".
        vocabulary: All words of its training sentences, lower case; None: any.
        advice: What to do for anything else.
        max_edges: Its videos have less than this :func:`edge_share`; None: they may be any.
    """

    domain: str
    vocabulary: frozenset[str] | None
    advice: str
    max_edges: float | None = None

    def remarks(self, texts: Sequence[str], frames: np.ndarray | None = None) -> list[str]:
        """Why the answers should not be trusted: one remark, or none.

        Args:
            texts: Sentences.
            frames: Some frames of the video, uint8 RGB (T, H, W, 3).
        """
        words = dict.fromkeys(word for text in texts for word in _WORD.findall(text.lower()))
        known = words if self.vocabulary is None else self.vocabulary
        unknown = [word for word in words if word not in known]
        reasons = [f'unknown: {", ".join(unknown)}'] if unknown else []
        limit = np.inf if self.max_edges is None else self.max_edges
        if frames is not None and edge_share(frames) > limit:
            reasons.append('this video is unlike what it has seen')
        if not reasons:
            return []
        return [f'This model knows {self.domain} only; {"; ".join(reasons)}. {self.advice}'.strip()]


def read_card(checkpoint: str | Path) -> Card | None:
    """The card that lies beside the weights of a model, ``card.yml``; None where there is none.

    Raises:
        ValueError: Naming the file and what is wrong with it.
    """
    path = Path(checkpoint).with_name('card.yml')
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        words = content.pop('vocabulary', None)
        return Card(vocabulary=None if words is None else frozenset(words.split()), **content)
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise ValueError(
            f'{path} is no card of a model: {error}. It needs domain, vocabulary (words with '
            'spaces between, or nothing) and advice, and may have max_edges.'
        ) from error


def edge_share(frames: np.ndarray) -> float:
    """Share of the pixels, at 96 pixels of the shorter side, in which brightness changes by more
    than 8 of 255 from one pixel to the next.

    Photographs are full of edges; drawn shapes have them at their outlines.

    Args:
        frames: uint8 RGB, (T, H, W, 3); a few of them are looked at, evenly spread.
    """
    T, H, W, _ = frames.shape
    scale = _SIDE / min(H, W)
    size = (max(1, round(W * scale)), max(1, round(H * scale)))
    shares = []
    for t in np.unique(np.linspace(0, T - 1, _LOOKS).round().astype(int)):
        small = cv2.resize(frames[t], size, interpolation=cv2.INTER_AREA)
        grey = cv2.GaussianBlur(small.astype(np.float32).mean(-1), (0, 0), 1.0)
        dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        shares.append(float((np.hypot(dx, dy) > _STEEP).mean()))
    return float(np.mean(shares))
