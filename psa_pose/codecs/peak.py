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
    if rows.device.type == "cpu" and rows.dtype == torch.float32 and not _exporting():
        return torch.from_numpy(rows.numpy().argmax(axis=1))
    return rows.argmax(dim=1)


def _exporting() -> bool:
    """Whether a graph is recorded, which knows neither NumPy nor overlapping views."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def take(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values of (N, h, w) maps at in-range integer positions: x and y broadcast to (N, ...), as the float32 answer."""
    flat = y * maps.shape[-1] + x
    rows = flat.reshape(flat.shape[0], math.prod(flat.shape[1:]))
    return maps.flatten(1).gather(1, rows).view(flat.shape).float()


def gaussian_kernel(size: int) -> list[float]:
    """The 1-D kernel of OpenCV's `GaussianBlur(..., (size, size), 0)`, as the published decoders use it; sum 1."""
    return cv2.getGaussianKernel(size, 0).ravel().tolist()


def blurred_window(maps: Tensor, x: Tensor, y: Tensor, radius: int, kernel: list[float]) -> Tensor:
    """What (N, h, w) maps blurred along both axes with `kernel`, zeros outside, hold around heatmap pixels (x, y) (N,).

    Returns (N, 2 radius + 1, 2 radius + 1) float32. Only the pixels that reach the window are read and blurred. Sums of
    shifted copies instead of a matrix product: they stay float32 under autocast and TF32, and are fast.
    """
    height, width = maps.shape[1:]
    reach = radius + len(kernel) // 2
    step = torch.arange(-reach, reach + 1, device=maps.device)
    xs, ys = x[:, None] + step, y[:, None] + step
    # Rows outside the map are read from its border and cleared; the columns are moved into the map, and put back once
    # the first axis is blurred and few values are left.
    many = min(len(step), width)
    first = (x - reach).clamp(0, width - many)
    rows = _runs(maps, ys.clamp(0, height - 1) * width + first[:, None], many)
    rows = _blur(rows * _inside(ys, height)[..., None], kernel, 1)
    column = (xs - first[:, None]).clamp_(0, many - 1)[:, None].expand(-1, rows.shape[1], -1)
    values = rows.gather(2, column) * _inside(xs, width)[:, None]
    # Maps last for the second axis: the sums then run along them, not along a few pixels.
    return _blur(values.permute(2, 1, 0).contiguous(), kernel, 0).permute(2, 1, 0)


def _runs(maps: Tensor, starts: Tensor, length: int) -> Tensor:
    """`length` neighbouring values of (N, h, w) maps from each of the indices `starts` (N, m) on, as float32."""
    (number, many), pixels = starts.shape, maps.shape[1] * maps.shape[2]
    if _exporting() or number == 0:
        index = starts[..., None] + torch.arange(length, device=maps.device)
        return maps.flatten(1).gather(1, index.flatten(1)).view(number, many, length).float()
    # A view of all runs, one for every start, of which each is copied at once.
    runs = maps.reshape(-1).unfold(0, length, 1)
    starts = starts + torch.arange(0, number * pixels, pixels, device=maps.device)[:, None]
    return runs.index_select(0, starts.flatten()).view(number, many, length).float()


def _inside(position: Tensor, size: int) -> Tensor:
    return ((position >= 0) & (position < size)).float()


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
