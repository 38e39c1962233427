"""What every codec shares: the mapping between crop and heatmap pixels, and the alignment of a flipped output."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable

import torch
from torch import Tensor

from psa_pose.errors import ConfigError, DataError
from psa_pose.geometry import Grid, span
from psa_pose.losses import heatmap_mse


class Codec(ABC):
    """Keypoints in crop pixels to target maps, and maps back to keypoints, batched on the device of the tensors.

    name, grid: the codec's name and the pixel grid that its crops must be cut on (see `psa_pose.geometry`).
    channels_per_joint: maps per joint, adjacent in the channel dimension.
    flip_shift: heatmap pixels by which a mirrored output has to move right to lie on the unmirrored one.
    input_size, heatmap_size: (width, height), crop pixels and heatmap pixels.
    stride: (x, y) crop pixels per heatmap pixel, span(input) / span(heatmap).
    sigma: standard deviation of the target in heatmap pixels; 0 where the target is not a Gaussian.
    """

    name: str
    grid: Grid
    channels_per_joint: int = 1
    flip_shift: float = 0.0
    sigma: float = 0.0

    def __init__(self, input_size: tuple[int, int], heatmap_size: tuple[int, int]) -> None:
        if min(*input_size, *heatmap_size) < 2:
            raise ConfigError(f"codec {self.name}: sizes {input_size}, {heatmap_size}; a side needs 2 pixels or more")
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.heatmap_size = (int(heatmap_size[0]), int(heatmap_size[1]))
        stride_x, stride_y = span(self.input_size, self.grid) / span(self.heatmap_size, self.grid)
        self.stride = (float(stride_x), float(stride_y))
        self._sent: dict[tuple[Hashable, torch.device], Tensor] = {}

    @abstractmethod
    def encode(self, joints: Tensor, visible: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Targets of a batch of persons.

        joints: (B, K, 2) crop pixels, may lie outside the crop. visible: (B, K), above 0.5 to draw the joint.
        out: a float32 tensor (B, K * channels_per_joint, height, width) to overwrite and return as the targets.
        Returns targets, float32 of that shape, and weights (B, K) float32: `visible`, 0 for joints without a target.
        Raises DataError on an unfit `out`.
        """

    @abstractmethod
    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints of a batch of network outputs, of any floating type and memory layout.

        maps: (B, K * channels_per_joint, height, width).
        Returns joints (B, K, 2) float32 crop pixels and scores (B, K) float32. A map without a positive finite maximum
        has joint (0, 0) and a score of 0 or below. Raises DataError on maps of another shape.
        """

    def loss(self, maps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """The published loss of this codec's targets, a mean over persons, joints and pixels: a scalar.

        maps, targets: (B, K * channels_per_joint, height, width). weights: (B, K).
        """
        return heatmap_mse(maps, targets, weights)

    @torch.no_grad()
    def flip_back(self, maps: Tensor, flip_pairs: Iterable[tuple[int, int]], shift: float | None = None) -> Tensor:
        """The output for a mirrored crop, laid on the output for the crop itself.

        maps: (B, C, height, width), raw output for the crop flipped left to right (crop x -> width - 1 - x).
        flip_pairs: pairs of joint indices that exchange places. shift: heatmap pixels to move the mirrored maps right,
        interpolated linearly, the border column repeated; None takes the codec's own (1 standard, 0.75 dark, 0 on the
        unbiased grid). Published variants: HRNet 1, mmpose's DARK 1, DarkPose 0.
        Returns (B, C, height, width) of the same type. Raises DataError on maps of another shape or a bad pair.
        """
        joints = self._split(maps)
        order = list(range(joints.shape[1]))
        for a, b in flip_pairs:
            if not 0 <= min(a, b) <= max(a, b) < len(order):
                raise DataError(
                    f"flip pair {(a, b)} is outside the {len(order)} joints of the maps; use another skeleton"
                )
            order[a], order[b] = b, a
        joints = joints[:, self._on_device(tuple(order), torch.tensor(order), maps.device)]
        width = joints.shape[-1]
        shift = self.flip_shift if shift is None else shift
        whole = math.floor(shift)
        source = torch.arange(width, device=maps.device) - whole
        flipped = joints[..., width - 1 - source.clamp(0, width - 1)]
        if shift != whole:
            beside = joints[..., width - 1 - (source - 1).clamp(0, width - 1)]
            flipped = torch.lerp(flipped, beside, shift - whole)
        return self._mirror_values(flipped).flatten(1, 2)

    def _on_device(self, name: Hashable, constant: Tensor, device: torch.device) -> Tensor:
        """A constant of the codec, sent to each device once: a copy from the host waits for all that is queued there.

        name: says which constant it is, and all that it depends on.
        """
        if device.type == "cpu":
            return constant
        key = (name, device)
        if key not in self._sent:
            self._sent[key] = constant.to(device)
        return self._sent[key]

    def _mirror_values(self, maps: Tensor) -> Tensor:
        """What a mirror does to the values of (B, K, channels_per_joint, h, w) maps: nothing, to class maps."""
        return maps

    def _split(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) as (B, K, channels_per_joint, h, w)."""
        width, height = self.heatmap_size
        if maps.ndim != 4 or tuple(maps.shape[2:]) != (height, width) or maps.shape[1] % self.channels_per_joint:
            wanted = f"(B, {self.channels_per_joint} K, {height}, {width})"
            raise DataError(f"codec {self.name} reads maps of shape {wanted}, not {tuple(maps.shape)}; check its sizes")
        return maps.unflatten(1, (maps.shape[1] // self.channels_per_joint, self.channels_per_joint))

    def _targets(self, joints: Tensor, out: Tensor | None) -> Tensor:
        """`out`, checked, or a fresh tensor for the targets of `joints`."""
        width, height = self.heatmap_size
        shape = (joints.shape[0], joints.shape[1] * self.channels_per_joint, height, width)
        if out is None:
            return torch.empty(shape, dtype=torch.float32, device=joints.device)
        if tuple(out.shape) != shape or out.dtype != torch.float32 or out.device != joints.device:
            raise DataError(
                f"targets need a float32 tensor {shape} on {joints.device}, not {out.dtype} {tuple(out.shape)}"
            )
        return out

    def _to_heatmap(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Crop pixels (..., 2) to heatmap pixels x, y, each (...)."""
        x, y = joints.float().unbind(-1)
        return x / self.stride[0], y / self.stride[1]

    def _to_crop(self, x: Tensor, y: Tensor) -> Tensor:
        """Heatmap pixels x, y, each (...), to crop pixels (..., 2)."""
        return torch.stack([x * self.stride[0], y * self.stride[1]], dim=-1)
