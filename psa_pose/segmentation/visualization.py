"""Label maps to look at: blended over pictures, and in sheets. Pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from psa_pose.segmentation.classes import IGNORE, ClassList
from psa_pose.visualization.draw import grid

PICTURED = 6
PANEL = (256, 192)
WRONG, RIGHT = (220, 40, 40), (235, 235, 235)


@dataclass(frozen=True)
class PicturePanel:
    """A picture (H, W, 3) RGB with its label (H, W), and, where predicted, its prediction (H, W)."""

    image: np.ndarray
    label: np.ndarray
    prediction: np.ndarray | None = None


def colored(labels: np.ndarray, classes: ClassList) -> np.ndarray:
    """Labels (H, W) uint8 in their colours."""
    return classes.palette()[labels]


def blended(image: np.ndarray, labels: np.ndarray, classes: ClassList, strength: float = 0.55) -> np.ndarray:
    """A picture under the colours of its labels (H, W) uint8; strength: of the colours, 0 to 1."""
    return cv2.addWeighted(colored(labels, classes), strength, image, 1 - strength, 0)


def error_map(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Wrong pixels in red, right ones in light grey, those that do not count in white."""
    picture = np.full((*label.shape, 3), 255, np.uint8)
    picture[label != IGNORE] = RIGHT
    picture[(label != IGNORE) & (label != prediction)] = WRONG
    return picture


def panel_pictures(panel: PicturePanel, classes: ClassList) -> list[np.ndarray]:
    """Image and truth, and where there is one the prediction and its errors, all of the panel's size."""
    pictures = [panel.image, blended(panel.image, panel.label, classes)]
    if panel.prediction is not None:
        pictures += [
            blended(panel.image, panel.prediction, classes),
            error_map(panel.label, panel.prediction),
        ]
    return pictures


def panel_sheet(panels: Sequence[PicturePanel], classes: ClassList) -> np.ndarray:
    """The panels in two columns, each fitted into a field of one size."""
    pictures = [fitted(picture) for panel in panels for picture in panel_pictures(panel, classes)]
    return grid(pictures, 2 * len(panel_pictures(panels[0], classes)))


def fitted(picture: np.ndarray, size: tuple[int, int] = PANEL) -> np.ndarray:
    """The picture as large as (width, height) allows, in the middle of white."""
    scale = min(size[0] / picture.shape[1], size[1] / picture.shape[0])
    inner = tuple(max(1, round(side * scale)) for side in picture.shape[1::-1])
    small = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    field = np.full((size[1], size[0], 3), 255, np.uint8)
    y, x = (size[1] - inner[1]) // 2, (size[0] - inner[0]) // 2
    field[y : y + inner[1], x : x + inner[0]] = small
    return field
