"""The udp_offset codec: UDP's combined target, a class disc and two offset maps per joint."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psa_pose.codecs.base import Codec
from psa_pose.codecs.peak import check_blur, find_peaks, gaussian_kernel, take
from psa_pose.errors import ConfigError
from psa_pose.losses import udp_offset_loss


class UdpOffset(Codec):
    """UDP's classification and offset maps (Huang et al., CVPR 2020, arXiv 1911.07524).

    Channels of a joint: 1 within `radius` of it and 0 elsewhere; x and y from each pixel to the joint in units of the
    radius, over the whole map (the loss reads them inside the disc). A joint that is not drawn has zeros.
    Decoding takes the maximum of the blurred class map (border reflected, as OpenCV does by default) and adds the raw
    offset found there; the score is that blurred maximum.
    radius: heatmap pixels, `radius_factor` times the map's longer side. blur: odd kernel side, heatmap pixels.
    """

    name = "udp_offset"
    grid = "unbiased"
    channels_per_joint = 3

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        blur: int = 23,
        radius_factor: float = 0.0546875,
    ) -> None:
        super().__init__(input_size, heatmap_size)
        self.blur = check_blur(self.name, blur)
        self.radius = float(radius_factor) * max(self.heatmap_size)
        if not 0 < self.radius < float("inf"):
            raise ConfigError(f"codec {self.name}: radius_factor {radius_factor} is not possible; give one above 0")
        self._blur_x, self._blur_y = (reflected_blur(size, self.blur) for size in self.heatmap_size)

    @torch.no_grad()
    def encode(self, joints: Tensor, visible: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Codec.encode`; every visible joint keeps its weight, its disc may lie outside the map."""
        targets = self._targets(joints, out)
        weights = visible.float() * joints.isfinite().all(-1)
        x, y = self._to_heatmap(joints)
        width, height = self.heatmap_size
        drawn = (weights > 0.5)[..., None]
        to_x = self._offsets(x, drawn, width)[..., None, :]
        to_y = self._offsets(y, drawn, height)[..., :, None]
        disc, offset_x, offset_y = self._split(targets).unbind(2)
        torch.add(to_x.square(), to_y.square(), out=disc)
        disc.le_(torch.where(drawn, 1.0, -1.0)[..., None])
        offset_x.copy_(to_x)
        offset_y.copy_(to_y)
        return targets, weights

    def _offsets(self, position: Tensor, drawn: Tensor, size: int) -> Tensor:
        """One axis: radii (B, K, size) from each pixel to the joints at `position` (B, K), 0 where not `drawn`."""
        pixel = torch.arange(size, device=position.device)
        return torch.where(drawn, (position[..., None] - pixel) / self.radius, 0.0)

    def loss(self, maps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """See `Codec.loss`."""
        return udp_offset_loss(maps, targets, weights)

    @torch.no_grad()
    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Codec.decode`; the score is the maximum of the blurred class map."""
        classes, offset_x, offset_y = (part.flatten(0, 1) for part in self._split(maps).unbind(2))
        x, y, score = find_peaks(self._blurred(classes.float()))
        step_x, step_y = (
            torch.where(score > 0, take(part, x, y), 0.0).nan_to_num(0.0, 0.0, 0.0) * self.radius
            for part in (offset_x, offset_y)
        )
        shape = (maps.shape[0], maps.shape[1] // self.channels_per_joint)
        return self._to_crop(x + step_x, y + step_y).view(*shape, 2), score.view(shape)

    def _blurred(self, maps: Tensor) -> Tensor:
        """(N, h, w) maps, blurred along both axes, float32 even under autocast."""
        with torch.autocast(maps.device.type, enabled=False):
            blur_x = self._on_device("blur x", self._blur_x, maps.device)
            blur_y = self._on_device("blur y", self._blur_y, maps.device)
            return blur_y @ (maps @ blur_x.T)

    def _mirror_values(self, maps: Tensor) -> Tensor:
        sign = torch.ones(3, 1, 1, device=maps.device, dtype=maps.dtype)
        sign[1] = -1
        return maps * sign


def reflected_blur(size: int, blur: int) -> Tensor:
    """Blurring as a matrix (size, size): row i holds what pixel i takes from each pixel, the border reflected."""
    source = np.pad(np.arange(size), blur // 2, mode="reflect")
    matrix = torch.zeros(size, size)
    for tap, weight in enumerate(gaussian_kernel(blur)):
        matrix[torch.arange(size), torch.from_numpy(source[tap : tap + size])] += weight
    return matrix
