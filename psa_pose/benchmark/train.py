"""Whole training steps: images per second, the share of time lost to loading, and peak memory, config by config."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.benchmark.measure import Work, alternate, peak_memory, ratio
from psa_pose.data.loader import DataTimer
from psa_pose.device import backends, choose_device
from psa_pose.task import Batch
from psa_pose.tasks import build_task
from psa_pose.training.setup import Run, prepared_run
from psa_pose.training.step import train_step


def compare_training(configs: Mapping[str, CfgNode], rounds: int) -> list[dict[str, Any]]:
    """Each config's training step on its own data, alternately, in one run; the first is what is compared with.

    A step is what the training loop does: crops from the loader, targets, forward, backward, optimiser. Per config:
    images_per_s (of all processes together) and step_ms (medians), loading_share (of a step's time, waiting for the
    loader), memory_mib (peak of a step beyond what the network holds), ratio (how many times as fast as the first),
    first_loss and last_loss. Under torchrun the processes train together.
    """
    device = choose_device(next(iter(configs.values())).DEVICE)
    with ExitStack() as stack:
        stack.enter_context(distributed.process_group(device))
        runs = {name: start_run(cfg, stack) for name, cfg in configs.items()}
        works: dict[str, Work] = {name: started.step for name, started in runs.items()}
        for started in runs.values():
            started.step()
        seconds = alternate(works, rounds, device, "rounds")
        reference = next(iter(seconds.values()))
        rows = [started.row(name, seconds[name], ratio(reference, seconds[name])) for name, started in runs.items()]
        for row, started in zip(rows, runs.values(), strict=True):
            row["memory_mib"] = peak_memory(started.step, device) / 2**20
        return rows


class StartedRun:
    """A training run whose steps are taken one by one."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._batches = _endless(run)
        self._number = 0
        self._waited: list[float] = []
        self.losses: list[torch.Tensor] = []

    def batch(self) -> Batch:
        """The next batch, as the loader gives it."""
        clock = DataTimer()
        batch = next(clock.wrap(self._batches))
        self._waited.append(clock.waited)
        return batch

    def step(self) -> None:
        """The next batch and what the training loop does with it."""
        self.step_on(self.batch())

    def step_on(self, batch: Batch) -> None:
        """What the training loop does with a batch of the loader's."""
        task = self.run.task
        batch = task.to_device(batch, self.run.dataset)
        # Of several runs that are open the one that steps.
        with backends(task.cfg, task.device, training=True):
            loss, _ = train_step(task, self.run.state, batch, self._number, task.cfg.TRAIN.OPTIMIZER.LR)
        self.losses.append(loss)
        self._number += 1

    def row(self, name: str, seconds: list[float], speed: float) -> dict[str, Any]:
        step = statistics.median(seconds)
        waited = self._waited[-len(seconds) :]
        return {
            "name": name,
            "images_per_s": self.run.cfg.TRAIN.BATCH_SIZE * distributed.world_size() / step,
            "step_ms": 1e3 * step,
            "ratio": speed,
            "loading_share": sum(waited) / sum(seconds),
            "first_loss": self.losses[0].item(),
            "last_loss": self.losses[-1].item(),
        }


def start_run(cfg: CfgNode, stack: ExitStack) -> StartedRun:
    """A training run of the config in a folder of its own, which ends, and is removed, with the stack."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run")
    cfg.freeze()
    run = stack.enter_context(prepared_run(build_task(cfg), None))
    run.state.train_mode()
    return StartedRun(run)


def _endless(run: Run) -> Iterator[Batch]:
    """Whole batches, epoch after epoch."""

    def epoch(number: int) -> Iterator[Batch]:
        run.batches.epoch = number
        return (batch for batch in run.loader if len(batch.rows) == run.cfg.TRAIN.BATCH_SIZE)

    return chain.from_iterable(epoch(number) for number in range(1_000_000))
