"""Which samples, in which order, on which process, the workers that bring them, and the time lost to waiting."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from psa_pose.device import cores_of_process

Key = tuple[int, int]
T = TypeVar("T")

# Data set and (epoch, row) keys -> its samples as one batch.
BatchMaker = Callable[[Any, Sequence[Key]], Any]

# Seconds that a worker goes on after SIGTERM.
GRACE = 20


class ShuffledBatches(Sampler[list[Key]]):
    """The order of training: every sample once per epoch, in an order seeded by (seed, epoch).

    Step s of all processes together sees rows order[s * B * world : (s + 1) * B * world], whatever the world size; the
    order's start is repeated at its end until every process has an equal share, so that none waits for another.
    groups: what each sample shares a file with, to keep those of an image together, so that one decode serves them;
    images are then in random order, and so are the samples of each.
    epoch, first and end are set between epochs: the next one to take, the batches of it that were taken before, and
    those after which it is cut short (None: all).
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        groups: np.ndarray | None = None,
    ) -> None:
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.groups = groups
        self.epoch = self.first = 0
        self.end: int | None = None

    def __len__(self) -> int:
        return -(-self.samples // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[Key]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(self.samples)
        if self.groups is not None:
            order = group_by_image(order, self.groups, generator)
        whole = np.resize(order, -(-self.samples // self.world_size) * self.world_size)
        step = self.batch_size * self.world_size
        end = len(whole) if self.end is None else min(self.end * step, len(whole))
        for start in range(self.first * step, end, step):
            # Neighbours stay on one process: they may be of one image.
            share = np.split(whole[start : start + step], self.world_size)[self.rank]
            yield [(self.epoch, int(row)) for row in share]


def group_by_image(order: np.ndarray, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """An order of persons (N,) changed so that those of one image follow each other, the images in a new random order.

    images: (N,) the image of each person.
    """
    _, image = np.unique(images, return_inverse=True)
    place = generator.permutation(image.max() + 1)
    return order[np.argsort(place[image[order]], kind="stable")]


class OrderedBatches(Sampler[list[Key]]):
    """The order of evaluation: each person exactly once, batches of neighbours, a run of whole batches per process.

    The batches are the same whatever the world size and the number of workers, so that a person's result is too, to the
    last digit. A loader hands batch i to worker i mod `workers`; the order is such that each worker gets a run of
    neighbours, and an image is decoded once for its boxes also where they lie in two batches.
    """

    def __init__(self, persons: int, batch_size: int, rank: int = 0, world_size: int = 1, workers: int = 0) -> None:
        starts = range(0, persons, batch_size)
        share = starts[len(starts) * rank // world_size : len(starts) * (rank + 1) // world_size]
        runs = np.array_split(np.array(share, int), max(workers, 1))
        dealt = [int(run[i]) for i in range(len(runs[0])) for run in runs if i < len(run)]
        self.batches = [[(0, row) for row in range(s, min(s + batch_size, persons))] for s in dealt]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


def loader_workers(wanted: int | str) -> int:
    """LOADER.WORKERS as a number; "auto": this process's share of the machine's cores, 16 at most."""
    return min(16, cores_of_process()) if isinstance(wanted, str) else wanted


def make_loader(
    dataset: Any,
    batches: Sampler[list[Key]],
    workers: int,
    pin_memory: bool,
    make: BatchMaker,
) -> DataLoader:
    """A loader of what `make` makes; its workers live as long as it does."""
    return DataLoader(
        _Batches(dataset, make),
        batch_sampler=batches,
        num_workers=workers,
        # A batch is already made whole, see below.
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=partial(_start_worker, os.getpid()),
        persistent_workers=workers > 0,
        # From Python 3.14 on Linux would start each worker anew, and send it the whole data set.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        # The loader draws a number in every epoch that it starts; torch's own generator must not notice a restart.
        generator=torch.Generator(),
    )


class _Batches(Dataset):
    """What a loader asks for whole batches."""

    def __init__(self, dataset: Any, make: BatchMaker) -> None:
        self.dataset, self.make = dataset, make

    def __getitems__(self, keys: list[Key]) -> Any:
        return self.make(self.dataset, keys)


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(owner: int, _: int) -> None:
    # A worker that loses its process later notices; one that lost it before now would wait for ever.
    if os.getppid() != owner:
        os._exit(1)
    # The workers are the parallelism; threads inside them would only wait for each other.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C and a cluster's SIGTERM reach the workers too, while the main process still needs them to finish its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


class DataTimer:
    """Seconds since its start, and those of them in which the loop waited for the loader.

    It reads the host's clock and never waits for a device: on a GPU that is behind, loading that costs nothing counts.
    """

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.waited = 0.0

    def wrap(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, timed."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def share(self) -> float:
        """The share of the time that was lost to loading, 0 to 1."""
        return self.waited / self.seconds
