"""Watching a run: numbers that are no longer finite, what the processes tell each other, the gates of attention."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from psa_pose import distributed
from psa_pose.distributed import by_dtype
from psa_pose.errors import PsaPoseError
from psa_pose.files import write_json
from psa_pose.task import Task
from psa_pose.training.interrupt import SIGNALS

GATE_SAMPLES = 8


class StepRecord(NamedTuple):
    """One step: its number over the whole run, learning rate, loss on the device, and the rows of its samples."""

    step: int
    lr: float
    loss: Tensor
    rows: Tensor


class Told(NamedTuple):
    """What all processes together say of some steps.

    records, problems: this process's own: its steps, and a sentence for each unusable sample in them.
    losses: of the steps, means over the processes. finite: whether every weight was, after the last of them.
    signal: by which any process was asked to stop, 0: none. any_problem: whether any process has an unusable sample.
    """

    records: Sequence[StepRecord]
    problems: Sequence[str]
    losses: list[float]
    finite: bool
    signal: int
    any_problem: bool


class Exchange:
    """What the processes tell each other at a log point: one vector, one all-reduce, one copy to the host.

    deferred: the answer is read at the next log point, when it has long arrived: the host does not wait for a GPU.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._weights, self._device = by_dtype(model.parameters()), device
        self.deferred = device.type == "cuda"
        self._sent: tuple[Sequence[StepRecord], Sequence[str], Tensor, torch.cuda.Event | None] | None = None

    @torch.no_grad()
    def send(self, records: Sequence[StepRecord], problems: Sequence[str], signal_number: int) -> None:
        """Tell the others of these steps; every process calls it after the same ones."""
        norms = [norm for weights in self._weights for norm in torch._foreach_norm(weights, math.inf)]
        infinite = ~torch.stack(norms).isfinite().all()
        own = [float(signal_number == number) for number in SIGNALS] + [float(len(problems))]
        said = torch.tensor(own, pin_memory=self.deferred).to(self._device, non_blocking=True)
        losses = torch.stack([record.loss for record in records])
        answer, copied = distributed.all_reduce_mean(torch.cat([losses, infinite[None].float(), said])), None
        if self.deferred:
            answer = torch.empty(answer.shape, pin_memory=True).copy_(answer, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._sent = records, problems, answer, copied

    def receive(self) -> Told | None:
        """What was sent last, by all; None where that was read before."""
        if self._sent is None:
            return None
        (records, problems, answer, copied), self._sent = self._sent, None
        if copied:
            copied.synchronize()
        values = answer.tolist()
        losses, (infinite, *asked, problem) = values[: len(records)], values[len(records) :]
        number = max((n for n, share in zip(SIGNALS, asked, strict=True) if share), default=0)
        return Told(records, problems, losses, not infinite, int(number), problem > 0)


def check_finite(told: Told, ids: np.ndarray, out: Path, scaled: bool = False) -> None:
    """Raise PsaPoseError where a loss or, after these steps, a weight is not finite; the samples go to the file `out`.

    ids (N,): what the log calls each sample. scaled: gradients are, and a step whose loss overflows moves nothing.
    """
    records, losses = told.records, told.losses
    wrong = [] if scaled else [n for n, loss in enumerate(losses) if not math.isfinite(loss)]
    what = f"the loss is not finite in step {records[wrong[0]].step}" if wrong else ""
    if not wrong:
        if told.finite:
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
