"""What a checkpoint holds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose import __version__
from psa_pose.checkpoints import plain_state
from psa_pose.config import dump_config
from psa_pose.errors import CheckpointError
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
    `engine.state.training_state`.
    """
    trained_input = {key: cfg.INPUT[key] for key in ("SIZE", "PADDING", "CHANNEL_ORDER", "MEAN", "STD")}
    return {
        "model": plain_state(model),
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


def check_content(content: dict[str, Any], source: object) -> None:
    """Raise CheckpointError for a checkpoint that lacks what `checkpoint_content` writes, or holds another type."""
    for key, kinds in _KINDS.items():
        # Checkpoints of the first version have no "training".
        if not isinstance(content.get(key, None if key == "training" else _Missing), kinds):
            raise CheckpointError(
                f"checkpoint {source} has no usable {key!r}; it is damaged or of another version: use another one"
            )
    if not isinstance(content["skeleton"].get("names"), list):
        raise CheckpointError(f"checkpoint {source} does not say which keypoints it finds; use another one")


class _Missing:
    """Of no kind."""


_KINDS: dict[str, tuple[type, ...]] = {
    "optimizer": (dict, type(None)),
    "training": (dict, type(None)),
    "epoch": (int,),
    "best": (int, float),
    "input": (dict,),
    "skeleton": (dict,),
    "config": (str,),
}
