"""Which frames of a video make the clip."""

import zlib

import numpy as np

from referformer.registry import TRANSFORMS

_MODES = ('local_global', 'successive', 'centred', 'all')


@TRANSFORMS.register_module()
class SampleFrames:
    """Choose the frames of a clip.

    Adds ``frame_inds (T,)``, sorted indices into ``frame_names``, and ``key_frames (T',)``, the
    positions in the clip that are annotated: all of them, or the one of ``key_frame`` where the
    item has this key, because its sentence is annotated on that frame alone (A2D, JHMDB). A clip
    that shows this frame repeatedly has its first place.

    Args:
        num_frames: T, in all modes but 'all'; by default the item's, which is the dataset's.
        mode: 'local_global' (training): the item's own frame, close ones before and after, and
            others from anywhere in the video, see :func:`sample_local_global`. 'successive'
            (training on motion): frames next to each other, the item's own among them, see
            :func:`sample_successive`. 'centred' (testing on single frames): ``key_frame`` and its
            neighbours, see :func:`sample_centred`. 'all' (testing): the whole video, in an order of
            its own where the item's ``frame_order`` is 'shuffled'.
    """

    def __init__(self, num_frames: int | None = None, mode: str = 'local_global') -> None:
        if mode not in _MODES:
            raise ValueError(f'mode must be one of {_MODES}, not {mode!r}')
        if num_frames is not None and num_frames < 1:
            raise ValueError(f'num_frames must be at least 1, but is {num_frames}')
        self.num_frames = num_frames
        self.mode = mode

    def __call__(self, results: dict) -> dict:
        """Add ``frame_inds`` and ``key_frames``."""
        frame_inds = self._choose(results, len(results['frame_names']))
        results['frame_inds'] = frame_inds
        results['key_frames'] = np.arange(len(frame_inds))
        if 'key_frame' in results:
            results['key_frames'] = np.flatnonzero(frame_inds == results['key_frame'])[:1]
        return results

    def _choose(self, results: dict, length: int) -> np.ndarray:
        if self.mode == 'all':
            if results.get('frame_order') == 'shuffled':
                return shuffled_frames(results['video_id'], length)
            return np.arange(length)
        if self.mode == 'centred':
            if 'key_frame' not in results:
                raise ValueError(
                    "the mode 'centred' needs items with one annotated frame, as those of A2D- and "
                    "JHMDB-Sentences; use mode='all' for testing on whole videos"
                )
            return sample_centred(
                results['key_frame'], length, self.num_frames or results['num_frames']
            )
        if 'centre' not in results:
            raise ValueError(
                f"the mode {self.mode!r} needs training items; use mode='all' for testing, or "
                "mode='centred' where one frame is annotated"
            )
        sample = sample_successive if self.mode == 'successive' else sample_local_global
        return sample(results['centre'], length, self.num_frames or results['num_frames'])


def sample_local_global(centre: int, length: int, num_frames: int, reach: int = 3) -> np.ndarray:
    """A frame, one 1 to ``reach`` frames before it, one after it (clamped), the rest from outside
    that span.

    The rest is drawn without repetition; where too few frames lie outside, from all frames; where
    those are too few as well, all frames are taken as often as they fit and the remainder is drawn.
    With two frames the second one is before or after, by chance.

    Args:
        centre: Index of the frame, in [0, length).
        length: Number of frames of the video.
        num_frames: T.
        reach: Largest distance of the close frames.

    Returns:
        Sorted indices, (T,).
    """
    before = max(centre - np.random.randint(1, reach + 1), 0)
    after = min(centre + np.random.randint(1, reach + 1), length - 1)
    close = np.random.permutation([before, after])[: num_frames - 1]
    chosen = np.array([centre, *close])
    rest = num_frames - len(chosen)
    if rest > 0:
        pool = np.concatenate([np.arange(chosen.min()), np.arange(chosen.max() + 1, length)])
        if len(pool) < rest:
            pool = np.arange(length)
        times, remainder = divmod(rest, len(pool))
        drawn = np.random.choice(pool, remainder, replace=False)
        chosen = np.concatenate([chosen, np.tile(pool, times), drawn])
    return np.sort(chosen)


def sample_successive(centre: int, length: int, num_frames: int) -> np.ndarray:
    """Frames next to each other, with a given one at any place among them; in a video that is too
    short the last frame is repeated.

    Args:
        centre: Index of the frame, in [0, length).
        length: Number of frames of the video.
        num_frames: T.

    Returns:
        Sorted indices, (T,).
    """
    first = max(centre - num_frames + 1, 0)
    last = max(min(centre, length - num_frames), first)
    start = np.random.randint(first, last + 1)
    return np.arange(start, start + num_frames).clip(0, length - 1)


def shuffled_frames(video_id: str, length: int) -> np.ndarray:
    """The frames of a video in random order, always the same one: indices (T,)."""
    return np.random.default_rng(zlib.crc32(video_id.encode())).permutation(length)


def sample_centred(centre: int, length: int, num_frames: int) -> np.ndarray:
    """The ``num_frames`` frames around one, which has ``num_frames // 2`` of them before it; beyond
    its ends the video stands still.

    Args:
        centre: Index of the frame, in [0, length).
        length: Number of frames of the video.
        num_frames: T.

    Returns:
        Sorted indices, (T,).
    """
    start = centre - num_frames // 2
    return np.arange(start, start + num_frames).clip(0, length - 1)
