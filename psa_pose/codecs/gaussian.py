"""The codecs whose target is one Gaussian per joint: standard, dark and udp_gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from psa_pose.codecs.base import Codec
from psa_pose.codecs.peak import blurred_window, check_blur, find_peaks, gaussian_kernel, take
from psa_pose.errors import ConfigError

SIGMA_PER_WIDTH = 2 / 48  # 2 heatmap pixels at 48x64, 3 at 72x96
EPSILON = torch.finfo(torch.float32).eps


class GaussianCodec(Codec):
    """Encoding by separable Gaussians, and the frame of decoding by a maximum and a step away from it.

    rounds: the patch is centred on the nearest heatmap pixel, `int(x + 0.5)` as published: towards 0 left of the map.
    A joint has a target if its patch of 3 sigma touches the map; as published, a patch that ends just before pixel 0
    still counts.
    """

    rounds: bool

    def __init__(self, input_size: tuple[int, int], heatmap_size: tuple[int, int], sigma: float | None = None) -> None:
        super().__init__(input_size, heatmap_size)
        self.sigma = self.heatmap_size[0] * SIGMA_PER_WIDTH if sigma is None else float(sigma)
        if not 0 < self.sigma < float("inf"):
            raise ConfigError(f"codec {self.name}: sigma {sigma} is not possible; give heatmap pixels above 0")

    @torch.no_grad()
    def encode(self, joints: Tensor, visible: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Codec.encode`; the peak is 1."""
        targets = self._targets(joints, out)
        width, height = self.heatmap_size
        position = torch.stack(self._to_heatmap(joints), dim=-1)
        patch = torch.trunc(position + 0.5) if self.rounds else position
        weights = visible.float() * self._touches(patch)
        profiles = self._profiles(self._centre(position, patch), patch, weights > 0.5)
        columns, rows = profiles[:, :, 0, None, :width], profiles[:, :, 1, :height, None]
        torch.mul(rows, columns, out=targets)
        return targets, weights

    def _touches(self, patch: Tensor) -> Tensor:
        """Whether patches of 3 sigma around (B, K, 2) heatmap pixels touch the map: (B, K)."""
        width, height = self.heatmap_size
        start, end = torch.trunc(patch - int(3 * self.sigma)), torch.trunc(patch + int(3 * self.sigma) + 1)
        return (end >= 0).all(-1) & (start[..., 0] < width) & (start[..., 1] < height)

    def _profiles(self, centre: Tensor, patch: Tensor, drawn: Tensor) -> Tensor:
        """Both axes at once: Gaussians (B, K, 2, n) around `centre` (B, K, 2), 0 beyond the reach of `patch`.

        Only the pixels within reach are computed, then laid into zeros with a margin that takes what lies outside the
        map, and all of a joint that is not `drawn` (B, K).
        """
        reach = self._reach()
        first = torch.where(drawn[..., None], torch.ceil(patch - reach), 0.0)
        pixel = first[..., None] + torch.arange(2 * reach + 1, device=patch.device, dtype=torch.float32)
        values = (pixel - centre[..., None]).square_().mul_(-0.5 / self.sigma**2).exp_()
        size, margin = max(self.heatmap_size), 2 * reach + 1
        index = torch.where(drawn[..., None, None], pixel + margin, 0.0).clamp_(0, size + 2 * margin - 1).long()
        profiles = torch.zeros((*patch.shape, size + 2 * margin), device=patch.device)
        return profiles.scatter_(-1, index, values)[..., margin : margin + size]

    def _centre(self, position: Tensor, patch: Tensor) -> Tensor:
        """Where the Gaussian's peak lies: `position`, unless the codec rounds it too."""
        return position

    def _reach(self) -> int:
        """Heatmap pixels from the patch's centre at which the target ends."""
        return int(3 * self.sigma)

    @torch.no_grad()
    def decode(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Codec.decode`; the score is the map's maximum."""
        joints = self._split(maps)
        flat = joints.reshape(-1, *joints.shape[3:])
        flat = flat.float() if flat.device.type == "cpu" else flat
        x, y, score = find_peaks(flat)
        step_x, step_y = (
            torch.where(score > 0, step, 0.0).nan_to_num(0.0, 0.0, 0.0) for step in self._refine(flat, x, y, score)
        )
        shape = joints.shape[:2]
        return self._to_crop(x + step_x, y + step_y).view(*shape, 2), score.view(shape)

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmap pixels (N,), (N,) from the maxima at integers x, y of (N, h, w) maps to the joints."""
        raise NotImplementedError


class Standard(GaussianCodec):
    """SimpleBaseline and HRNet: the centre rounded to a pixel, and a quarter pixel towards the higher neighbour."""

    name = "standard"
    grid = "classic"
    flip_shift = 1.0
    rounds = True

    def _centre(self, position: Tensor, patch: Tensor) -> Tensor:
        return patch

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        height, width = maps.shape[1:]
        inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        px, py = x.clamp(1, width - 2), y.clamp(1, height - 2)
        step_x = torch.sign(take(maps, px + 1, py) - take(maps, px - 1, py))
        step_y = torch.sign(take(maps, px, py + 1) - take(maps, px, py - 1))
        return 0.25 * inner * step_x, 0.25 * inner * step_y


class Blurring(GaussianCodec):
    """A Gaussian codec that decodes from derivatives of the blurred map's logarithm; blur: odd kernel side, pixels."""

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        sigma: float | None = None,
        blur: int = 11,
    ) -> None:
        super().__init__(input_size, heatmap_size, sigma)
        self.blur = check_blur(self.name, blur)
        self._kernel = gaussian_kernel(self.blur)


class Dark(Blurring):
    """DARK (Zhang et al., CVPR 2020, arXiv 1910.06278): sub-pixel centres, and a Newton step on the blurred logarithm.

    Differences reach two pixels; a maximum within two pixels of the border is left where it is.
    """

    name = "dark"
    grid = "classic"
    flip_shift = 0.75
    rounds = False

    def _reach(self) -> int:
        # Published: no end at all. This one is below 1e-17 and keeps products off denormals.
        return math.ceil(9 * self.sigma)

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        height, width = maps.shape[1:]
        log = blurred_window(maps, x, y, 2, self._kernel).clamp(min=1e-10).log()
        dx, dy = (log[:, 2, 3] - log[:, 2, 1]) / 2, (log[:, 3, 2] - log[:, 1, 2]) / 2
        dxx = (log[:, 2, 4] - 2 * log[:, 2, 2] + log[:, 2, 0]) / 4
        dyy = (log[:, 4, 2] - 2 * log[:, 2, 2] + log[:, 0, 2]) / 4
        dxy = (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1]) / 4
        inner = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
        step_x, step_y = newton_step(dx, dy, dxx, dxy, dyy)
        return torch.where(inner, step_x, 0.0), torch.where(inner, step_y, 0.0)


class UdpGaussian(Blurring):
    """UDP (Huang et al., CVPR 2020, arXiv 1911.07524) with a Gaussian: sub-pixel centre in a patch around its pixel.

    Decoded like DARK with differences of one pixel, the border repeated outward, the blurred map scaled back to the
    maximum it had and clipped to [0.001, 50]. The scale comes from the blurred values next to the maximum.
    """

    name = "udp_gaussian"
    grid = "unbiased"
    rounds = True

    def _refine(self, maps: Tensor, x: Tensor, y: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        height, width = maps.shape[1:]
        step = torch.arange(-1, 2, device=maps.device)
        columns = (x[:, None] + step).clamp(0, width - 1) - x[:, None] + 1
        rows = (y[:, None] + step).clamp(0, height - 1) - y[:, None] + 1
        near = take(blurred_window(maps, x, y, 1, self._kernel), columns[:, None, :], rows[:, :, None])
        near = near * (score / near.amax(dim=(1, 2)))[:, None, None]
        log = near.clamp(0.001, 50.0).log()
        dx, dy = (log[:, 1, 2] - log[:, 1, 0]) / 2, (log[:, 2, 1] - log[:, 0, 1]) / 2
        dxx = log[:, 1, 2] - 2 * log[:, 1, 1] + log[:, 1, 0]
        dyy = log[:, 2, 1] - 2 * log[:, 1, 1] + log[:, 0, 1]
        cross = log[:, 1, 2] + log[:, 2, 1] + log[:, 1, 0] + log[:, 0, 1]
        dxy = (log[:, 2, 2] + log[:, 0, 0] + 2 * log[:, 1, 1] - cross) / 2
        return newton_step(dx, dy, dxx + EPSILON, dxy, dyy + EPSILON)


def newton_step(dx: Tensor, dy: Tensor, dxx: Tensor, dxy: Tensor, dyy: Tensor) -> tuple[Tensor, Tensor]:
    """The step (x, y) to the extremum of a quadratic with that gradient and Hessian; not finite where there is none."""
    determinant = dxx * dyy - dxy * dxy
    return (dxy * dy - dyy * dx) / determinant, (dxy * dx - dxx * dy) / determinant
