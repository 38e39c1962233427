"""Watching a run: numbers that are no longer finite, time lost to loading, the gates of attention, records per step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from psa_pose import distributed
from psa_pose.data.dataset import CropDataset
from psa_pose.data.loader import collate
from psa_pose.errors import PsaPoseError
from psa_pose.files import atomic_write
from psa_pose.models.gates import collect_gates, spatial_gate_deviation
from psa_pose.predict import Normalization

T = TypeVar("T")

GATE_PERSONS = 8


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
    """`records.<rank>.jsonl`: the annotation ids of each step in this process; off, it does nothing."""

    def __init__(self, folder: Path, dataset: CropDataset, on: bool) -> None:
        self._ids = dataset.persons.annotation_ids
        self._file = (folder / f"records.{distributed.rank()}.jsonl").open("a") if on else None

    def write(self, step: int, epoch: int, rows: torch.Tensor) -> None:
        """One line, which a kill of the process does not lose."""
        if self._file:
            ids = self._ids[rows.numpy()].tolist()
            self._file.write(json.dumps({"step": step, "epoch": epoch, "records": ids}) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()


def check_finite(
    model: nn.Module, first_step: int, losses: Sequence[float], rows: Sequence[torch.Tensor], ids: np.ndarray, out: Path
) -> None:
    """Raise PsaPoseError where a loss or, after these steps, a weight is not finite; the persons go to the file `out`.

    losses: of the steps from first_step on, the same in every process. rows: of each step, in this process. ids: the
    annotation id of a row.
    """
    wrong = [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
    what = f"the loss is not finite in step {first_step + wrong[0]}" if wrong else ""
    if not wrong:
        finite = torch.stack([p.detach().isfinite().all() for p in model.parameters()]).all().item()
        if finite:
            return
        wrong = list(range(len(losses)))
        what = f"a weight is not finite after step {first_step + wrong[-1]}"
    shares = distributed.all_gather([ids[rows[n].numpy()].tolist() for n in wrong])
    if distributed.is_main():
        steps = [
            {"step": first_step + n, "loss": str(losses[n]), "records": [r for share in shares for r in share[i]]}
            for i, n in enumerate(wrong)
        ]
        atomic_write(out, lambda file: file.write(json.dumps(steps, indent=1).encode()))
    raise PsaPoseError(
        f"{what}; the annotation ids of its persons are in {out}: look at them, lower TRAIN.OPTIMIZER.LR, lengthen "
        "TRAIN.SCHEDULE.WARMUP_STEPS or set TRAIN.CLIP_GRAD_NORM"
    )


def gate_deviations(model: nn.Module, dataset: CropDataset, normalize: Normalization) -> dict[str, float]:
    """How far each PSA block's spatial gate is from constant on a few test persons; empty without such blocks.

    The model must be in evaluation mode.
    """
    batch = collate([dataset[(0, row)] for row in range(min(GATE_PERSONS, len(dataset)))])
    return spatial_gate_deviation(collect_gates(model, normalize(batch.crops)))
