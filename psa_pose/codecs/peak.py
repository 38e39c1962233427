"""Finding the maximum of every map, and blurring only what lies around it."""

from __future__ import annotations

import math

import cv2
import torch
from torch import Tensor

from psa_pose.errors import ConfigError


def find_peaks(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maxima of (N, h, w) maps: x, y int64 (N,) heatmap pixels and score (N,) float32; the first of equal maxima.

    Where the maximum is not finite (NaN counts as one) or not above 0 there is no peak: x and y are 0 and the score is
    the maximum, or 0 for one that is not finite.
    """
    rows = maps.flatten(1)
    index = _argmax(rows)
    value = rows.gather(1, index[:, None])[:, 0].float()
    score = torch.where(value.isfinite(), value, 0.0)
    index = torch.where(score > 0, index, 0)
    width = maps.shape[-1]
    return index % width, torch.div(index, width, rounding_mode="floor"), score


def _argmax(rows: Tensor) -> Tensor:
    """Index of the first maximum of each row (N, n). NumPy's loop is several times faster than torch's on a CPU."""
    exporting = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if rows.device.type == "cpu" and rows.dtype == torch.float32 and not exporting:
        return torch.from_numpy(rows.numpy().argmax(axis=1))
    return rows.argmax(dim=1)


def take(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values of (N, h, w) maps at in-range integer positions: x and y broadcast to (N, ...), as the float32 answer."""
    flat = y * maps.shape[-1] + x
    rows = flat.reshape(flat.shape[0], math.prod(flat.shape[1:]))
    return maps.flatten(1).gather(1, rows).view(flat.shape).float()


def window(maps: Tensor, x: Tensor, y: Tensor, radius: int) -> Tensor:
    """The (N, 2 radius + 1, 2 radius + 1) float32 values around (x, y) of (N, h, w) maps, 0 outside the map."""
    height, width = maps.shape[1:]
    step = torch.arange(-radius, radius + 1, device=maps.device)
    # Beyond the left or right border an index is of the row before or after, beyond the top or bottom it is clamped:
    # what stands there is multiplied by 0.
    index = (y * width + x)[:, None] + (step[:, None] * width + step).flatten()
    values = maps.flatten(1).gather(1, index.clamp_(0, height * width - 1)).float()
    xs, ys = x[:, None] + step, y[:, None] + step
    inside_x, inside_y = ((xs >= 0) & (xs < width)).float(), ((ys >= 0) & (ys < height)).float()
    side = 2 * radius + 1
    return values.view(-1, side, side).mul_(inside_y[:, :, None]).mul_(inside_x[:, None, :])


def gaussian_kernel(size: int) -> list[float]:
    """The 1-D kernel of OpenCV's `GaussianBlur(..., (size, size), 0)`, as the published decoders use it; sum 1."""
    return cv2.getGaussianKernel(size, 0).ravel().tolist()


def blurred_window(maps: Tensor, x: Tensor, y: Tensor, radius: int, kernel: list[float]) -> Tensor:
    """What `window` would give if the whole maps were blurred along both axes, zeros outside, with `kernel`.

    Sums of shifted copies instead of a matrix product: they stay float32 under autocast and TF32, and are fast.
    """
    values = window(maps, x, y, radius + len(kernel) // 2)
    # Maps last for the second axis: the sums then run along them, not along a few pixels.
    return _blur(_blur(values, kernel, 1).permute(2, 1, 0).contiguous(), kernel, 0).permute(2, 1, 0)


def _blur(values: Tensor, kernel: list[float], dim: int) -> Tensor:
    """Convolution along one dimension, without the ends where the kernel would reach outside."""
    length = values.shape[dim] - len(kernel) + 1
    total = values.narrow(dim, 0, length) * kernel[0]
    for tap, weight in enumerate(kernel[1:], start=1):
        total.add_(values.narrow(dim, tap, length), alpha=weight)
    return total


def check_blur(name: str, blur: int) -> int:
    """`blur` if a blur kernel can have that side: odd, and 3 or more."""
    if blur != int(blur) or blur < 3 or blur % 2 == 0:
        raise ConfigError(f"codec {name}: blur {blur} is not possible; give an odd number of heatmap pixels from 3 on")
    return int(blur)
