"""Skeletons and heatmaps on pictures, and pictures in a grid. Pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from psa_pose.errors import DataError
from psa_pose.skeleton import Skeleton

LEFT, RIGHT, MIDDLE = (255, 140, 0), (0, 140, 255), (60, 220, 90)
# cv2 takes coordinates as integers in 1/16 pixel.
SHIFT = 4


def draw_skeleton(image: np.ndarray, joints: np.ndarray, shown: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """A copy of the picture with the limbs and joints of one person.

    joints (K, 2), pixels of the picture; shown (K,) booleans. The person's left is orange, the right blue, the rest
    green; lines are as thick as the person's size asks for.
    """
    image = image.copy()
    shown = np.asarray(shown, bool) & np.isfinite(joints).all(-1)
    if not shown.any():
        return image
    extent = np.ptp(joints[shown], axis=0).max()
    thickness = int(np.clip(extent / 60, 1, 6))
    fixed = np.clip(np.nan_to_num(joints), -1e4, 1e4) * 2**SHIFT
    points = [(int(x), int(y)) for x, y in fixed]
    colours = _colours(skeleton)
    for a, b in skeleton.limb_pairs:
        if shown[a] and shown[b]:
            sides = {colours[a], colours[b]}
            colour = sides.pop() if len(sides) == 1 else MIDDLE
            cv2.line(image, points[a], points[b], colour, thickness, cv2.LINE_AA, SHIFT)
    for joint in np.flatnonzero(shown):
        radius = (thickness + 1) * 2**SHIFT
        cv2.circle(image, points[joint], radius, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
        cv2.circle(image, points[joint], radius * 3 // 4, colours[joint], -1, cv2.LINE_AA, SHIFT)
    return image


def ring_joints(image: np.ndarray, joints: np.ndarray, ringed: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A copy of the picture with rings around the joints (K, 2), pixels, that `ringed` (K,) says."""
    image = image.copy()
    radius = max(6, image.shape[0] // 28)
    for x, y in np.clip(joints[ringed], -1e4, 1e4):
        cv2.circle(image, (round(float(x)), round(float(y))), radius, colour, max(2, radius // 4), cv2.LINE_AA)
    return image


def draw_outline(
    image: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int], thickness: int = 2
) -> np.ndarray:
    """A copy of the picture with a closed line through corners (n, 2), pixels, dark at its rims."""
    image = image.copy()
    points = (np.clip(corners, -1e4, 1e4) * 2**SHIFT).round().astype(np.int32)
    for shade, width in (((0, 0, 0), thickness + 1), (colour, thickness)):
        cv2.polylines(image, [points], True, shade, width, cv2.LINE_AA, SHIFT)
    return image


def overlay_heatmap(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The picture darkened under the strongest of the maps (K, h, w), whose values 0 to 1 go from blue to red."""
    height, width = image.shape[:2]
    strongest = cv2.resize(maps.max(0).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    strength = np.clip(strongest, 0, 1)
    colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    weight = strength[..., None] * 0.8
    return (image * 0.6 * (1 - weight) + colours * weight).astype(np.uint8)


def grid(images: Sequence[np.ndarray], columns: int, gap: int = 4) -> np.ndarray:
    """Pictures of one size side by side, row by row, on white."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, image in enumerate(images):
        y, x = number // columns * (height + gap), number % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an RGB picture; the suffix of the path says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise DataError(f"picture {path} cannot be written; check the folder and the space on the disk")


def jpeg_bytes(image: np.ndarray, quality: int = 85) -> bytes:
    """An RGB picture as the content of a JPEG file."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def _colours(skeleton: Skeleton) -> list[tuple[int, int, int]]:
    """Of each joint, by its side."""
    colours = [MIDDLE] * skeleton.num_joints
    for left, right in skeleton.flip_pairs:
        colours[left], colours[right] = LEFT, RIGHT
    return colours
