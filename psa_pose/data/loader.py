"""Batches: which persons, in which order, on which process; crops stay uint8 until they are on the device."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from psa_pose.data.dataset import CropDataset, Sample

Key = tuple[int, int]

# Seconds that a worker goes on after SIGTERM.
GRACE = 20


class Batch(NamedTuple):
    """Samples stacked: crops (B, H, W, 3) uint8, joints (B, K, 2), visible (B, K), matrices (B, 2, 3), rows (B,)."""

    crops: torch.Tensor
    joints: torch.Tensor
    visible: torch.Tensor
    matrices: torch.Tensor
    rows: torch.Tensor
    problems: tuple[str, ...]


class ShuffledBatches(Sampler[list[Key]]):
    """The order of training: every person once per epoch, in an order seeded by (seed, epoch).

    Step s of all processes together sees rows order[s * B * world : (s + 1) * B * world], whatever the world size; the
    order's start is repeated at its end until every process has an equal share, so that none waits for another.
    epoch and first are set between epochs: the next one to take, and the batches of it that were taken before.
    """

    def __init__(self, persons: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.persons, self.batch_size, self.seed = persons, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first = 0

    def __len__(self) -> int:
        return -(-self.persons // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.persons)
        share = np.resize(order, -(-self.persons // self.world_size) * self.world_size)[self.rank :: self.world_size]
        for start in range(self.first * self.batch_size, len(share), self.batch_size):
            yield [(self.epoch, int(row)) for row in share[start : start + self.batch_size]]


class OrderedBatches(Sampler[list[Key]]):
    """The order of evaluation: each person exactly once, batches of neighbours, a run of whole batches per process.

    The batches are the same whatever the world size, so that a person's result is too, to the last digit.
    """

    def __init__(self, persons: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        starts = range(0, persons, batch_size)
        share = starts[len(starts) * rank // world_size : len(starts) * (rank + 1) // world_size]
        self.batches = [[(0, row) for row in range(s, min(s + batch_size, persons))] for s in share]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)


def make_loader(dataset: CropDataset, batches: Sampler[list[Key]], workers: int, pin_memory: bool) -> DataLoader:
    """A loader of `Batch`; its workers live as long as it does."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        persistent_workers=workers > 0,
        # The loader draws a number in every epoch that it starts; torch's own generator must not notice a restart.
        generator=torch.Generator(),
    )


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into one batch of tensors."""
    crops, joints, visible, matrices, rows, problems = zip(*samples, strict=True)
    return Batch(_stack(crops), _stack(joints), _stack(visible), _stack(matrices), torch.tensor(rows), problems)


def _stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


def _start_worker(_: int) -> None:
    # The workers are the parallelism; threads inside them would only wait for each other.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C and a cluster's SIGTERM reach the workers too, while the main process still needs them to finish its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
