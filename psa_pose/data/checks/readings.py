"""How a box or a point may be meant that is written in another form than x, y, width, height in pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# A box with its border: annotators and detectors cut close, and joints at the rim are guessed.
MARGIN_SHARE, MARGIN_PIXELS = 0.1, 1.0
# A person's keypoints lie in a box where so much of those labelled do.
ENOUGH = 0.75

Reading = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _centred(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


def _times(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return boxes * np.tile(sizes, 2)


# Boxes (N, 4) as written, sizes (N, 2) of their images -> boxes as x, y, width, height in pixels.
BOX_READINGS: dict[str, Reading] = {
    "corners x1, y1, x2, y2": lambda boxes, sizes: _corners(boxes),
    "a centre, width and height": lambda boxes, sizes: _centred(boxes),
    "y, x, height, width": lambda boxes, sizes: boxes[:, [1, 0, 3, 2]],
    "corners y1, x1, y2, x2": lambda boxes, sizes: _corners(boxes)[:, [1, 0, 3, 2]],
    "fractions of the image": _times,
    "fractions of the image, corners x1, y1, x2, y2": lambda boxes, sizes: _times(_corners(boxes), sizes),
    "fractions of the image, a centre, width and height": lambda boxes, sizes: _times(_centred(boxes), sizes),
    "percent of the image": lambda boxes, sizes: _times(boxes, sizes / 100),
}


def in_boxes(boxes: np.ndarray, joints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(N,) bool: most of a person's labelled keypoints lie in its box, a margin added.

    boxes (N, 4). joints (N, K, 2). visible (N, K) bool.
    """
    return count_in(boxes, joints, visible, MARGIN_SHARE, MARGIN_PIXELS) >= ENOUGH * visible.sum(1)


def count_in(boxes: np.ndarray, joints: np.ndarray, visible: np.ndarray, share: float, pixels: float) -> np.ndarray:
    """(N,): how many labelled keypoints lie in the box; share of its longer side and pixels: margin."""
    margin = share * np.maximum(boxes[:, 2:].max(1), 0) + pixels
    low, high = boxes[:, :2] - margin[:, None], boxes[:, :2] + boxes[:, 2:] + margin[:, None]
    # Coordinate by coordinate: no (N, K, 2) temporaries in double precision.
    inside = visible.copy()
    for axis in (0, 1):
        values = joints[..., axis]
        inside &= (values >= low[:, axis, None]) & (values <= high[:, axis, None])
    return inside.sum(1)


def on_images(boxes: np.ndarray, sizes: np.ndarray, share: float = 0.02, pixels: float = 2.0) -> np.ndarray:
    """(N,) bool: the box has an area and lies on its image, a margin added; where the size is 0 it is not known."""
    margin = share * sizes + pixels
    inside = (boxes[:, :2] >= -margin).all(1) & (boxes[:, :2] + boxes[:, 2:] <= sizes + margin).all(1)
    return (boxes[:, 2:] > 0).all(1) & (inside | (sizes == 0).any(1))


def extents(joints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Boxes (N, 4) around the labelled keypoints; NaN where there is none."""
    # Coordinate by coordinate, keypoints first: a minimum over the first axis is one of whole rows.
    values, shown = joints.transpose(2, 1, 0), visible.T
    low = np.stack([np.where(shown, axis, np.inf).min(0) for axis in values], axis=1).astype(float)
    high = np.stack([np.where(shown, axis, -np.inf).max(0) for axis in values], axis=1).astype(float)
    boxes = np.concatenate([low, high - low], axis=1)
    return np.where(visible.any(1, keepdims=True), boxes, np.nan)


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,): intersection over union of boxes (N, 4) and others (N, 4), row by row; 0 where one has no area."""
    low = np.maximum(boxes[:, :2], others[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    shared = np.maximum(high - low, 0).prod(1)
    areas = np.maximum(boxes[:, 2:], 0).prod(1) + np.maximum(others[:, 2:], 0).prod(1) - shared
    return np.divide(shared, areas, out=np.zeros(len(boxes)), where=areas > 0)


def point_readings(
    joints: np.ndarray, visible: np.ndarray, boxes: np.ndarray, sizes: np.ndarray
) -> dict[str, np.ndarray]:
    """Keypoints (N, K, 2) in other readings, of which some are fitted to the boxes: a common scale, a common shift."""
    around = extents(joints, visible)
    centre, wanted = around[:, :2] + around[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    known = np.isfinite(centre - wanted).all(1)
    centre, wanted = centre[known], wanted[known]
    far = np.abs(wanted) > 1
    scale = np.median(centre[far] / wanted[far]) if far.any() else np.nan
    shift = np.median(centre - wanted, axis=0) if known.any() else np.full(2, np.nan)
    answer = {
        "y, x": joints[..., ::-1],
        "fractions of the image": joints * sizes[:, None],
        "percent of the image": joints * sizes[:, None] / 100,
        "fractions of the box": boxes[:, None, :2] + joints * boxes[:, None, 2:],
        "pixels of the box": boxes[:, None, :2] + joints,
    }
    if np.isfinite(scale) and scale > 0:
        answer[f"{scale:.2g} times as large as the boxes' pixels"] = joints / scale
    if np.isfinite(shift).all():
        answer[f"pixels moved by {shift[0]:.0f}, {shift[1]:.0f}"] = joints - shift
    return answer
