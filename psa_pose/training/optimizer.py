"""Optimiser and learning rate, as the config says and not otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.errors import CheckpointError

Schedule = Callable[[int], float]
"""Step over the whole run, from 0 -> learning rate."""


def weight_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that are trained: those with two or more dimensions decay, biases and norms do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay, "lr_scale": 1.0},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, "lr_scale": 1.0},
    ]


def build_optimizer(cfg: CfgNode, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over a task's parameter groups."""
    options = cfg.TRAIN.OPTIMIZER
    if options.NAME == "sgd":
        return torch.optim.SGD(groups, lr=options.LR, momentum=options.MOMENTUM, fused=True)
    kind = torch.optim.Adam if options.NAME == "adam" else torch.optim.AdamW
    return kind(groups, lr=options.LR, fused=True)


def load_optimizer(cfg: CfgNode, optimizer: torch.optim.Optimizer, state: dict[str, Any], source: Path) -> None:
    """Give an optimiser its state of a checkpoint; weight decay, momentum and lr_scale stay those of the config.

    Raises CheckpointError where the state is another optimiser's or belongs to other parameters.
    """
    own = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    expected = {"momentum_buffer"} if cfg.TRAIN.OPTIMIZER.NAME == "sgd" else {"step", "exp_avg", "exp_avg_sq"}
    # load_state_dict takes any state, and the first step fails.
    try:
        optimizer.load_state_dict(state)
        fits = all(
            held.keys() == expected and all(value is None or value.shape in ((), p.shape) for value in held.values())
            for p, held in optimizer.state.items()
        )
    except (ValueError, KeyError, TypeError, RuntimeError, IndexError, AttributeError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"checkpoint {source} holds the state of another optimiser, or of another choice of frozen layers; go on "
            "with the TRAIN.OPTIMIZER.NAME and TRAIN.FREEZE of its config"
        )
    for group, options in zip(optimizer.param_groups, own, strict=True):
        group.update(options)


def base_lr(cfg: CfgNode, effective_batch: int) -> float:
    """The learning rate after warm-up: TRAIN.OPTIMIZER.LR, scaled linearly with the batch where the config asks for it.

    Linear scaling: Goyal et al., Accurate, Large Minibatch SGD, arXiv 1706.02677.
    """
    options = cfg.TRAIN.OPTIMIZER
    return options.LR * effective_batch / options.SCALE_LR_FROM if options.SCALE_LR_FROM else options.LR


def total_steps(cfg: CfgNode, steps_per_epoch: int) -> int:
    """The length of a run: TRAIN.STEPS, or TRAIN.EPOCHS whole epochs."""
    return cfg.TRAIN.STEPS or cfg.TRAIN.EPOCHS * steps_per_epoch


def build_schedule(cfg: CfgNode, base: float, steps_per_epoch: int) -> Schedule:
    """The learning rate of every step, a function of the step alone: a resume is exact. base: after warm-up.

    multistep: times GAMMA after each of MILESTONES epochs. cosine, poly: from the first step to 0 after the last, poly
    by (1 - share done) ^ POWER (Chen et al., arXiv 1606.00915), but never below MIN_LR; with PER_EPOCH the share done
    is that of the epochs.
    """
    schedule, total = cfg.TRAIN.SCHEDULE, total_steps(cfg, steps_per_epoch)

    def lr_at(step: int) -> float:
        lr = base
        done, whole = step, total
        if schedule.PER_EPOCH:
            done, whole = step // steps_per_epoch, -(-total // steps_per_epoch)
        if schedule.NAME == "cosine":
            lr = max(lr * (0.5 + 0.5 * math.cos(math.pi * done / whole)), schedule.MIN_LR)
        elif schedule.NAME == "poly":
            lr = max(lr * max(0.0, 1 - done / whole) ** schedule.POWER, schedule.MIN_LR)
        else:
            lr *= schedule.GAMMA ** sum(step // steps_per_epoch >= milestone for milestone in schedule.MILESTONES)
        return lr * min(1.0, (step + 1) / (schedule.WARMUP_STEPS + 1))

    return lr_at
