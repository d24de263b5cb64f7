"""MMEngine's training loops, such that a checkpoint of any iteration continues exactly.

Nothing random depends on what ran before. Each item of a batch is loaded with random numbers that
follow from (seed, iteration, place in the batch of all processes), whichever worker loads it; each
step draws from (seed, iteration, rank). A resumed training takes up the sampler where it stopped,
without loading what was seen.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info, get_rank
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader, Dataset, Sampler

from ..registry import LOOPS

_STEP, _ITEM = range(2)  # random numbers of the two never coincide


def draw_from(*entropy: int) -> None:
    """Seed Python, numpy and torch with what follows from some numbers."""
    seeds = [int(seed) for seed in np.random.SeedSequence(entropy).generate_state(3)]
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.manual_seed(seeds[2])


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """What a process draws in an iteration: dropout, stochastic depth."""
    draw_from(seed, _STEP, iteration, rank)


class SeededDataset(Dataset):
    """Items as another dataset loads them with given random numbers."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, item: tuple[int, tuple[int, ...]]) -> Any:
        """The item of an index, drawn from some numbers."""
        index, entropy = item
        draw_from(*entropy)
        return self.dataset[index]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        """All else (``metainfo``) is the dataset's."""
        if name == 'dataset':  # not there yet while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)


class SeededBatches(Sampler):
    """Batches of another sampler, from any one on, each index with the numbers to draw from.

    Args:
        batches: The batch sampler of a data loader.
        seed: Of the training.
    """

    def __init__(self, batches: Sampler, seed: int) -> None:
        self.batches = batches
        self.sampler = batches.sampler
        self.batch_size = getattr(batches, 'batch_size', None)
        self.seed = seed
        self.iteration = self.skipped = 0

    def start(self, iteration: int, epoch: int, skipped: int) -> None:
        """Let the next pass begin in ``epoch``, ``skipped`` batches after its first."""
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)
        self.iteration, self.skipped = iteration, skipped

    def __iter__(self) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
        """Lists of what :class:`SeededDataset` takes."""
        rank, world_size = get_dist_info()
        batches = islice(self.batches, self.skipped, None)
        for iteration, batch in enumerate(batches, self.iteration):
            # MMEngine's samplers deal the items out in turn.
            places = range(rank, rank + world_size * len(batch), world_size)
            yield [(i, (self.seed, _ITEM, iteration, place)) for i, place in zip(batch, places)]

    def __len__(self) -> int:
        """Number of batches in a whole epoch."""
        return len(self.batches)


def seeded_loader(loader: DataLoader, seed: int) -> DataLoader:
    """The same data loader, with random numbers that do not depend on workers or on the past."""
    same = ('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn', 'generator')
    same += ('multiprocessing_context', 'prefetch_factor', 'persistent_workers')
    return DataLoader(
        SeededDataset(loader.dataset),
        batch_sampler=SeededBatches(loader.batch_sampler, seed),
        **{name: getattr(loader, name) for name in same},
    )


@LOOPS.register_module(name='EpochBasedTrainLoop')
class ExactEpochLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, exact after a checkpoint between or within epochs.

    Args:
        runner: MMEngine's.
        dataloader: Of the training.
        options: See MMEngine.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **options: Any) -> None:
        super().__init__(runner, dataloader, **options)
        self.dataloader = seeded_loader(self.dataloader, runner.seed)
        self._done = 0  # iterations of the current epoch

    def run(self) -> torch.nn.Module:
        """Train, at first what is left of the epoch that was begun."""
        told = self.runner.message_hub.runtime_info
        if self._iter and {'max_iters', 'max_epochs'} <= set(told):
            length = told['max_iters'] // told['max_epochs']
            self._done = self._iter - self._epoch * length
            if length != len(self.dataloader):
                print_log(
                    f'an epoch had {length} iterations and has {len(self.dataloader)} now: '
                    f'epoch {self._epoch + 1} starts from its beginning',
                    'current',
                )
                self._done = 0
        return super().run()

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it."""
        done, self._done = self._done, 0
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.dataloader.batch_sampler.start(self._iter, self._epoch, done)
        for i, batch in enumerate(self.dataloader, done):
            self.run_iter(i, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One step, with the random numbers of its iteration."""
        seed_step(self.runner.seed, self._iter, get_rank())
        super().run_iter(idx, data_batch)


@LOOPS.register_module(name='IterBasedTrainLoop')
class ExactIterLoop(IterBasedTrainLoop):
    """MMEngine's loop over iterations, exact after any checkpoint.

    Args:
        runner: MMEngine's.
        dataloader: Of the training.
        options: See MMEngine.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, **options: Any) -> None:
        super().__init__(runner, dataloader, **options)
        self.dataloader = seeded_loader(self.dataloader, runner.seed)

    def run(self) -> torch.nn.Module:
        """Train. Versions of MMEngine differ in how they get to the iteration of a checkpoint."""
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')  # all is one epoch to MMEngine
        batches = _endless(self.dataloader, self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if due and runner.val_loop is not None and self._iter >= self.val_begin:
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def run_iter(self, data_batch: Any) -> None:
        """One step, with the random numbers of its iteration."""
        seed_step(self.runner.seed, self._iter, get_rank())
        super().run_iter(data_batch)


def _endless(loader: DataLoader, iteration: int) -> Iterator[Any]:
    """The batches of epoch after epoch, from that of an iteration on."""
    batches = loader.batch_sampler
    # A sampler without end (MMEngine's InfiniteSampler) tells its dataset's length as its own.
    length = None if isinstance(batches.sampler, InfiniteSampler) else len(batches)
    while True:
        epoch, skipped = divmod(iteration, length) if length else (0, iteration)
        batches.start(iteration, epoch, skipped)
        for batch in loader:
            yield batch
            iteration += 1
