"""Instance scores, object keypoint similarity, and the suppression of double detections by it."""

from __future__ import annotations

import numpy as np


def instance_scores(box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float) -> np.ndarray:
    """Box scores (N,) times the mean of the keypoint scores (N, K) above the threshold (0 where none is) -> (N,).

    The rescoring of HRNet's and SimpleBaseline's evaluation.
    """
    counts = keypoint_scores > threshold
    means = (keypoint_scores * counts).sum(1) / np.maximum(counts.sum(1), 1)
    return box_scores * means


def pairwise_oks(joints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """OKS between every two of n persons, (n, n), over all K joints.

    joints (n, K, 2), image pixels. areas (n,), square pixels: each pair uses the mean of its two.
    """
    squared = ((joints[:, None] - joints[None]) ** 2).sum(-1)
    scale = 2 * (2 * sigmas) ** 2 * ((areas[:, None] + areas[None]) / 2 + np.spacing(1))[..., None]
    return np.exp(-squared / scale).mean(-1)


def oks_nms(
    joints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """Rows to keep of n persons of one image, best score first: greedy, dropping whoever has OKS above the threshold
    with a better one already kept. scores (n,); a tie goes to the earlier row.
    """
    order = np.argsort(-scores, kind="stable")
    similar = pairwise_oks(joints[order], areas[order], sigmas) > threshold
    kept: list[int] = []
    for candidate in range(len(order)):
        if not similar[candidate, kept].any():
            kept.append(candidate)
    return order[kept]
