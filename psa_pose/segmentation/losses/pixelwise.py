"""Losses between logits and label maps, equal to the published ones, each a sum over a part of a batch.

A step may be cut into parts and spread over processes, so a loss is given its normaliser: with `size` the sum of
`loss.size(labels)` over all parts, the sum of `loss(logits, labels, size)` over the parts is the loss of the whole.
Logits (B, C, h, w) are resized to the labels, which are (B, H, W) integers with 255 where a pixel does not count.
Everything is computed in float32 or wider, whatever the precision of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from psa_pose.segmentation.classes import IGNORE


class SegmentationLoss(Protocol):
    """A loss of one map of logits."""

    def size(self, labels: Tensor) -> Tensor:
        """(n,) float64: what the part with these labels adds to the normaliser; n is the same for all labels."""

    def __call__(self, logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        """The scalar loss of this part, its sum over `size`."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy averaged over the labelled pixels; with class weights, divided by the sum of the pixels' weights.

    class_weights: one for each class. align_corners: of the resizing of the logits.
    over_all_pixels: ignored pixels count as zeros in the mean, and class weights are not normalised, as in HRNet's
    auxiliary term beside OHEM.
    """

    class_weights: Sequence[float] | None = None
    align_corners: bool = False
    over_all_pixels: bool = False

    def size(self, labels: Tensor) -> Tensor:
        """(1,) float64: labelled pixels, the sum of their weights, or all pixels."""
        if self.over_all_pixels:
            return all_pixels(labels)
        if self.class_weights is None:
            return labelled_pixels(labels)
        # One weight for each value that a label may have, so that none has to be left out: that would wait for a GPU.
        table = [*self.class_weights, *[0.0] * (IGNORE + 1 - len(self.class_weights))]
        return _on_device(table, torch.float64, labels.device)[labels.long()].sum()[None]

    def __call__(self, logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        logits = at_label_size(logits, labels, self.align_corners)
        return _mean(pixel_losses(logits, labels, self.class_weights).sum(), size)


@dataclass(frozen=True)
class Focal:
    """Focal loss (Lin et al., arXiv 1708.02002): (1 - p)^gamma times the cross entropy, over the labelled pixels.

    over_all_pixels: ignored pixels count as zeros in the mean, as in VainF's code.
    """

    gamma: float = 2.0
    align_corners: bool = False
    over_all_pixels: bool = False

    def size(self, labels: Tensor) -> Tensor:
        """(1,) float64: labelled pixels, or all."""
        return all_pixels(labels) if self.over_all_pixels else labelled_pixels(labels)

    def __call__(self, logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        losses = pixel_losses(at_label_size(logits, labels, self.align_corners), labels)
        # Where p is 1 the base is 0, and a power below 1 has no gradient there.
        rest = (1 - torch.exp(-losses)).clamp(min=1e-12)
        return _mean((rest**self.gamma * losses).sum(), size)


@dataclass(frozen=True)
class Ohem:
    """Cross entropy of the hard pixels (HRNet's OhemCrossEntropy): a plain mean over those that are kept.

    Kept are the pixels that give their label a probability below `threshold`, or below that of the (kept + 1)-th
    smallest where that is larger. Which they are depends on the part: the published mean is over the kept pixels of
    each process, and parts are joined in proportion to their labelled pixels, which is the size.
    """

    threshold: float = 0.9
    kept: int = 131072
    class_weights: Sequence[float] | None = None
    align_corners: bool = False

    def size(self, labels: Tensor) -> Tensor:
        """(1,) float64: labelled pixels."""
        return labelled_pixels(labels)

    def __call__(self, logits: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        logits = at_label_size(logits, labels, self.align_corners)
        hard = self._hard(logits.detach(), labels)
        total = (pixel_losses(logits, labels, self.class_weights) * hard).sum()
        return _mean(total / hard.sum().clamp(min=1) * labelled_pixels(labels)[0], size)

    def _hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, H, W) bool: the labelled pixels that are kept."""
        labelled = labels != IGNORE
        probability = torch.exp(-pixel_losses(logits, labels))
        ordered = probability.masked_fill(~labelled, torch.inf).flatten()
        least = ordered.kthvalue(min(self.kept + 1, ordered.numel())).values
        # With fewer labelled pixels than are to be kept, the largest probability among them.
        largest = probability.masked_fill(~labelled, 0).max()
        return labelled & (probability < torch.minimum(least, largest).clamp(min=self.threshold))


def at_label_size(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """Logits (B, C, h, w) resized bilinearly to labels (B, H, W): (B, C, H, W), float32 or float64."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if logits.shape[2:] == labels.shape[1:]:
        return logits
    return F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=align_corners)


def pixel_losses(logits: Tensor, labels: Tensor, class_weights: Sequence[float] | None = None) -> Tensor:
    """(B, H, W) cross entropy times the label's class weight, 0 where ignored. logits: (B, C, H, W)."""
    weights = None if class_weights is None else _on_device(class_weights, logits.dtype, logits.device)
    return F.cross_entropy(logits, labels.long(), weights, ignore_index=IGNORE, reduction="none")


def labelled_pixels(labels: Tensor) -> Tensor:
    """(1,) float64: how many pixels count."""
    return (labels != IGNORE).sum(dtype=torch.float64)[None]


def all_pixels(labels: Tensor) -> Tensor:
    """(1,) float64: how many pixels there are, ignored ones included."""
    return torch.full((1,), labels.numel(), dtype=torch.float64, device=labels.device)


def _on_device(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n,) on the device, which is not waited for."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def _mean(total: Tensor, size: Tensor) -> Tensor:
    """total / size[0]; a batch without a labelled pixel has loss 0, not 0 / 0."""
    return total / size[0].masked_fill(size[0] == 0, 1)
