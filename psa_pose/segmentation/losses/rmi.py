"""Region mutual information loss (Zhao et al., arXiv 1910.12037) and its binary cross entropy, as in HMSA's training.

A pixel is described by its 3x3 neighbourhood, and a class by the 9-vectors of its labels and of its probabilities; what
the second leave unknown about the first is a covariance, whose log-determinant is the loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from psa_pose.segmentation.classes import IGNORE
from psa_pose.segmentation.losses.pixelwise import at_label_size, labelled_pixels

RADIUS = 3
POOLING = 4
FLOOR = 1e-6
RIDGE = 5e-4


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Sigmoid cross entropy of each class against the rest, summed over classes, over the labelled pixels plus one."""

    align_corners: bool = False

    def size(self, labels: Tensor) -> Tensor:
        """(1,) float64: labelled pixels."""
        return labelled_pixels(labels)

    def __call__(self, logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        logits = at_label_size(logits, labels, self.align_corners)
        return _binary_cross_entropy(logits, *_one_hot(labels, logits)) / (size[0] + 1)


@dataclass(frozen=True)
class RegionMutualInformation:
    """(1 - bce) times the lower bound of the mutual information plus bce times the binary cross entropy.

    The first is a mean over images, the second over labelled pixels: size is (2,), labelled pixels and images.
    The covariances are in float64, as published.
    """

    bce: float = 0.5
    align_corners: bool = False

    def size(self, labels: Tensor) -> Tensor:
        """(2,) float64: labelled pixels, images."""
        images = torch.full((1,), len(labels), dtype=torch.float64, device=labels.device)
        return torch.cat([labelled_pixels(labels), images])

    def __call__(self, logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        # The products of covariances need their digits, whatever precision the model runs in.
        with torch.autocast(logits.device.type, enabled=False):
            logits = at_label_size(logits, labels, self.align_corners)
            wanted, labelled = _one_hot(labels, logits)
            total = torch.zeros((), dtype=torch.float64, device=logits.device)
            if self.bce:
                total = total + self.bce * _binary_cross_entropy(logits, wanted, labelled) / (size[0] + 1)
            if self.bce < 1:
                bound = lower_bounds(wanted, logits.sigmoid() * labelled + FLOOR).sum()
                total = total + (1 - self.bce) * bound / size[1].clamp(min=1)
            return total


def lower_bounds(wanted: Tensor, probabilities: Tensor) -> Tensor:
    """(B,) float64: for each image, half the log-determinants of what is unknown, summed over classes, over 9.

    wanted, probabilities: (B, C, H, W), at least 9 pixels wide and high.
    """
    # (B, C, 9, positions), centred over the positions.
    y, p = (_neighbourhoods(maps).double() for maps in (wanted, probabilities))
    y, p = y - y.mean(3, keepdim=True), p - p.mean(3, keepdim=True)
    ridge = RIDGE * torch.eye(RADIUS**2, dtype=torch.float64, device=y.device)
    p_t = p.transpose(2, 3)
    y_p = y @ p_t
    # The forms that raise nothing: to see whether they should would wait for a GPU. A NaN is noticed later.
    solved, _ = torch.linalg.solve_ex(p @ p_t + ridge, y_p.transpose(2, 3))
    unknown = y @ y.transpose(2, 3) - y_p @ solved
    return 0.5 * _log_determinant(unknown + ridge).sum(1) / RADIUS**2


def _log_determinant(matrices: Tensor) -> Tensor:
    """(...,) of positive definite matrices (..., n, n); NaN where one is not."""
    factors, failed = torch.linalg.cholesky_ex(matrices)
    logarithms = factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (2 * logarithms).masked_fill(failed != 0, torch.nan)


def _neighbourhoods(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W), pooled by 4, as the 3x3 neighbourhoods of their inner positions: (B, C, 9, positions)."""
    maps = F.avg_pool2d(maps, POOLING, POOLING, POOLING // 2)
    height, width = maps.shape[2] - RADIUS + 1, maps.shape[3] - RADIUS + 1
    shifted = [maps[:, :, y : y + height, x : x + width] for y in range(RADIUS) for x in range(RADIUS)]
    return torch.stack(shifted, 2).flatten(3)


def _one_hot(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, H, W) -> one map per class (B, C, H, W), all 0 where ignored, and which pixels count (B, 1, H, W)."""
    labelled = (labels != IGNORE)[:, None]
    classes = torch.arange(logits.shape[1], device=labels.device)[:, None, None]
    return (labels[:, None] == classes).to(logits.dtype), labelled.to(logits.dtype)


def _binary_cross_entropy(logits: Tensor, wanted: Tensor, labelled: Tensor) -> Tensor:
    """The sum over classes and labelled pixels."""
    return F.binary_cross_entropy_with_logits(logits, wanted, labelled.expand_as(logits), reduction="sum")
