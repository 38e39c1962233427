"""One step of training: forward and backward in parts, then the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from psa_pose import distributed
from psa_pose.device import autocast
from psa_pose.task import Task
from psa_pose.training.ema import ModelEma


@dataclass(frozen=True)
class TrainState:
    """What a step changes.

    model: the network itself.
    network: as it is called: compiled, and wrapped for several processes. Shares the model's weights.
    frozen: modules that stay in evaluation mode.
    ema: the moving average of the weights, or None.
    """

    model: nn.Module
    network: nn.Module
    frozen: list[nn.Module]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEma | None

    @property
    def evaluated(self) -> nn.Module:
        """The model that is evaluated and saved: the average, where there is one."""
        return self.ema.model if self.ema else self.model

    def train_mode(self) -> None:
        """All modules in training mode but the frozen ones."""
        self.network.train()
        for module in self.frozen:
            module.eval()


def train_step(task: Task, state: TrainState, batch: Any, step: int, lr: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The batch's loss, a scalar on the device, and its targets, after the weights have moved.

    step: over the whole run, from 0. lr: of this step, times each parameter group's lr_scale, which does not take it
    below MIN_LR.
    """
    options = task.cfg.TRAIN
    for group in state.optimizer.param_groups:
        group["lr"] = max(lr * group["lr_scale"], options.SCHEDULE.MIN_LR)
    # Targets are made on the device, from a few numbers per sample.
    targets = task.targets(batch)
    state.optimizer.zero_grad(set_to_none=True)
    loss = forward_and_backward(task, state, task.images(batch), targets, options.PRECISION, options.ACCUMULATE)
    update_weights(state, step, options.CLIP_GRAD_NORM)
    return loss, targets


def forward_and_backward(
    task: Task, state: TrainState, images: Tensor, targets: tuple[Tensor, ...], precision: str, parts: int
) -> Tensor:
    """The batch's loss, on the device. Its gradient, with DDP the mean over processes, is added to the parameters."""
    size = task.loss_size(targets)
    if isinstance(size, Tensor):
        # DDP takes the mean over processes of what is a sum over them: so the size is their mean, too.
        size = distributed.all_reduce_mean(size)
    total = torch.zeros((), device=images.device)
    pieces = list(zip(*(tensor.chunk(parts) for tensor in (images, *targets)), strict=True))
    for number, (part, *part_targets) in enumerate(pieces, start=1):
        # Gradients are exchanged once, after the last part.
        with _no_exchange(state.network) if number < len(pieces) else nullcontext():
            with autocast(precision, images.device):
                outputs = state.network(part)
            loss = task.loss(outputs, tuple(part_targets), size)
            state.scaler.scale(loss).backward()
        total += loss.detach()
    return total


def update_weights(state: TrainState, step: int, clip_norm: float = 0.0) -> None:
    """The optimiser's step, and what surrounds it. clip_norm: greatest norm of the gradient; 0: any."""
    if clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema:
        state.ema.update(state.model, step)


def _no_exchange(network: nn.Module) -> AbstractContextManager:
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
