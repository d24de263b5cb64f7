"""What every propagator does: sweeps in both directions, and one answer from both.

Letters: N objects, T frames, H W size of the frames, h w that of what is propagated.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

Keys = Mapping[int, np.ndarray]


class Tracker(ABC):
    """Follows objects from frame to frame in one direction."""

    @abstractmethod
    def step(self, frame: np.ndarray, given: Keys) -> dict[int, np.ndarray]:
        """Go to the next frame.

        Args:
            frame: What ``Propagator.shrink`` made of it.
            given: Masks of objects (their numbers) that are known here, bool (H, W).

        Returns:
            Probabilities (h, w) float32 of all objects that were given here or before.
        """


class Propagator(ABC):
    """Carries masks of key frames to all frames of a video.

    Memory is that of the result and of a few frames: frames in the size that is worked in, and the
    probabilities of the first direction, wait in a temporary file. Between two key frames
    the nearer one weighs more; a key frame keeps its mask as it is.
    """

    @abstractmethod
    def tracker(self) -> Tracker:
        """A tracker that knows of no object yet."""

    @abstractmethod
    def shrink(self, frame: np.ndarray) -> np.ndarray:
        """What a tracker needs of a frame, (h', w', 3) uint8."""

    def __call__(self, frames: Iterable[np.ndarray], keys: Keys) -> tuple[np.ndarray, np.ndarray]:
        """Propagate the mask of one object.

        Args:
            frames: RGB uint8 (T, H, W, 3), or an iterable of (H, W, 3), which is read once.
            keys: Bool masks (H, W) of key frames by the number of the frame.

        Returns:
            Bool masks (T, H, W), and how sure the propagator is of them, (T,) in [0, 1]; 0 where
            a mask is empty, 1 on key frames.

        Raises:
            ValueError: If there are no frames or no key frames, or a key frame is not of the video
                or of another size.
        """
        masks, scores = self.propagate(frames, [keys])
        return masks[0], scores[0]

    def propagate(
        self, frames: Iterable[np.ndarray], objects: Sequence[Keys]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Propagate N objects, each from key frames of its own; what they share is done once.

        Returns:
            Masks (N, T, H, W) and scores (N, T); see ``__call__``.
        """
        if not objects or not all(objects):
            raise ValueError('a propagator needs a mask in at least one key frame of each object.')
        with Spool() as spool, Spool() as early:
            size = None
            for frame in frames:
                size = size or frame.shape[:2]
                if frame.shape[:2] != size:
                    raise ValueError(
                        f'frame {len(spool)} has size {frame.shape[:2]}, the first one {size}.'
                    )
                spool.append(self.shrink(frame))
            _check_keys(objects, len(spool), size)
            return self._both_ways(spool, early, objects, size)

    def _both_ways(
        self, frames: 'Spool', early: 'Spool', objects: Sequence[Keys], size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        N, T = len(objects), len(frames)
        masks, scores = np.zeros((N, T, *size), bool), np.zeros((N, T), np.float32)
        places: dict[tuple[int, int], int] = {}
        for reverse in (False, True):
            tracker = self.tracker()
            for t in reversed(range(T)) if reverse else range(T):
                if not any(t <= max(keys) if reverse else t >= min(keys) for keys in objects):
                    continue
                given = {n: keys[t] for n, keys in enumerate(objects) if t in keys}
                for n, prob in tracker.step(frames[t], given).items():
                    before, after = _neighbours(objects[n], t)
                    if t in objects[n]:
                        masks[n, t], scores[n, t] = objects[n][t], float(np.any(objects[n][t]))
                    elif None in (before, after):
                        masks[n, t], scores[n, t] = _decide(prob, size)
                    elif not reverse:
                        places[n, t] = len(early)
                        early.append((prob * 255).round().astype(np.uint8))
                    else:
                        weight = (t - before) / (after - before)
                        first = early[places[n, t]].astype(np.float32) / 255
                        prob = weight * prob + (1 - weight) * first
                        masks[n, t], scores[n, t] = _decide(prob, size)
        return masks, scores


class Spool:
    """A list of arrays of one shape and type in a temporary file."""

    def __enter__(self) -> 'Spool':
        self._file, self._count = tempfile.TemporaryFile(), 0
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def append(self, array: np.ndarray) -> None:
        """Put an array at the end."""
        self._shape, self._dtype, self._size = array.shape, array.dtype, array.nbytes
        self._file.seek(self._count * self._size)
        self._file.write(np.ascontiguousarray(array).data)
        self._count += 1

    def __getitem__(self, index: int) -> np.ndarray:
        self._file.seek(index * self._size)
        return np.frombuffer(self._file.read(self._size), self._dtype).reshape(self._shape)


def _decide(prob: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Mask of the original size, and how far its pixels are above one half."""
    mask = cv2.resize(prob, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
    inside = prob[prob > 0.5]
    return mask, float(2 * inside.mean() - 1) if mask.any() and len(inside) else 0.0


def _neighbours(keys: Keys, t: int) -> tuple[int | None, int | None]:
    """The last key frame before t and the first one after it."""
    before, after = [k for k in keys if k < t], [k for k in keys if k > t]
    return max(before, default=None), min(after, default=None)


def _check_keys(objects: Sequence[Keys], length: int, size: tuple[int, int] | None) -> None:
    if size is None:
        raise ValueError('there are no frames to propagate masks to.')
    for t, mask in (item for keys in objects for item in keys.items()):
        if not 0 <= t < length:
            raise ValueError(f'key frame {t} is not one of the {length} frames of the video.')
        if np.shape(mask) != size:
            raise ValueError(
                f'the mask of key frame {t} has shape {np.shape(mask)}, frames have {size}.'
            )
