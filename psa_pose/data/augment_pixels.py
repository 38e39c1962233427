"""Augmentation of a crop's pixels: colour, blur, patches over the body, JPEG noise. Joints stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# RGB weights of grey (ITU-R BT.601), towards which saturation and contrast go.
GREY = (0.299, 0.587, 0.114)
# Greatest side of the square that a blurred pixel is the mean of, as a share of the crop's height.
BLUR = 0.03
# Least and greatest quality of the JPEG that a crop goes through.
QUALITY = (20, 80)
# Greatest number of patches, and least and greatest side of one, as a share of the crop's own.
PATCHES, SIDE = 3, (0.1, 0.3)


@dataclass(frozen=True)
class PixelAugmentation:
    """Strengths as in the AUGMENT keys of the config.

    color: greatest change of brightness, contrast and saturation, as a fraction. blur_prob, jpeg_prob, dropout_prob:
    of a blurred crop, of one that went through a JPEG, and of one with patches.
    """

    color: float = 0.0
    blur_prob: float = 0.0
    jpeg_prob: float = 0.0
    dropout_prob: float = 0.0

    def __bool__(self) -> bool:
        """Whether it does anything."""
        return any((self.color, self.blur_prob, self.jpeg_prob, self.dropout_prob))


def augment_pixels(
    crop: np.ndarray,
    joints: np.ndarray,
    visible: np.ndarray,
    options: PixelAugmentation,
    channel_order: str,
    generator: np.random.Generator,
) -> None:
    """Change a crop (H, W, 3) uint8 in place.

    joints (K, 2): crop pixels; patches lie over those that are `visible` (K,).
    The random numbers are drawn in the same order and number, so that one option does not move the others.
    """
    *factors, blur, side, jpeg, quality, dropout, patches = generator.random(9).tolist()
    if options.color:
        brightness, contrast, saturation = (1 + options.color * (2 * factor - 1) for factor in factors)
        grey = GREY if channel_order == "rgb" else GREY[::-1]
        mean = sum(w * m for w, m in zip(grey, cv2.mean(crop)[:3], strict=True))
        cv2.transform(crop, color_matrix(mean, grey, brightness, contrast, saturation), dst=crop)
    if blur < options.blur_prob:
        # An odd side, 3 or more: an even one would move the picture by half a pixel.
        pixels = 3 + 2 * round(side * max(BLUR * crop.shape[0] - 3, 0) / 2)
        cv2.blur(crop, (pixels, pixels), dst=crop)
    if dropout < options.dropout_prob:
        _cover(crop, joints[visible > 0], 1 + int(patches * PATCHES), generator)
    if jpeg < options.jpeg_prob:
        _through_jpeg(crop, int(QUALITY[0] + (QUALITY[1] - QUALITY[0]) * quality), channel_order)


def color_matrix(
    mean: float, grey: Sequence[float], brightness: float, contrast: float, saturation: float
) -> np.ndarray:
    """The affine map (3, 4) of a pixel: towards its grey, then towards the crop's `mean` grey, then towards black.

    A factor of 1 changes nothing. grey: weights of the channels.
    """
    across = [(1 - saturation) * weight for weight in grey]
    rows = [[contrast * (w + saturation * (i == j)) for j, w in enumerate(across)] for i in range(3)]
    return brightness * np.array([[*row, (1 - contrast) * mean] for row in rows])


def _cover(crop: np.ndarray, joints: np.ndarray, count: int, generator: np.random.Generator) -> None:
    """`count` rectangles of one colour each, every one about a joint (n, 2) of the crop drawn at random."""
    if not len(joints):
        return
    height, width = crop.shape[:2]
    for which, wide, high, left, above, *color in generator.random((count, 8)).tolist():
        x, y = joints[int(which * len(joints))].tolist()
        w, h = ((SIDE[0] + (SIDE[1] - SIDE[0]) * share) * size for share, size in ((wide, width), (high, height)))
        # The joint lies anywhere in the patch.
        corner = round(x - left * w), round(y - above * h)
        opposite = round(x - left * w + w) - 1, round(y - above * h + h) - 1
        cv2.rectangle(crop, corner, opposite, [int(256 * c) for c in color], cv2.FILLED)


def _through_jpeg(crop: np.ndarray, quality: int, channel_order: str) -> None:
    rgb = channel_order == "rgb"
    encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR) if rgb else crop, [cv2.IMWRITE_JPEG_QUALITY, quality]
    )[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB if rgb else cv2.IMREAD_COLOR)
    assert decoded is not None
    crop[:] = decoded
