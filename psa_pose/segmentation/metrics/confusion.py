"""Counts of pixels by label and prediction, and what follows from them: IoU and accuracies.

A set has one confusion matrix, summed over images and processes, so its figures are the same for any number of these.
For intervals over images three counts per class are enough: right, labelled and predicted pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from psa_pose.errors import DataError
from psa_pose.metrics.means import mean_of_known
from psa_pose.segmentation.classes import IGNORE

STATS = (
    "miou",
    "miou_absent_is_zero",
    "pixel_accuracy",
    "mean_accuracy",
    "mean_accuracy_absent_is_zero",
    "frequency_weighted_iou",
)
"""The summary of a set, 0 to 1.

miou: over the classes that occur in a label or a prediction (VainF, NVIDIA, Cityscapes' scripts).
miou_absent_is_zero: over all classes, those that occur nowhere count as 0 (HRNet). The mean accuracies are over the
labelled classes and over all classes in the same way.
"""


def confusion_matrices(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """(B, C, C) int64, rows: label, columns: prediction; one matrix for each image, on the images' device.

    labels, predictions: (B, H, W) integers; labels of 255 do not count. Raises DataError for a label or a prediction
    that is no class.
    """
    if labels.shape != predictions.shape:
        raise DataError(
            f"a prediction of shape {tuple(predictions.shape)} has a label map of shape {tuple(labels.shape)}; "
            "predict at the label's size"
        )
    ignored = labels == IGNORE
    for what, values in (("label", labels), ("prediction", predictions)):
        counted = values.masked_fill(ignored, 0)
        if counted.numel() and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
            raise DataError(f"a {what} is outside the {classes} classes (0 to {classes - 1}); use the right class list")
    # Each image has a cell for each pair, and one more for what does not count.
    own = classes**2 + 1
    cells = (labels.int() * classes + predictions).masked_fill_(ignored, own - 1)
    cells += own * torch.arange(len(labels), dtype=cells.dtype, device=labels.device)[:, None, None]
    counts = torch.bincount(cells.flatten(), minlength=len(labels) * own).view(len(labels), own)
    return counts[:, :-1].reshape(-1, classes, classes)


def class_counts(confusion: np.ndarray) -> np.ndarray:
    """Confusion matrices (..., C, C) -> (..., 3, C): right, labelled and predicted pixels of each class."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([right, confusion.sum(-1), confusion.sum(-2)], axis=-2)


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Counts (..., 3, C) -> (..., C) IoU, NaN where a class is neither in a label nor in a prediction."""
    right, labelled, predicted = (counts[..., i, :].astype(float) for i in range(3))
    return _ratio(right, labelled + predicted - right)


def class_accuracy(counts: np.ndarray) -> np.ndarray:
    """Counts (..., 3, C) -> (..., C): the share of a class's pixels that are right, NaN where it has none."""
    return _ratio(counts[..., 0, :].astype(float), counts[..., 1, :])


def summary(counts: np.ndarray) -> np.ndarray:
    """Counts (..., 3, C) -> STATS (..., 6), 0 to 1, NaN where nothing is labelled."""
    iou, accuracy = class_iou(counts), class_accuracy(counts)
    labelled = counts[..., 1, :].astype(float)
    total = labelled.sum(-1)
    weighted = np.where(labelled > 0, np.nan_to_num(iou), 0) * labelled
    figures = [
        *(mean_of_known(iou, -1), np.nan_to_num(iou).mean(-1)),
        _ratio(counts[..., 0, :].sum(-1).astype(float), total),
        *(mean_of_known(accuracy, -1), np.nan_to_num(accuracy).mean(-1)),
        _ratio(weighted.sum(-1), total),
    ]
    return np.where(total[..., None] > 0, np.stack(figures, -1), np.nan)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
