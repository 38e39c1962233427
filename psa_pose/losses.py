"""Losses between predicted maps and a codec's targets, equal to the published ones. All are means over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MapLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(maps, targets, weights) -> a scalar, as the three losses below."""


def supervised(
    loss: MapLoss,
    outputs: Tensor | tuple[Tensor, ...],
    targets: Tensor,
    weights: Tensor,
    final: MapLoss | None = None,
) -> Tensor:
    """The sum of `loss` over the maps of a network with intermediate supervision (arXiv 1603.06937, 1711.07319).

    outputs: maps, each of the targets' shape, coarse to final; or one such tensor, which is then the final one.
    final: another loss for the final maps; the earlier ones keep `loss`.
    """
    *earlier, last = (outputs,) if isinstance(outputs, Tensor) else outputs
    total = (final or loss)(last, targets, weights)
    for maps in earlier:
        total = total + loss(maps, targets, weights)
    return total


def heatmap_mse(maps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Half the squared error of the weighted maps, averaged over everything (SimpleBaseline, HRNet `JointsMSELoss`).

    maps, targets: (B, K, h, w). weights: (B, K), multiplied into both before the square. Returns a float32 scalar.
    """
    return _joint_errors(maps, targets, weights).mean()


def heatmap_mse_ohkm(maps: Tensor, targets: Tensor, weights: Tensor, topk: int = 8) -> Tensor:
    """`heatmap_mse` over the `topk` joints of each person with the largest error (CPN's online hard keypoint mining).

    Shapes as in `heatmap_mse`; with fewer than `topk` joints all of them count.
    """
    errors = _joint_errors(maps, targets, weights)
    return errors.topk(min(topk, errors.shape[1]), dim=1).values.mean()


def udp_offset_loss(maps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Class and offset loss of UDP's combined target (mmpose `CombinedTargetMSELoss`), for the udp_offset codec.

    Half the squared error of the weighted class maps, plus half that of each offset map masked by the weighted target
    class, averaged over persons, joints and pixels.
    maps, targets: (B, 3 K, h, w), class, x offset and y offset of each joint. weights: (B, K). Returns a scalar.
    """
    parts = (*maps.shape[:1], -1, 3, *maps.shape[2:])
    predicted, wanted = maps.reshape(parts).float(), targets.reshape(parts).float()
    weight = weights[..., None, None].float()
    mask = wanted[:, :, 0] * weight
    scale = torch.stack([weight.expand_as(mask), mask, mask], dim=2)
    return 1.5 * ((predicted - wanted) * scale).square().mean()


def _joint_errors(maps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """(B, K) float32: half the mean over pixels of the squared weighted error."""
    difference = (maps.float() - targets.float()) * weights[..., None, None].float()
    return 0.5 * difference.square().mean(dim=(2, 3))
