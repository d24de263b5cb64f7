"""How much memory a prediction takes, before it is made.

Letters: C channels, k queries that get masks.
"""

import re

from .frame_chunks import FRAMES

_UNITS = {'': 1, 'k': 1e3, 'm': 1e6, 'g': 1e9, 't': 1e12}
_FLOAT = 4
_BASE = 64e6  # whatever the size
# Floats for each pixel at stride 4 and channel that layers hold of the few frames they work on, and
# a clip backbone of all frames: measured, rounded up.
_AT_WORK = 16
_CLIP_BACKBONE = 12


def read_bytes(size: str | float) -> int:
    """``'2GB'``, ``'500 MB'`` or a number of bytes.

    Raises:
        ValueError: If it is nothing of this kind.
    """
    match = re.fullmatch(r'\s*(\d+\.?\d*)\s*([kmgt]?)b?\s*', str(size).lower())
    found = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if found <= 0:
        raise ValueError(f"max_memory must be a size such as '2GB' or '500MB', not {size!r}")
    return found


def predicted_bytes(
    channels: int,
    clip_channels: int,
    num_frames: int,
    size: tuple[int, int],
    ori_size: tuple[int, int],
    num_sentences: int = 1,
    num_masks: int = 1,
) -> int:
    """Peak memory of a prediction in fp32, beyond the loaded model.

    Args:
        channels: C.
        clip_channels: Channels of the stride-4 map of a backbone that takes clips; 0 for others.
        num_frames: Frames seen together.
        size: (H, W) that the model sees.
        ori_size: (H0, W0) of the masks.
        num_sentences: Sentences that run together.
        num_masks: k.
    """
    pixels = size[0] * size[1] / 16  # at stride 4
    tokens = pixels * (1 / 4 + 1 / 16 + 1 / 64 + 1 / 256)
    images = size[0] * size[1] * 3 * (1 + 1 / 4)
    seen = images + channels * (pixels + tokens) + _CLIP_BACKBONE * clip_channels * pixels
    # Fused levels, memory, values of the decoder; the pixel decoder at stride 8; mask logits.
    asked = channels * (3 * tokens + pixels / 4) + num_masks * pixels
    masks = num_masks * ori_size[0] * ori_size[1]
    at_work = _BASE + _FLOAT * FRAMES * pixels * channels * _AT_WORK
    frame = _FLOAT * (seen + num_sentences * asked) + num_sentences * masks
    return int(at_work + num_frames * frame)
