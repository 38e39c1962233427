"""From the config to the loss that a segmentation network is trained by: one for each map that it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from yacs.config import CfgNode

from psa_pose.errors import ConfigError
from psa_pose.segmentation.losses.pixelwise import CrossEntropy, Focal, Ohem, SegmentationLoss
from psa_pose.segmentation.losses.rmi import BinaryCrossEntropy, RegionMutualInformation
from psa_pose.segmentation.networks.build import align_corners


@dataclass(frozen=True)
class OutputsLoss:
    """The weighted sum of one loss for each map that a network answers, auxiliary ones first, the final one last.

    HRNet-OCR: weights 0.4 and 1; HMSA: 0.4 for OCR's auxiliary map, 0.05 for each scale's, and 1.
    """

    losses: Sequence[SegmentationLoss]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.losses) != len(self.weights):
            raise ConfigError(
                f"{len(self.losses)} losses have {len(self.weights)} weights; give one weight for each map"
            )

    def size(self, labels: Tensor) -> Tensor:
        """(n,) float64: the sizes of the losses, one after the other."""
        return torch.cat([loss.size(labels) for loss in self.losses])

    def __call__(self, outputs: Tensor | tuple[Tensor, ...], labels: Tensor, size: Tensor) -> Tensor:
        maps = (outputs,) if isinstance(outputs, Tensor) else outputs
        if len(maps) != len(self.losses):
            raise ConfigError(
                f"the network answers {len(maps)} maps but the loss has {len(self.losses)} weights; give one for each"
            )
        sizes = size.split([len(loss.size(labels[:0])) for loss in self.losses])
        parts = zip(self.weights, self.losses, maps, sizes, strict=True)
        return torch.stack([weight * loss(logits, labels, own) for weight, loss, logits, own in parts]).sum()


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
