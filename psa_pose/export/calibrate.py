"""Crops that static quantization looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from yacs.config import CfgNode

from psa_pose.checkpoints import load_checkpoint
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.codecs import build_codec
from psa_pose.config.skeleton import build_skeleton
from psa_pose.data.build import build_train_set

CALIBRATION = 128
"""Persons that static quantization looks at."""


def calibration_crops(cfg: CfgNode, checkpoint: Path, count: int) -> np.ndarray:
    """Crops (N, H, W, 3) uint8 RGB of up to `count` training persons, spread over them, augmented as in training."""
    skeleton = build_skeleton(cfg)
    ModelSpec.of_config(cfg).check(load_checkpoint(checkpoint), checkpoint)
    dataset = build_train_set(cfg, skeleton, build_codec(cfg).grid, print)
    rows = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    crops = np.stack([dataset[0, int(row)].crop for row in rows])
    return _rgb(crops, cfg.INPUT.CHANNEL_ORDER)


def _rgb(crops: np.ndarray, channel_order: str) -> np.ndarray:
    return crops if channel_order == "rgb" else np.ascontiguousarray(crops[..., ::-1])
