"""From raw outputs to scored queries and masks of the original size; the benchmarks differ here."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

# Pixels brought to the original size at once.
_CHUNK = 2**25
# The logit of pixels in frames without the object: a probability of 0 in all arithmetics.
_ABSENT = -1e4


def choose_queries(logits: Tensor, keep: str) -> tuple[Tensor, Tensor, Tensor]:
    """Which queries answer a sentence, and how well (paper section 3.5): class scores alone decide.

    Args:
        logits: (B, T, Q, K).
        keep: 'best': the query with the highest score of the clip (VOS); 'all': every query in its
            order (A2D, JHMDB); 'pairs': the Q best pairs of query and class (COCO; a query may
            come several times).

    Returns:
        Scores (B, k), the mean over the frames of the sigmoid, its maximum over the classes;
        indices (B, k); the scores of that class in every frame (B, k, T).
    """
    B, T, Q, K = logits.shape
    by_frame = logits.sigmoid()
    scores = by_frame.mean(1)  # (B, Q, K)
    if keep == 'pairs':
        scores, pairs = scores.flatten(1).topk(Q)
    elif keep in ('best', 'all'):
        scores, classes = scores.max(-1)
        queries = torch.arange(Q, device=logits.device).expand(B, -1)
        if keep == 'best':
            scores, queries = scores.max(-1, keepdim=True)
        pairs = queries * K + classes.gather(1, queries)
    else:
        raise ValueError(f"keep must be 'best', 'all' or 'pairs', not {keep!r}")
    frame_scores = by_frame.flatten(2).gather(2, pairs[:, None].expand(-1, T, -1))
    return scores, pairs // K, frame_scores.transpose(1, 2)


def empty_absent(masks: Tensor, frame_scores: Tensor, presence_thr: float) -> Tensor:
    """Mask logits that leave no pixel in the frames whose score is below ``presence_thr``.

    Args:
        masks: Logits, (k, T, h, w).
        frame_scores: (k, T).
        presence_thr: 0 changes nothing.
    """
    if not presence_thr:
        return masks
    return masks.masked_fill((frame_scores < presence_thr)[..., None, None], _ABSENT)


def merge_objects(logits: Tensor, ori_size: tuple[int, int], background: float = 0.1) -> Tensor:
    """One label map from the masks of several objects (Ref-DAVIS17).

    Args:
        logits: The mask of each of N objects, (N, T, h, w) at stride 4.
        ori_size: (H0, W0) to reach.
        background: Probability of the background; those below 0.5 of an object count as 0.

    Returns:
        Label maps (T, H0, W0) uint8: 0 the background, n the n-th object; the first of equal ones
        wins.
    """
    T = logits.shape[1]
    labels = torch.zeros(T, *ori_size, dtype=torch.uint8, device=logits.device)
    for frame, label in zip(logits.float().unbind(1), labels):
        big = F.interpolate(frame[:, None], ori_size, mode='bilinear', align_corners=False)
        best = torch.full_like(big[0, 0], background)
        # Many times faster on CPU than an argmax over objects, and clear about equal ones.
        for n, prob in enumerate(big[:, 0].sigmoid(), start=1):
            surer = (prob >= 0.5) & (prob > best)
            label.masked_fill_(surer, n)
            best = torch.where(surer, prob, best)
    return labels


def join_clips(clips: Sequence[InstanceData]) -> InstanceData:
    """One prediction for a video from those of its consecutive clips.

    Args:
        clips: Each with ``scores`` (k,), ``boxes`` (k, T, 4) and other fields (k, T, ...), T
            frames of its own.

    Returns:
        Every field over all frames; scores are means over frames, so longer clips weigh more.
    """
    if len(clips) == 1:
        return clips[0]
    lengths = clips[0].scores.new_tensor([clip.boxes.shape[1] for clip in clips])
    scores = torch.stack([clip.scores for clip in clips], -1) @ (lengths / lengths.sum())
    fields = [name for name in clips[0].keys() if name != 'scores']  # noqa: SIM118
    joined = {name: torch.cat([clip[name] for clip in clips], 1) for name in fields}
    return InstanceData(scores=scores, **joined)


def masks_at_original_size(
    logits: Tensor,
    img_size: tuple[int, int],
    ori_size: tuple[int, int],
    resize: str = 'logits',
    threshold: float = 0.5,
) -> Tensor:
    """Upsample and threshold.

    Args:
        logits: (k, T, h, w) at stride 4.
        img_size: (h, w) of the unpadded input.
        ori_size: (H0, W0) to reach.
        resize: 'logits': bilinear straight to ``ori_size``, then the threshold (Ref-YouTube-VOS,
            Ref-DAVIS17); 'probabilities': the same with the sigmoid first, better for objects of a
            few pixels at stride 4, which logits shrink, as they are larger outside than inside;
            'masks': x4 bilinear, threshold, cut to ``img_size``, nearest to ``ori_size`` (A2D,
            JHMDB, COCO).
        threshold: Of the probability, exclusive.

    Returns:
        Bool masks (k, T, H0, W0).
    """
    if resize not in ('logits', 'probabilities', 'masks'):
        raise ValueError(f"resize must be 'logits', 'probabilities' or 'masks', not {resize!r}")
    k, T, h, w = logits.shape
    chunk = max(1, _CHUNK // max(1, ori_size[0] * ori_size[1]))
    masks = []
    for part in logits.flatten(0, 1)[:, None].float().split(chunk):
        if resize == 'probabilities':
            big = F.interpolate(part.sigmoid(), ori_size, mode='bilinear', align_corners=False)
            masks.append(big > threshold)
        elif resize == 'logits':
            big = F.interpolate(part, ori_size, mode='bilinear', align_corners=False)
            masks.append(big.sigmoid() > threshold)
        else:
            big = F.interpolate(part, (h * 4, w * 4), mode='bilinear', align_corners=False)
            small = (big.sigmoid() > threshold)[..., : img_size[0], : img_size[1]]
            masks.append(F.interpolate(small.float(), ori_size).bool())
    return torch.cat(masks).view(k, T, *ori_size)
