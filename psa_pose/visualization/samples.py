"""Samples of a data set, as they are stored and as the network is fed them. Pictures are RGB uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from psa_pose.skeleton import Skeleton
from psa_pose.visualization.captions import captioned, text_strip
from psa_pose.visualization.draw import draw_outline, draw_skeleton, grid
from psa_pose.visualization.html import Figure
from psa_pose.visualization.sheets import CropView, enlarge, target_pictures

BOX, WINDOW = (255, 255, 255), (255, 220, 0)
GAP = 4
# Width of the stored picture's place on a sheet, by the height of the crop.
PLACE = 1.4


@dataclass(frozen=True)
class StoredSample:
    """A person as annotated: image (H, W, 3); box (4,) x, y, width, height; joints (K, 2); visible (K,).

    window (4, 2): the corners of what is cropped. All in image pixels.
    """

    image: np.ndarray
    box: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    window: np.ndarray


def show_sample(stored: StoredSample, crop: CropView, skeleton: Skeleton, lines: Sequence[str]) -> Figure:
    """Before: the image, in the height of the enlarged crop, with box, keypoints and the crop's window. After: the crop
    with its keypoints, and the target heatmaps over it.
    """
    large = enlarge(crop)
    height = large.image.shape[0]
    scale = min(height / stored.image.shape[0], PLACE * height / stored.image.shape[1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(stored.image, None, fx=scale, fy=scale, interpolation=method)
    x, y, w, h = stored.box
    box = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    # cv2.resize keeps pixel corners, not pixel centres, in place.
    place = lambda points: (points + 0.5) * scale - 0.5  # noqa: E731
    image = draw_outline(image, place(stored.window), WINDOW)
    image = draw_outline(image, place(box), BOX)
    image = draw_skeleton(image, place(stored.joints), stored.visible > 0, skeleton)
    drawn, targets = target_pictures(large, skeleton)
    return Figure((image, drawn, targets), lines)


def sample_sheet(samples: Sequence[Figure], title: Sequence[str], columns: int) -> np.ndarray:
    """Samples row by row, each with its lines below it."""
    height = samples[0].pictures[1].shape[0]
    tiles = []
    for sample in samples:
        image, crop, targets = sample.pictures
        image, space = _centred(image, height, round(PLACE * height)), np.full((height, GAP, 3), 255, np.uint8)
        tiles.append(captioned(np.concatenate([image, space, crop, space, targets], axis=1), sample.lines))
    tallest = max(len(tile) for tile in tiles)
    tiles = [np.pad(t, ((0, tallest - len(t)), (0, 0), (0, 0)), constant_values=255) for t in tiles]
    sheet = grid(tiles, min(columns, len(tiles)), gap=4 * GAP)
    return np.concatenate([text_strip(title, sheet.shape[1], largest=0.6), sheet])


def _centred(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """In the middle of a light grey field."""
    field = np.full((height, width, 3), 236, np.uint8)
    y, x = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    field[y : y + image.shape[0], x : x + image.shape[1]] = image
    return field
