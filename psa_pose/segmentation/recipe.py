"""From the config to what a segmentation network is trained by: its loss, and the groups of its parameters."""

from __future__ import annotations

from typing import Any

from torch import nn
from yacs.config import CfgNode

from psa_pose.segmentation.build import align_corners
from psa_pose.segmentation.losses import CrossEntropy, Focal, Ohem, OutputsLoss, SegmentationLoss
from psa_pose.segmentation.rmi import BinaryCrossEntropy, RegionMutualInformation


def build_loss(cfg: CfgNode) -> OutputsLoss:
    """The loss of all maps of the config's network: LOSS.NAME of the final one, and its companion of those before."""
    options, corners = cfg.LOSS, align_corners(cfg)
    weights = options.CLASS_WEIGHTS if len(options.CLASS_WEIGHTS) > 1 else None
    everywhere = options.OVER_ALL_PIXELS
    early: SegmentationLoss = CrossEntropy(weights, corners, everywhere)
    final: SegmentationLoss = early
    if options.NAME == "ohem":
        final = Ohem(options.OHEM_THRESHOLD, options.OHEM_KEPT, weights, corners)
    elif options.NAME == "focal":
        final = Focal(options.FOCAL_GAMMA, corners, everywhere)
    elif options.NAME == "rmi":
        early, final = BinaryCrossEntropy(corners), RegionMutualInformation(options.RMI_BCE, corners)
    maps = len(options.OUTPUT_WEIGHTS)
    return OutputsLoss([early] * (maps - 1) + [final], options.OUTPUT_WEIGHTS)


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """The parameters that are trained, the trunk's apart; groups without a parameter are left out.

    Those with two or more dimensions decay; with DECAY_ALL biases and norms too.
    """
    options, backbone = cfg.TRAIN.OPTIMIZER, getattr(model, "backbone", None)
    trunk = {id(p) for p in backbone.parameters()} if isinstance(backbone, nn.Module) else set[int]()
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = []
    for in_trunk, scale in ((True, options.BACKBONE_LR), (False, 1.0)):
        for decays in (True, False):
            chosen = [
                p for p in parameters if (id(p) in trunk) == in_trunk and (p.ndim >= 2 or options.DECAY_ALL) == decays
            ]
            decay = options.WEIGHT_DECAY if decays else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "lr_scale": scale})
    return [group for group in groups if group["params"]]
