"""The tasks that can be trained and tested."""

from __future__ import annotations

import torch
from yacs.config import CfgNode

from psa_pose.device import choose_device
from psa_pose.task import Task


def build_task(cfg: CfgNode, device: torch.device | None = None) -> Task:
    """The task that TASK names, on DEVICE or the device given."""
    device = device or choose_device(cfg.DEVICE)
    if cfg.TASK == "segmentation":
        from psa_pose.tasks.segmentation import SegmentationTask

        return SegmentationTask(cfg, device)
    from psa_pose.tasks.pose import PoseTask

    return PoseTask(cfg, device)
