"""Joint augmentation of image and label: scale, crop, mirror and colour, drawn from a generator of the sample's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from psa_pose.segmentation.classes import IGNORE

# RGB weights of the grey that saturation and contrast turn about (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])
YIQ = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
RGB_OF_YIQ = np.linalg.inv(YIQ)


@dataclass(frozen=True)
class SegmentationAugmentation:
    """Strengths, as fractions and probabilities.

    scale: smallest and largest factor. scale_step: 0 draws it uniformly, else the smallest plus a multiple of this.
    flip_prob: of a mirror. color: largest change of brightness, contrast, saturation, and of hue in turns.
    class_uniform_prob: of a crop about a class drawn uniformly, instead of any crop of the sample's own picture.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    scale_step: float = 0.0
    flip_prob: float = 0.5
    color: float = 0.0
    class_uniform_prob: float = 0.0


class CropView(NamedTuple):
    """The rectangle of an image that a crop shows, in image pixels; it may reach beyond the image. mirror: or not."""

    x: int
    y: int
    width: int
    height: int
    mirror: bool = False


def draw_view(
    image_size: tuple[int, int],
    crop_size: tuple[int, int],
    options: SegmentationAugmentation,
    generator: np.random.Generator,
    focus: tuple[int, int] | None = None,
) -> CropView:
    """A random scale and place; sizes (width, height), pixels. focus: a pixel (x, y) that the crop must show.

    A crop larger than the image shows all of it, anywhere. The corners are whole pixels: a crop is the resizing of a
    rectangle, and the scale is that to half a pixel in the rectangle's size.
    """
    draws = generator.random(4)
    low, high = options.scale
    if options.scale_step:
        steps = int((high - low) / options.scale_step + 1e-6) + 1
        scale = low + options.scale_step * int(draws[0] * steps)
    else:
        scale = low + (high - low) * draws[0]
    spans = []
    for axis in range(2):
        side = max(1, round(crop_size[axis] / scale))
        slack = image_size[axis] - side
        first, last = min(0, slack), max(0, slack)
        if focus is not None:
            first, last = max(first, focus[axis] - side + 1), min(last, focus[axis])
        spans.append((first + int(draws[1 + axis] * (last - first + 1)), side))
    (x, width), (y, height) = spans
    return CropView(x, y, width, height, bool(draws[3] < options.flip_prob))


def cut(source: np.ndarray, view: CropView, out: np.ndarray, padding: int | np.ndarray) -> None:
    """Write the view of an image (H, W, 3), bilinear, or of a label (H, W), nearest, into `out`; both uint8.

    padding: what is beyond the image. Only the rectangle is resized, not the image; image and label stay aligned to the
    pixel's centre.
    """
    height, width = out.shape[:2]
    x0, y0 = max(view.x, 0), max(view.y, 0)
    x1, y1 = min(view.x + view.width, source.shape[1]), min(view.y + view.height, source.shape[0])
    # Where the image's part of the rectangle lies in the crop.
    left, right = (round((x - view.x) * width / view.width) for x in (x0, x1))
    top, bottom = (round((y - view.y) * height / view.height) for y in (y0, y1))
    method = cv2.INTER_LINEAR if source.ndim == 3 else cv2.INTER_NEAREST_EXACT
    if right > left and bottom > top:
        part = out[top:bottom, left:right]
        cv2.resize(source[y0:y1, x0:x1], part.shape[1::-1], dst=part, interpolation=method)
    else:
        top = bottom = height
    # By rows: NumPy writes three bytes at a time where it is given one pixel.
    row = np.full_like(out[:1], padding)
    out[:top] = out[bottom:] = row
    out[top:bottom, :left], out[top:bottom, right:] = row[:, :left], row[:, right:]
    if view.mirror:
        cv2.flip(out, 1, dst=out)


def jitter_color(
    image: np.ndarray, strength: float, generator: np.random.Generator, channel_order: str = "rgb"
) -> None:
    """Change brightness, contrast, saturation and hue of an image (H, W, 3) uint8 in place, in one 3x4 matrix.

    Each factor is uniform in 1 - strength to 1 + strength; contrast is about the image's mean grey; hue turns by up to
    `strength` of the circle, at equal brightness.
    """
    bright, contrast, saturation, hue = generator.uniform(-strength, strength, 4)
    matrix = (1 + bright) * _turn_hue(2 * np.pi * hue)
    matrix = (1 + saturation) * matrix - saturation * np.ones((3, 1)) * GREY @ matrix
    matrix *= 1 + contrast
    grey = GREY
    if channel_order == "bgr":
        matrix, grey = matrix[::-1, ::-1], grey[::-1]
    mean = (1 + bright) * float(grey @ cv2.mean(image)[:3])
    cv2.transform(image, np.column_stack([matrix, np.full(3, -contrast * mean)]), dst=image)


def _turn_hue(angle: float) -> np.ndarray:
    """(3, 3) rotation of the two chroma axes of YIQ by an angle in radians."""
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return RGB_OF_YIQ @ turn @ YIQ


PAD_LABEL = {"ignore": IGNORE, "background": 0}
"""What a label is beyond its image: "background" is the published choice of VainF, which teaches class 0 there."""
