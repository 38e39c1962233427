"""Boxes and scores that a caller hands over, checked; wrong ones are refused by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from psa_pose.errors import DataError


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
