"""Boundary IoU (Cheng et al., arXiv 2103.16562): IoU of the pixels near an edge, where large regions say nothing."""

from __future__ import annotations

import cv2
import numpy as np

from psa_pose.segmentation.classes import IGNORE

DISTANCE = 0.02
"""Width of the boundary region, of the image's diagonal."""


def boundary_mask(labels: np.ndarray, distance: int) -> np.ndarray:
    """(H, W) bool: pixels at most `distance` from a pixel of another value, or from the border.

    labels: (H, W) uint8. distance: whole pixels from 1, in the larger of x and y. For each value these are the pixels
    that erosion takes from its mask.
    """
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # OpenCV leaves out what is beyond the border.
    near = cv2.erode(labels, window) != cv2.dilate(labels, window)
    near[:distance] = near[-distance:] = True
    near[:, :distance] = near[:, -distance:] = True
    return near


def boundary_counts(label: np.ndarray, prediction: np.ndarray, classes: int, distance: float = DISTANCE) -> np.ndarray:
    """(3, C) int64 of one image: boundary pixels that are in both and agree, of the label, of the prediction.

    label, prediction: (H, W) uint8; pixels labelled 255 do not count. Sum over images, then `class_iou` gives the
    boundary IoU of each class. distance: of the diagonal; at least one pixel.
    """
    pixels = max(1, round(distance * float(np.hypot(*label.shape))))
    counted = label != IGNORE
    of_label = boundary_mask(label, pixels) & counted
    of_prediction = boundary_mask(prediction, pixels) & counted
    both = of_label & of_prediction & (label == prediction)
    return np.stack(
        [
            np.bincount(values[mask], minlength=classes)
            for values, mask in ((label, both), (label, of_label), (prediction, of_prediction))
        ]
    )
