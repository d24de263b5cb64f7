"""Training goes on past a broken file, and stops where too much is broken."""

import logging
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

_MIN_READ = 1000


class TolerantDataset(BaseDataset):
    """In training an item that cannot be read is logged, counted, and another drawn in its place.

    Args:
        max_broken: Share of items that may fail in training. Each process counts those it reads,
            and stops when more than this share of them failed; before it has read 1000, when more
            than this share of 1000 did.
        kwargs: Further arguments of :class:`mmengine.dataset.BaseDataset`.

    Raises:
        ValueError: ``max_broken`` is no share; in training, past ``max_broken``.
    """

    def __init__(self, max_broken: float = 0.01, **kwargs: Any) -> None:
        if not 0 <= max_broken <= 1:
            raise ValueError(f'max_broken is a share, from 0 to 1, not {max_broken}')
        self.max_broken = max_broken
        self.num_read = self.num_broken = 0  # items, by this process
        self.left_out: list[str] = []  # what is wrong with annotations that are not used
        super().__init__(**kwargs)

    def prepare_data(self, idx: int) -> Any:
        """The packed item; in training None where it cannot be used."""
        if self.test_mode:
            return super().prepare_data(idx)
        self.num_read += 1
        try:
            return super().prepare_data(idx)
        except (ValueError, FileNotFoundError) as error:
            self.num_broken += 1
            if self.num_broken > self.max_broken * max(self.num_read, _MIN_READ):
                raise ValueError(
                    f'{error} In all, {self.num_broken} of the first {self.num_read} items cannot '
                    f'be used, more than max_broken={self.max_broken} allows '
                    '(referformer verify CONFIG finds them).'
                ) from error
            # Warnings are not shown by processes of a distributed training but the first.
            print_log(f'item {idx} is skipped: {error}', 'current', logging.ERROR)
            return None
