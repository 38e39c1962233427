"""One step of training: forward and backward in parts, then the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from psa_pose import distributed
from psa_pose.device import autocast
from psa_pose.task import Task
from psa_pose.training.ema import ModelEma


class NormCounters:
    """`num_batches_tracked` of a model's BatchNorms, raised in one call for all layers instead of one for each.

    Left to themselves are layers whose statistics depend on the counter (momentum None), and SyncBatchNorm, which does
    not run without its own.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)]
        self._norms = [m for m in norms if m.momentum is not None and m.num_batches_tracked is not None]
        self._counters = [counter for norm in self._norms if (counter := norm.num_batches_tracked) is not None]

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Around a forward pass: the layers see no counter, and afterwards those in training mode have counted it."""
        for norm in self._norms:
            norm._buffers["num_batches_tracked"] = None
        try:
            yield
        finally:
            for norm, counter in zip(self._norms, self._counters, strict=True):
                norm._buffers["num_batches_tracked"] = counter
        training = [counter for norm, counter in zip(self._norms, self._counters, strict=True) if norm.training]
        if training:
            torch._foreach_add_(training, 1)


@dataclass(frozen=True)
class TrainState:
    """What a step changes.

    model: the network itself.
    network: as it is called: compiled, and wrapped for several processes. Shares the model's weights.
    frozen: modules that stay in evaluation mode.
    ema: the moving average of the weights, or None.
    counters: of the model's BatchNorms; None leaves each to count for itself.
    """

    model: nn.Module
    network: nn.Module
    frozen: list[nn.Module]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEma | None
    counters: NormCounters | None = None

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
    images = task.images(batch)
    if len(images) < options.BATCH_SIZE:
        state = replace(state, network=uncompiled(state.network))
    loss = forward_and_backward(task, state, images, targets, options.PRECISION, options.ACCUMULATE)
    update_weights(state, step, options.CLIP_GRAD_NORM)
    return loss, targets


def forward_and_backward(
    task: Task, state: TrainState, images: Tensor, targets: tuple[Tensor, ...], precision: str, parts: int
) -> Tensor:
    """The batch's loss, on the device. Its gradient, with DDP the mean over processes, is added to the parameters."""
    size, processes = task.loss_size(targets), 1
    if isinstance(size, Tensor):
        # The loss is a sum over processes, of which DDP takes the mean.
        processes = distributed.world_size()
        size = distributed.all_reduce_mean(size) * processes
    total = torch.zeros((), device=images.device)
    pieces = list(zip(*(tensor.chunk(parts) for tensor in (images, *targets)), strict=True))
    for number, (part, *part_targets) in enumerate(pieces, start=1):
        # Gradients are exchanged once, after the last part.
        with _no_exchange(state.network) if number < len(pieces) else nullcontext():
            with autocast(precision, images.device), _counted(state):
                outputs = state.network(part)
            loss = task.loss(outputs, tuple(part_targets), size) * processes
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
        state.ema.update(step)


def uncompiled(network: nn.Module) -> nn.Module:
    """The network without torch.compile: for an epoch's short last batch, whose shape is not worth a compilation."""
    return getattr(network, "_orig_mod", network)


def _no_exchange(network: nn.Module) -> AbstractContextManager:
    ddp = uncompiled(network)
    return ddp.no_sync() if isinstance(ddp, DistributedDataParallel) else nullcontext()


def _counted(state: TrainState) -> AbstractContextManager:
    return state.counters.counted() if state.counters else nullcontext()
