"""How a network is asked about a picture: crop, full, flip, ms+flip with sliding windows. hmsa is full: HMSA's network
joins its scales itself.

A network is any function of normalised images (B, 3, H, W) to logits (B, C, H, W) at the images' size. Sizes are
(width, height) in pixels. What a protocol adds up is named by `join`, because the references differ:
"probabilities": softmax of each scale and window; "logits"; "exp": the exponential of the logits, as in HRNet's code.
A mirrored image is averaged with its original in logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from psa_pose.errors import ConfigError, closest

Network = Callable[[Tensor], Tensor]

PROTOCOL_WORDS = {
    "crop": "crop",
    "full": "full",
    "flip": "full + flip",
    "ms_flip": "ms + flip",
    "hmsa": "hmsa",
}
"""What a protocol is called in tables."""

JOINS: dict[str, Callable[[Tensor], Tensor]] = {
    "probabilities": lambda logits: logits.softmax(1),
    "logits": lambda logits: logits,
    "exp": torch.exp,
}


def crop_for_validation(image: np.ndarray, label: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Protocol crop, VainF's validation: image (H, W, 3) and label (H, W), uint8 -> both (size, size).

    The short side becomes `size` (Pillow's bilinear filter; the label by nearest), the long one is cut at its centre;
    what lies beyond is never scored.
    """
    height, width = label.shape
    short = min(height, width)
    resized = (int(size * width / short), int(size * height / short))
    left, top = (round((side - size) / 2) for side in resized)
    box = (left, top, left + size, top + size)
    methods = (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    pictures = (
        Image.fromarray(values).resize(resized, method) for values, method in zip((image, label), methods, strict=True)
    )
    cropped_image, cropped_label = (np.asarray(picture.crop(box)) for picture in pictures)
    return cropped_image, cropped_label


def padded(network: Network, divisor: int) -> Network:
    """The network on images whose sides are padded with 0, the mean colour, to multiples of `divisor`.

    The padding lies right and below, and its logits are cut off. 1 pads nothing: the network itself.
    """
    if divisor == 1:
        return network

    def run(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % divisor, 0, -height % divisor))
        return network(images)[:, :, :height, :width]

    return run


def flipped(network: Network) -> Network:
    """The network's logits averaged with those of the mirrored image, mirrored back."""

    def run(images: Tensor) -> Tensor:
        return 0.5 * (network(images) + network(images.flip(3)).flip(3))

    return run


def window_starts(length: int, window: int, step: int) -> list[int]:
    """Where windows begin on a side of `length` pixels: every `step`, the last flush with the end."""
    last = max(length - window, 0)
    return sorted({*range(0, last, step), last})


def sliding_scores(
    network: Network, images: Tensor, window: tuple[int, int], step: tuple[int, int], join: str = "probabilities"
) -> Tensor:
    """Scores (B, C, H, W) of images seen through windows, averaged where these overlap."""
    height, width = images.shape[2:]
    total, times = None, images.new_zeros((1, 1, height, width))
    for y in window_starts(height, window[1], step[1]):
        for x in window_starts(width, window[0], step[0]):
            part = (..., slice(y, y + window[1]), slice(x, x + window[0]))
            scores = _joined(network(images[part]), join)
            if total is None:
                total = scores.new_zeros((*scores.shape[:2], height, width))
            total[part] += scores
            times[part] += 1
    assert total is not None
    return total / times


def multi_scale_scores(
    network: Network,
    images: Tensor,
    scales: Sequence[float] = (1.0,),
    base_size: int | None = None,
    window: tuple[int, int] | None = None,
    step: tuple[int, int] | None = None,
    join: str = "probabilities",
    align_corners: bool = False,
) -> Tensor:
    """The sum over scales of the scores (B, C, H, W) of resized images, each resized back to the images' size.

    A scale makes the long side `base_size` (the images' own by default) times it. Images are resized bilinearly about
    pixel centres, scores with the network's `align_corners`. Above scale 1 the images are seen through windows, where
    these are given, with windows side by side unless `step` is given too; up to scale 1 whole.
    """
    height, width = images.shape[2:]
    total = None
    for scale in scales:
        size = _scaled(width, height, scale, base_size)
        resized = images
        if size != (width, height):
            resized = F.interpolate(images, size[::-1], mode="bilinear", align_corners=False)
        if window is not None and scale > 1:
            scores = sliding_scores(network, resized, window, step or window, join)
        else:
            scores = _joined(network(resized), join)
        if size != (width, height):
            scores = F.interpolate(scores, (height, width), mode="bilinear", align_corners=align_corners)
        total = scores if total is None else total + scores
    if total is None:
        raise ConfigError("a protocol needs at least one scale; write [1.0] for the images' own size")
    return total


def _scaled(width: int, height: int, scale: float, base_size: int | None) -> tuple[int, int]:
    """(width, height) with the long side at base_size times scale, in HRNet's rounding."""
    long, short = max(width, height), min(width, height)
    new_long = int((base_size or long) * scale + 0.5)
    new_short = int(short * new_long / long + 0.5)
    size = (new_long, new_short) if width >= height else (new_short, new_long)
    return max(1, size[0]), max(1, size[1])


def _joined(logits: Tensor, join: str) -> Tensor:
    if join not in JOINS:
        raise ConfigError(f"{join!r} is no way to join predictions; {closest(join, JOINS)}")
    return JOINS[join](logits if logits.dtype == torch.float64 else logits.float())
