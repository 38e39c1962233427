"""Loss, optimiser and learning rate, as the config says and not otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from yacs.config import CfgNode

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


def learning_rate(cfg: CfgNode, epoch: int, step: int) -> float:
    """The rate of a step; epoch and step (over the whole run) count from 0. A function of both: a resume is exact."""
    schedule = cfg.TRAIN.SCHEDULE
    rate = cfg.TRAIN.OPTIMIZER.LR * schedule.GAMMA ** sum(epoch >= milestone for milestone in schedule.MILESTONES)
    return rate * min(1.0, (step + 1) / (schedule.WARMUP_STEPS + 1))
