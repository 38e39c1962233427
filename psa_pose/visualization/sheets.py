"""Contact sheets: what the network is fed, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from psa_pose.skeleton import Skeleton
from psa_pose.visualization.draw import draw_skeleton, grid, overlay_heatmap

PERSONS_PER_ROW = 4
LEAST_HEIGHT = 256


@dataclass(frozen=True)
class CropView:
    """One person: the crop (H, W, 3) uint8 RGB; truth, visible, and where predicted, joints, scores and maps.

    Joints (K, 2) are in crop pixels; visible and scores (K,); maps (K, h, w) with 1 for certainty.
    """

    image: np.ndarray
    truth: np.ndarray
    visible: np.ndarray
    maps: np.ndarray
    joints: np.ndarray | None = None
    scores: np.ndarray | None = None


def target_sheet(crops: list[CropView], skeleton: Skeleton) -> np.ndarray:
    """Per person: the crop with its annotated keypoints, and the target heatmaps over it."""
    pictures = []
    for crop in map(enlarge, crops):
        pictures += target_pictures(crop, skeleton)
    return grid(pictures, 2 * PERSONS_PER_ROW)


def target_pictures(crop: CropView, skeleton: Skeleton) -> list[np.ndarray]:
    """Two pictures of a crop's size: its annotated keypoints, and the target heatmaps."""
    return [
        draw_skeleton(crop.image, crop.truth, crop.visible > 0, skeleton),
        overlay_heatmap(crop.image, crop.maps),
    ]


def prediction_sheet(crops: list[CropView], skeleton: Skeleton, threshold: float) -> np.ndarray:
    """Per person: the annotated keypoints, the predicted ones that score above the threshold, and the heatmaps."""
    pictures = []
    for crop in map(enlarge, crops):
        if crop.joints is None or crop.scores is None:
            continue
        pictures += [
            draw_skeleton(crop.image, crop.truth, crop.visible > 0, skeleton),
            draw_skeleton(crop.image, crop.joints, crop.scores > threshold, skeleton),
            overlay_heatmap(crop.image, crop.maps),
        ]
    return grid(pictures, 3 * PERSONS_PER_ROW)


def enlarge(crop: CropView) -> CropView:
    """The crop in a size at which thin lines can be told apart: a whole multiple, at least LEAST_HEIGHT pixels high."""
    factor = -(-LEAST_HEIGHT // crop.image.shape[0])
    image = cv2.resize(crop.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    joints = None if crop.joints is None else _scale(crop.joints, factor)
    return replace(crop, image=image, truth=_scale(crop.truth, factor), joints=joints)


def _scale(joints: np.ndarray, factor: int) -> np.ndarray:
    # cv2.resize keeps pixel corners, not pixel centres, in place.
    return (joints + 0.5) * factor - 0.5
