"""Sentences about one video stay together: on one process, and in one batch."""

from collections.abc import Iterator
from itertools import groupby

from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

from referformer.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class VideoSampler(Sampler):
    """Give every process whole videos, in order, each to the one with the fewest sentences so far.

    No item comes twice, so processes may have different numbers of them: for testing only.

    Args:
        dataset: An ``RVOSDataset`` in test mode.
        seed: Not used; MMEngine gives it to every sampler.
    """

    def __init__(self, dataset: Dataset, seed: int | None = None) -> None:
        self.dataset = dataset
        rank, world_size = get_dist_info()
        shares: list[list[int]] = [[] for _ in range(world_size)]
        items: dict[str, list[int]] = {}
        for index, (video, *_) in enumerate(dataset.metainfo['expected']):
            items.setdefault(video, []).append(index)
        for indices in items.values():
            min(shares, key=len).extend(indices)
        self._indices = shares[rank]

    def __iter__(self) -> Iterator[int]:
        """Indices of the items of this process."""
        return iter(self._indices)

    def __len__(self) -> int:
        """Number of items of this process."""
        return len(self._indices)


@DATA_SAMPLERS.register_module()
class VideoBatchSampler(Sampler):
    """Put neighbouring test items about one clip into a batch, so that it is seen once.

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
        # Shuffled frames are another clip of the video.
        expected = sampler.dataset.metainfo['expected']
        self._clip_of = [(video, 'shuffled' in rest) for video, _, *rest in expected]

    def __iter__(self) -> Iterator[list[int]]:
        """Lists of item indices."""
        for _, items in groupby(self.sampler, self._clip_of.__getitem__):
            items = list(items)
            for start in range(0, len(items), self.batch_size):
                yield items[start : start + self.batch_size]

    def __len__(self) -> int:
        """Number of batches."""
        return sum(1 for _ in self)
