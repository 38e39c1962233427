"""PCKh, MPII's measure: the share of joints that are found within a part of the head's size."""

from __future__ import annotations

from typing import Any

import numpy as np

from psa_pose.metrics.coco_ap import Predictions
from psa_pose.skeleton import Skeleton

# Columns of the published tables; the sides of a part are averaged.
GROUPS = {
    "head": ("head_top",),
    **{part: (f"left_{part}", f"right_{part}") for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")},
}
# Not in the mean, as published.
LEFT_OUT = ("pelvis", "thorax")
PCKH, PCKH_STRICT = "PCKh", "PCKh@0.1"
PCKH_COLUMNS = (*GROUPS, PCKH, PCKH_STRICT)


def pckh_stats(
    found: np.ndarray, joints: np.ndarray, visible: np.ndarray, head_sizes: np.ndarray, skeleton: Skeleton
) -> dict[str, float]:
    """PCKH_COLUMNS and each joint -> 0 to 1; -1 where nobody has such a joint annotated.

    found, joints (N, K, 2), image pixels; visible (N, K) bool; head_sizes (N,), pixels. Joints and columns at half a
    head's size, PCKH_STRICT at a tenth. The means are over all annotated joints but LEFT_OUT. HRNet's code prints as
    Mean@0.1 what is within 0.11: entry 11 of thresholds 0, 0.01, ...
    """
    error = np.linalg.norm(found - joints, axis=2) / head_sizes[:, None]
    counted = visible & ~np.isin(skeleton.names, LEFT_OUT)
    of_joint = {name: _share(error[:, k][visible[:, k]], 0.5) for k, name in enumerate(skeleton.names)}
    groups = {}
    for group, names in GROUPS.items():
        defined = [of_joint[name] for name in names if of_joint.get(name, -1) >= 0]
        groups[group] = float(np.mean(defined)) if defined else -1.0
    return groups | {PCKH: _share(error[counted], 0.5), PCKH_STRICT: _share(error[counted], 0.1)} | of_joint


def _share(errors: np.ndarray, threshold: float) -> float:
    return float((errors <= threshold).mean()) if len(errors) else -1.0


def mpii_results(predictions: Predictions) -> list[dict[str, Any]]:
    """One entry per person: its place in the annotation file, from 1, and x, y in image pixels and score per joint."""
    assert predictions.annotation_ids is not None
    keypoints = np.concatenate([predictions.joints, predictions.keypoint_scores[..., None]], axis=2).round(3)
    rows = zip(predictions.annotation_ids.tolist(), keypoints.reshape(len(keypoints), -1).tolist(), strict=True)
    return [{"person": person, "keypoints": numbers} for person, numbers in rows]
