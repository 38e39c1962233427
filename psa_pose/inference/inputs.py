"""What a caller hands over, checked: pictures, boxes, scores. Wrong ones are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from psa_pose.errors import DataError
from psa_pose.media.headers import upright
from psa_pose.media.pictures import read_image

# cv2.warpAffine holds positions in 16 bits.
_GREATEST_SIDE = 32_766

# EXIF's tag of the orientation.
_ORIENTATION = 0x0112


def as_pixels(image: Any) -> np.ndarray:
    """A path, a PIL image or an array of grey, RGB or RGBA uint8 pixels -> (H, W, 3) uint8 RGB. Raises DataError.

    A file or a PIL image whose EXIF says that the camera was turned is turned upright.
    """
    if isinstance(image, str | Path):
        pixels = read_image(Path(image), exif="apply")
    elif hasattr(image, "getbands") and hasattr(image, "convert"):
        if image.mode[0] in "IF":
            raise DataError(f"a PIL image of mode {image.mode} has no 8-bit pixels; convert it to 'L' or 'RGB'")
        pixels = upright(np.asarray(image.convert("RGB")), image.getexif().get(_ORIENTATION, 1))
    else:
        pixels = _from_array(image)
    if max(pixels.shape[:2]) > _GREATEST_SIDE:
        raise DataError(
            f"an image of {pixels.shape[1]} x {pixels.shape[0]} pixels is too large; "
            f"cut or scale it to at most {_GREATEST_SIDE} a side"
        )
    return np.ascontiguousarray(pixels)


def _from_array(image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image cannot be a {type(image).__name__}; give a path, a PIL image or a NumPy array")
    pixels = image[..., None] if image.ndim == 2 else image
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.size == 0:
        raise DataError(
            f"an image array of shape {image.shape} and type {image.dtype} is not a picture; "
            "give non-empty uint8 pixels (H, W, 3) RGB, (H, W, 4) RGBA or (H, W) grey"
        )
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def check_boxes(boxes: ArrayLike | None, width: int, height: int) -> np.ndarray:
    """Boxes for a picture of width x height as (N, 4) float64; None: the whole of it. Raises DataError."""
    if boxes is None:
        return np.array([[0, 0, width, height]], float)
    try:
        array = np.array(boxes, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError("boxes must be numbers of shape (N, 4): x, y, width, height; give a list of such rows")
    wrong = ~(np.isfinite(array).all(1) & (array[:, 2:] > 0).all(1))
    if wrong.any():
        raise DataError(
            f"box {array[wrong][0].tolist()} (x, y, width, height) has no area; give finite numbers and sides above 0"
        )
    left, top, right, bottom = array[:, 0], array[:, 1], array[:, 0] + array[:, 2], array[:, 1] + array[:, 3]
    outside = (left >= width) | (top >= height) | (right <= 0) | (bottom <= 0) | (np.abs(array) > 1e6).any(1)
    if outside.any():
        raise DataError(
            f"box {array[outside][0].tolist()} (x, y, width, height) is not on the image of {width} x {height} pixels; "
            "give it in pixels of this image"
        )
    return array


def check_scores(scores: ArrayLike | None, number: int) -> list[float]:
    """One finite score per box, 1 where none are given. Raises DataError."""
    array = np.ones(number) if scores is None else np.asarray(scores, dtype=np.float64)
    if array.shape != (number,) or not np.isfinite(array).all():
        raise DataError(f"box scores of shape {array.shape} for {number} boxes; give one finite number per box")
    return array.tolist()
