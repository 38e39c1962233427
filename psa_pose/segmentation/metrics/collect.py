"""The counts of a test set, image by image, joined from the processes that share its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from psa_pose.errors import DataError
from psa_pose.segmentation.metrics.boundary import boundary_counts
from psa_pose.segmentation.metrics.confusion import class_counts, confusion_matrices


@dataclass(frozen=True)
class SetCounts:
    """What is known of N images; plain arrays, so that processes can exchange it.

    rows: (N,) int64, of the images in their set. confusion: (C, C) int64 of all of them together.
    counts, boundary: (N, 3, C) int64 of each image, right, labelled and predicted pixels, all and near edges.
    """

    rows: np.ndarray
    confusion: np.ndarray
    counts: np.ndarray
    boundary: np.ndarray


def image_set_counts(row: int, label: torch.Tensor, prediction: torch.Tensor, classes: int) -> SetCounts:
    """The counts of one image: label (H, W) integers with 255 ignored, prediction (H, W) integers, on one device."""
    confusion = confusion_matrices(label[None], prediction[None], classes)[0].cpu().numpy()
    near_edges = boundary_counts(label.byte().cpu().numpy(), prediction.byte().cpu().numpy(), classes)
    return SetCounts(np.array([row]), confusion, class_counts(confusion)[None], near_edges[None])


def join_counts(parts: Sequence[SetCounts], images: int | None = None) -> SetCounts:
    """All parts as one, in the order of the rows: the same for any division of the images.

    images: how many there must be. Raises DataError where an image is missing or there twice.
    """
    if not parts:
        raise DataError("there is no image to count; evaluate on at least one")
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    if len(np.unique(rows)) < len(rows) or (images is not None and len(rows) != images):
        wanted = len(np.unique(rows)) if images is None else images
        raise DataError(f"{len(rows)} images were counted of {wanted}; every image must be evaluated exactly once")
    return SetCounts(
        rows[order],
        np.stack([part.confusion for part in parts]).sum(0),
        np.concatenate([part.counts for part in parts])[order],
        np.concatenate([part.boundary for part in parts])[order],
    )
