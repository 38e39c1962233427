"""Watching a run: numbers that are no longer finite, time lost to loading, the gates of attention, records per step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from psa_pose import distributed
from psa_pose.errors import PsaPoseError
from psa_pose.files import write_json
from psa_pose.task import Task

T = TypeVar("T")

GATE_SAMPLES = 8


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


class RecordLog:
    """`records.<rank>.jsonl`: the ids of the samples of each step in this process; off, it does nothing.

    ids (N,): what the log calls each sample.
    """

    def __init__(self, folder: Path, ids: np.ndarray, on: bool) -> None:
        self._ids = ids
        self._file = (folder / f"records.{distributed.rank()}.jsonl").open("a") if on else None

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def write(self, step: int, epoch: int, rows: Tensor) -> None:
        """One line, which a kill of the process does not lose."""
        if self._file:
            ids = self._ids[rows.numpy()].tolist()
            self._file.write(json.dumps({"step": step, "epoch": epoch, "records": ids}) + "\n")
            self._file.flush()


class StepRecord(NamedTuple):
    """One step: its number over the whole run, learning rate, loss on the device, and the rows of its samples."""

    step: int
    lr: float
    loss: Tensor
    rows: Tensor


def check_finite(
    model: nn.Module, records: Sequence[StepRecord], losses: Sequence[float], ids: np.ndarray, out: Path
) -> None:
    """Raise PsaPoseError where a loss or, after these steps, a weight is not finite; the samples go to the file `out`.

    losses: of the records, the same in every process. ids (N,): what the log calls each sample.
    """
    wrong = [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
    what = f"the loss is not finite in step {records[wrong[0]].step}" if wrong else ""
    if not wrong:
        finite = torch.stack([p.detach().isfinite().all() for p in model.parameters()]).all().item()
        if finite:
            return
        wrong = list(range(len(losses)))
        what = f"a weight is not finite after step {records[-1].step}"
    shares = distributed.all_gather([ids[records[n].rows.numpy()].tolist() for n in wrong])
    if distributed.is_main():
        steps = [
            {"step": records[n].step, "loss": str(losses[n]), "records": [r for share in shares for r in share[i]]}
            for i, n in enumerate(wrong)
        ]
        write_json(out, steps)
    raise PsaPoseError(
        f"{what}; the ids of its samples are in {out}: look at them, lower TRAIN.OPTIMIZER.LR, lengthen "
        "TRAIN.SCHEDULE.WARMUP_STEPS or set TRAIN.CLIP_GRAD_NORM"
    )


def gate_deviations(task: Task, model: nn.Module, dataset: Sized, samples: int = GATE_SAMPLES) -> dict[str, float]:
    """How far each PSA block's spatial gate is from constant on the first test samples; empty without such blocks.

    The model must be in evaluation mode.
    """
    # The networks are the task's: to train one, none of their code is needed here.
    from psa_pose.models.gates import collect_gates, spatial_gate_deviation

    # No more than an evaluation holds at once: samples may be large pictures.
    keys = [(0, row) for row in range(min(samples, task.cfg.TEST.BATCH_SIZE, len(dataset)))]
    batch = task.to_device(task.batch_maker()(dataset, keys), dataset)
    return spatial_gate_deviation(collect_gates(model, task.images(batch)))
