"""Boxes, crops and the affine matrices between them: the one definition of the pixel convention.

Pixels. x points right, y points down, and x = 0 is the centre of the leftmost pixel column: OpenCV's `warpAffine` has
it so, and the pose literature reads COCO keypoints so. Sizes are (width, height). Every coordinate and every region is
in pixels; nothing is divided by 200.

Grid. What a size spans is the whole difference between the two published families (`span`):

- "classic" (SimpleBaseline, HRNet, DARK): n pixels span n. The centre of a crop is W / 2, and a heatmap of a quarter of
  the crop's size lies at crop / 4.
- "unbiased" (UDP, Huang et al., CVPR 2020, arXiv 1911.07524): n pixels span the n - 1 intervals between their centres.
  The centre of a crop is (W - 1) / 2, so a mirrored crop is aligned with itself.

In both, image to crop is: subtract the region's centre, turn, scale by span(output) / region, add span(output) / 2. The
published classic code applies the width's scale to both axes, which is the same wherever the region has the crop's
aspect ratio. The way back is the inverted matrix, never a second formula.

Rotation. Degrees; a positive angle turns the crop window clockwise as seen on the screen (from x towards y), so the
picture inside the crop turns counter-clockwise. This is the direction of the classic code (`get_affine_transform`); the
published UDP code (`get_warpmatrix`) turns the other way, which training on symmetric random angles cannot tell apart.

Mirror. `crop_matrix(..., mirror=True)` is the same crop followed by a flip: x -> span(W) - x, that is W - x on the
classic grid and W - 1 - x on the unbiased one. Published training mirrors the whole image (x -> image width - 1 - x,
centre likewise) and then crops: the same matrix, with the opposite sign of the rotation. A flip test mirrors the
finished crop (x -> W - 1 - x on both grids); the codecs' `flip_back` undoes that one.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from psa_pose.errors import DataError

Grid = Literal["classic", "unbiased"]


def span(n: ArrayLike, grid: Grid) -> np.ndarray:
    """What n pixels span on a grid: n on "classic", n - 1 on "unbiased". Any shape, float64 pixels."""
    if grid not in ("classic", "unbiased"):
        raise DataError(f"grid {grid!r} is not known; use 'classic' or 'unbiased'")
    return np.asarray(n, dtype=np.float64) - (grid == "unbiased")


def box_to_region(box_xywh: ArrayLike, aspect: float, padding: float = 1.25) -> tuple[np.ndarray, np.ndarray]:
    """The region to crop around a box: one side grown to the crop's aspect ratio, then both multiplied by `padding`.

    box_xywh: (..., 4) left, top, width, height in image pixels. aspect: crop width / crop height.
    Returns center (..., 2) and region (..., 2) (width, height), float64 image pixels.
    Raises DataError on a non-finite box, a negative side, or a box without any extent.
    Source: `_xywh2cs` of SimpleBaseline and HRNet, in pixels.
    """
    box = np.asarray(box_xywh, dtype=np.float64)
    size = box[..., 2:]
    good = np.isfinite(box).all(-1) & (size >= 0).all(-1) & (size > 0).any(-1)
    if not good.all():
        raise DataError(
            f"box {box[~good].tolist()[0]} (x, y, w, h) cannot be cropped; give finite numbers and a size above 0"
        )
    width = np.maximum(size[..., 0], size[..., 1] * aspect)
    return box[..., :2] + size / 2, np.stack([width, width / aspect], axis=-1) * padding


def crop_matrix(
    center: ArrayLike,
    region: ArrayLike,
    rotation: ArrayLike,
    output_size: tuple[int, int],
    grid: Grid = "classic",
    mirror: ArrayLike = False,
) -> np.ndarray:
    """The affine matrix from image pixels to crop pixels.

    center, region: (2,) or (N, 2), image pixels, (x, y) and (width, height).
    rotation: degrees, a number or (N,), direction as in the module's text.
    output_size: (width, height) of the crop in pixels.
    mirror: flip the crop left to right, x -> span(width) - x; a bool or (N,).
    Returns (2, 3) or (N, 2, 3) float64. Raises DataError on a non-finite number or a region that is not positive.
    Sources: `get_affine_transform` (classic), `get_warpmatrix` (unbiased, rotation reversed).
    """
    center, region = np.asarray(center, dtype=np.float64), np.asarray(region, dtype=np.float64)
    rotation = np.asarray(rotation, dtype=np.float64)
    if not (np.isfinite(rotation).all() and ((region > 0) & np.isfinite(region) & np.isfinite(center)).all()):
        raise DataError(
            f"no crop for center {center.tolist()}, region {region.tolist()}, rotation {rotation.tolist()}; "
            "give finite numbers and a region above 0"
        )
    angle = np.deg2rad(rotation)
    extent = span(output_size, grid)
    scale = extent / region
    cos, sin = np.cos(angle), np.sin(angle)
    # Filled in place: a training sample has no time for more arrays.
    matrix = np.empty((*scale.shape[:-1], 2, 3))
    matrix[..., 0, 0], matrix[..., 0, 1] = scale[..., 0] * cos, scale[..., 0] * sin
    matrix[..., 1, 0], matrix[..., 1, 1] = -scale[..., 1] * sin, scale[..., 1] * cos
    matrix[..., 2] = extent / 2 - matrix[..., 0] * center[..., :1] - matrix[..., 1] * center[..., 1:]
    flip = np.asarray(mirror)[..., None]
    matrix[..., 0, :] = np.where(flip, [0, 0, extent[0]] - matrix[..., 0, :], matrix[..., 0, :])
    return matrix


def invert(matrix: ArrayLike) -> np.ndarray:
    """The inverse of an affine map: (..., 2, 3) to (..., 2, 3) float64. Raises DataError where there is none."""
    matrix = np.asarray(matrix, dtype=np.float64)
    try:
        linear = np.linalg.inv(matrix[..., :2])
    except np.linalg.LinAlgError:
        raise DataError(f"matrix {matrix.tolist()} has no inverse; its region or output size has no extent") from None
    return np.concatenate([linear, -linear @ matrix[..., 2:]], axis=-1)


def transform_points(points: ArrayLike, matrix: ArrayLike) -> np.ndarray:
    """Points through an affine map: (..., 2) through (2, 3), or (N, K, 2) through (N, 2, 3), one per row. Float64."""
    points, matrix = np.asarray(points, dtype=np.float64), np.asarray(matrix, dtype=np.float64)
    shift = matrix[..., 2] if matrix.ndim == 2 else matrix[..., None, :, 2]
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + shift


def warp(
    image: np.ndarray, matrix: np.ndarray, output_size: tuple[int, int], out: np.ndarray | None = None
) -> np.ndarray:
    """Cut a crop out of an image with bilinear interpolation; outside the image is black.

    image: (H, W) or (H, W, C) uint8. matrix: (2, 3), image to crop pixels. output_size: (width, height) of the crop.
    out: a contiguous uint8 array of the crop's shape to write into; large fresh buffers cost page faults.
    Returns the crop, (height, width) or (height, width, C) uint8 (`out`, where given).
    Raises DataError on another dtype or an unfit `out`.
    """
    shape = (output_size[1], output_size[0], *image.shape[2:])
    if image.dtype != np.uint8 or image.size == 0:
        raise DataError(
            f"cannot crop an image of shape {image.shape} and type {image.dtype}; give non-empty uint8 pixels"
        )
    if out is not None and (out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous):
        raise DataError(f"the crop needs a contiguous uint8 array of shape {shape}, not {out.dtype} {out.shape}")
    crop = cv2.warpAffine(image, matrix, output_size, dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return crop if out is None else out


def pairwise_iou(boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of every two of boxes (N, 4) x, y, width, height -> (N, N), 0 for two without area."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    shared = np.maximum(sides, 0).prod(-1)
    areas = boxes[:, 2:].prod(1)
    return shared / np.maximum(areas[:, None] + areas[None] - shared, 1e-9)
