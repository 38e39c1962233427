"""Instance scores, object keypoint similarity, and the suppression of double detections by it."""

from __future__ import annotations

import numpy as np

# Pairs whose distances are held at once.
CHUNK = 1 << 16


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
    n = len(joints)
    first, second = np.indices((n, n)).reshape(2, -1)
    return _similarity(joints, areas, sigmas, first, second).mean(-1).reshape(n, n)


def oks_nms(
    joints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: np.ndarray,
    threshold: float,
    images: np.ndarray | None = None,
) -> np.ndarray:
    """Rows to keep of N persons, by image and there best score first: greedy, dropping whoever has OKS above the
    threshold with a better one of the same image already kept. scores (N,); a tie goes to the earlier row.

    images (N,): the image of each person; None: they are all of one.
    """
    images = np.zeros(len(scores), int) if images is None else images
    order = np.lexsort((-scores, images))
    joints, areas, images = joints[order], areas[order], images[order]
    kept = np.ones(len(order), bool)
    for better, worse in _alike(joints, areas, sigmas, threshold, images):
        if kept[better]:
            kept[worse] = False
    return order[kept]


def _alike(
    joints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float, images: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs (row, later row) of an image with OKS above the threshold, rising. Persons are sorted by image."""
    later = np.searchsorted(images, images, side="right") - np.arange(len(images)) - 1
    ends = np.cumsum(later)
    pairs: list[tuple[int, int]] = []
    start = 0
    while start < len(images):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - later[start] + CHUNK, side="right")))
        count = later[start:stop]
        first = np.repeat(np.arange(start, stop), count)
        second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
        first, second = _may_exceed(joints, areas, sigmas, threshold, first, second)
        above = _similarity(joints, areas, sigmas, first, second).mean(-1) > threshold
        pairs += zip(first[above].tolist(), second[above].tolist(), strict=True)
        start = stop
    return pairs


def _may_exceed(
    joints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs left after a look at the joints one by one: those whose OKS exceeds the threshold if all others agree."""
    K = len(sigmas)
    lost = np.zeros(len(first))
    # A small margin, since this sum rounds otherwise than the mean does.
    allowed = K * (1 - threshold) + 1e-6
    for joint in range(K - 1, -1, -max(1, K // 4)):
        one = slice(joint, joint + 1)
        lost += 1 - _similarity(joints[:, one], areas, sigmas[one], first, second)[:, 0]
        near = lost <= allowed
        first, second, lost = first[near], second[near], lost[near]
    return first, second


def _similarity(
    joints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """exp(-d^2 / (2 area (2 sigma)^2)) of each joint (P, K), for P pairs of rows."""
    squared = ((joints[first] - joints[second]) ** 2).sum(-1)
    scale = 2 * (2 * sigmas) ** 2 * ((areas[first] + areas[second]) / 2 + np.spacing(1))[:, None]
    return np.exp(-squared / scale)
