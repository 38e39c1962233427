"""Codecs as the published codes write them, person by person and joint by joint. To be compared with."""

from __future__ import annotations

import cv2
import numpy as np


def encode_standard(joints: np.ndarray, size: tuple[int, int], stride: float, sigma: float) -> np.ndarray:
    """Targets (K, h, w) of one person with joints (K, 2) in crop pixels: a Gaussian patch pasted for each joint."""
    width, height = size
    targets = np.zeros((len(joints), height, width), np.float32)
    reach = int(3 * sigma)
    for joint, target in zip(joints, targets, strict=True):
        x, y = (int(c / stride + 0.5) for c in joint)
        if not (-reach <= x < width + reach and -reach <= y < height + reach):
            continue
        axis = np.arange(2 * reach + 1, dtype=np.float32)
        patch = np.exp(-((axis - reach) ** 2 + (axis[:, None] - reach) ** 2) / (2 * sigma**2))
        left, right = max(0, x - reach), min(width, x + reach + 1)
        top, bottom = max(0, y - reach), min(height, y + reach + 1)
        part = patch[top - y + reach : bottom - y + reach, left - x + reach : right - x + reach]
        target[top:bottom, left:right] = part
    return targets


def decode_dark(maps: np.ndarray, blur: int = 11) -> np.ndarray:
    """Joints (B, K, 2) in heatmap pixels of maps (B, K, h, w): each map blurred whole, a Newton step for each joint."""
    flat = maps.reshape(*maps.shape[:2], -1)
    index = flat.argmax(2)
    joints = np.stack([index % maps.shape[3], index // maps.shape[3]], axis=-1).astype(np.float32)
    joints *= (flat.max(2) > 0)[..., None]
    border = blur // 2
    for person, person_maps in zip(joints, maps, strict=True):
        for joint, map_ in zip(person, person_maps, strict=True):
            padded = np.zeros((map_.shape[0] + 2 * border, map_.shape[1] + 2 * border), np.float32)
            padded[border:-border, border:-border] = map_
            blurred = cv2.GaussianBlur(padded, (blur, blur), 0)[border:-border, border:-border]
            blurred *= map_.max() / blurred.max()
            joint += _newton(np.log(np.maximum(blurred, 1e-10)), int(joint[0]), int(joint[1]))
    return joints


def _newton(log: np.ndarray, x: int, y: int) -> np.ndarray:
    height, width = log.shape
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.zeros(2, np.float32)
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    if dxx * dyy - dxy**2 == 0:
        return np.zeros(2, np.float32)
    return -np.linalg.inv(np.array([[dxx, dxy], [dxy, dyy]])) @ gradient
