"""Batches of sentences about one video."""

from collections.abc import Iterator
from itertools import groupby

from torch.utils.data import Sampler

from referformer.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class VideoBatchSampler(Sampler):
    """Put neighbouring test items of one video into a batch, so that the video is seen once.

    The padding of the distributed sampler makes batches of its own; metrics count results once.

    Args:
        sampler: Sampler over items of an ``RVOSDataset`` in test mode.
        batch_size: Sentences in a batch at most: memory grows with it.
        drop_last: Must be False: testing leaves nothing out.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        if drop_last:
            raise ValueError('drop_last=True would leave sentences untested')
        self.sampler = sampler
        self.batch_size = batch_size
        self._video_of = [video for video, _ in sampler.dataset.metainfo['expected']]

    def __iter__(self) -> Iterator[list[int]]:
        """Lists of item indices."""
        for _, items in groupby(self.sampler, self._video_of.__getitem__):
            items = list(items)
            for start in range(0, len(items), self.batch_size):
                yield items[start : start + self.batch_size]

    def __len__(self) -> int:
        """Number of batches."""
        return sum(1 for _ in self)
