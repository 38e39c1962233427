"""Loss, optimiser and learning rate, as the config says and not otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.errors import CheckpointError
from psa_pose.losses import heatmap_mse, heatmap_mse_ohkm, supervised, udp_offset_loss

Loss = Callable[[torch.Tensor | tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(cfg: CfgNode) -> Loss:
    """The loss of the codec's targets: (outputs, targets, weights) -> a number.

    outputs: maps, or the tuple of maps of a network with intermediate supervision, whose losses are added up.
    """
    loss = udp_offset_loss if cfg.CODEC.NAME == "udp_offset" else heatmap_mse
    topk = cfg.TRAIN.OHKM_TOPK
    return partial(supervised, loss, final=partial(heatmap_mse_ohkm, topk=topk) if topk else None)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD. Weight decay acts on weights with two or more dimensions, not on biases and norms."""
    options = cfg.TRAIN.OPTIMIZER
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": options.WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if options.NAME == "sgd":
        return torch.optim.SGD(groups, lr=options.LR, momentum=options.MOMENTUM, fused=True)
    kind = torch.optim.Adam if options.NAME == "adam" else torch.optim.AdamW
    return kind(groups, lr=options.LR, fused=True)


def load_optimizer(cfg: CfgNode, optimizer: torch.optim.Optimizer, state: dict[str, Any], source: Path) -> None:
    """Give an optimiser its state of a checkpoint; weight decay and momentum stay those of the config.

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


def lr_at(cfg: CfgNode, epoch: int, step: int, base: float | None = None, steps_per_epoch: int = 1) -> float:
    """The rate of a step; epoch and step (over the whole run) count from 0. A function of both: a resume is exact.

    base: the rate after warm-up, TRAIN.OPTIMIZER.LR by default. steps_per_epoch: for the cosine.
    """
    schedule = cfg.TRAIN.SCHEDULE
    rate = cfg.TRAIN.OPTIMIZER.LR if base is None else base
    if schedule.NAME == "cosine":
        rate *= 0.5 + 0.5 * math.cos(math.pi * step / (cfg.TRAIN.EPOCHS * steps_per_epoch))
    else:
        rate *= schedule.GAMMA ** sum(epoch >= milestone for milestone in schedule.MILESTONES)
    return rate * min(1.0, (step + 1) / (schedule.WARMUP_STEPS + 1))
