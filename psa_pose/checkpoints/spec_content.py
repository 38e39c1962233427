"""What a checkpoint holds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose import __version__
from psa_pose.checkpoints import unwrapped_state_dict
from psa_pose.config import dump_config
from psa_pose.skeleton import Skeleton


def checkpoint_content(
    cfg: CfgNode,
    skeleton: Skeleton,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    epoch: int,
    best: float,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Weights, what is needed to go on, and what must be known to use them: plain values and tensors only.

    optimizer: None for weights that were not trained here. epoch: number of complete epochs. best: highest AP or PCKh
    so far, -1 before the first evaluation. training: what else a run needs to go on, from
    `training.resume.training_state`.
    """
    trained_input = {key: cfg.INPUT[key] for key in ("SIZE", "PADDING", "CHANNEL_ORDER", "MEAN", "STD")}
    return {
        "model": unwrapped_state_dict(model),
        "optimizer": optimizer.state_dict() if optimizer else None,
        "training": training,
        "epoch": epoch,
        "best": best,
        "input": {key: list(v) if isinstance(v, tuple) else v for key, v in trained_input.items()},
        "skeleton": skeleton.as_dict(),
        "config": dump_config(cfg),
        "versions": {
            "psa_pose": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }
