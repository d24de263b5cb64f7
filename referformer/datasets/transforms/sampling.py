"""Which frames of a video make the clip."""

import numpy as np

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SampleFrames:
    """Choose the frames of a clip.

    Adds ``frame_inds (T,)``, sorted indices into ``frame_names``, and ``key_frames (T,)``, the
    positions in the clip that are annotated: all of them.

    Args:
        num_frames: T, in the mode 'local_global'; by default the item's, which is the dataset's.
        mode: 'local_global' (training): the item's own frame, close ones before and after, and
            others from anywhere in the video, see :func:`sample_local_global`. 'all' (testing): the
            whole video.
    """

    def __init__(self, num_frames: int | None = None, mode: str = 'local_global') -> None:
        if mode not in ('local_global', 'all'):
            raise ValueError(f"mode must be 'local_global' or 'all', not {mode!r}")
        if num_frames is not None and num_frames < 1:
            raise ValueError(f'num_frames must be at least 1, but is {num_frames}')
        self.num_frames = num_frames
        self.mode = mode

    def __call__(self, results: dict) -> dict:
        """Add ``frame_inds`` and ``key_frames``."""
        length = len(results['frame_names'])
        if self.mode == 'all':
            frame_inds = np.arange(length)
        elif 'centre' in results:
            num_frames = self.num_frames or results['num_frames']
            frame_inds = sample_local_global(results['centre'], length, num_frames)
        else:
            raise ValueError(
                "the mode 'local_global' needs training items; use mode='all' for testing"
            )
        results['frame_inds'] = frame_inds
        results['key_frames'] = np.arange(len(frame_inds))
        return results


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
