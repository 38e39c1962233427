"""Inside the network, for one person: the heatmap of every keypoint, the gates of every PSA block.

Crops are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np

from psa_pose.skeleton import Skeleton
from psa_pose.visualization.captions import captioned, text_strip
from psa_pose.visualization.draw import draw_skeleton, grid, overlay_heatmap, ring_joints
from psa_pose.visualization.sheets import CropView, enlarge

STRIP_HEIGHT = 44
BAR, MIDDLE, PAPER = (70, 90, 170), (205, 205, 205), (246, 246, 246)


def heatmap_sheet(crop: CropView, skeleton: Skeleton, threshold: float) -> np.ndarray:
    """The found keypoints that score above the threshold, all heatmaps in one picture, and each alone, with its score.

    crop: with joints, scores and maps, 1 for certainty.
    """
    crop = enlarge(crop)
    assert crop.joints is not None
    assert crop.scores is not None
    shown = crop.scores > threshold
    tiles = [
        captioned(draw_skeleton(crop.image, crop.joints, shown, skeleton), [f"keypoints above {threshold:g}"]),
        captioned(overlay_heatmap(crop.image, crop.maps), ["all heatmaps"]),
    ]
    for joint, name in enumerate(skeleton.names):
        picture = overlay_heatmap(crop.image, crop.maps[joint : joint + 1])
        ringed = (np.arange(len(shown)) == joint) & shown
        picture = ring_joints(picture, crop.joints, ringed, (255, 255, 255))
        tiles.append(captioned(picture, [f"{name} {crop.scores[joint]:.2f}"]))
    columns = _columns(len(tiles), tiles[0].shape)
    words = ["Heatmaps over the crop: dark for 0, then blue to red for 1. Ring: the keypoint, if its score is enough."]
    return _titled(words, grid(tiles, columns, gap=6))


def gate_sheet(image: np.ndarray, gates: Mapping[str, tuple[np.ndarray | None, ...]]) -> np.ndarray:
    """The gates of every block, by name in the network's order: channel gate (C,) and spatial gate (h, w), or None.

    The spatial gate is coloured from its own least value to its own greatest, which are written below, because most are
    almost constant; the channel gate has a bar per channel from 0 to 1. Without blocks: the crop alone.
    """
    empty = np.zeros((0, 1, 1), np.float32)
    plain = enlarge(CropView(image, np.zeros((0, 2)), np.zeros(0), empty)).image
    blank = np.full((STRIP_HEIGHT, plain.shape[1], 3), 255, np.uint8)
    tiles = [captioned(np.concatenate([plain, blank]), ["the crop", "", ""])]
    tiles += [_gate_tile(plain, name, *pair) for name, pair in gates.items()]
    words = [
        "Gates of PSA, block by block. Colours: the spatial gate, from its least value (dark blue) to its greatest",
        "(yellow), as written under 'space'. Bars: the channel gate, a bar per channel from 0 to 1, a line at 0.5.",
    ]
    return _titled(words, grid(tiles, _columns(len(tiles), tiles[0].shape), gap=6))


def _gate_tile(image: np.ndarray, name: str, channel: np.ndarray | None, spatial: np.ndarray | None) -> np.ndarray:
    """A block's gates over and under the crop, with its name and their ranges."""
    lines = [name, "no spatial gate", "no channel gate"]
    if spatial is not None:
        spatial = np.atleast_2d(spatial)
        height, width = spatial.shape
        lines[1] = f"space {spatial.min():.4f} to {spatial.max():.4f}, {width}x{height}"
        image = _colour_over(image, spatial)
    if channel is not None:
        channel = np.atleast_1d(channel)
        lines[2] = f"channels {channel.min():.3f} to {channel.max():.3f}, {len(channel)}"
    return captioned(np.concatenate([image, _channel_bars(channel, image.shape[1])]), lines)


def _colour_over(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (h, w) as colours over the greyed picture, dark blue for the least of them, yellow for the greatest."""
    height, width = image.shape[:2]
    span = float(np.ptp(values))
    share = (values - values.min()) / span if span > 0 else np.full_like(values, 0.5)
    share = cv2.resize(share.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((share * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return (0.6 * colours + 0.4 * grey).astype(np.uint8)


def _channel_bars(channel: np.ndarray | None, width: int) -> np.ndarray:
    """A bar per channel, from 0 at the bottom to 1 at the top, a line at 0.5; of more channels than pixels, means."""
    strip = np.full((STRIP_HEIGHT, width, 3), PAPER, np.uint8)
    if channel is None:
        return strip
    edges = np.arange(width + 1) * len(channel) / width
    sums = np.interp(edges, np.arange(len(channel) + 1), np.concatenate([[0.0], np.cumsum(channel)]))
    # A pixel that lies within one channel has its value, one over several their mean.
    means = np.clip(np.diff(sums) / np.diff(edges), 0, 1)
    tops = STRIP_HEIGHT - np.round(means * STRIP_HEIGHT).astype(int)
    strip[np.arange(STRIP_HEIGHT)[:, None] >= tops[None]] = BAR
    strip[STRIP_HEIGHT // 2] = MIDDLE
    return strip


def _columns(tiles: int, shape: tuple[int, ...]) -> int:
    """So many that the sheet is about half as wide again as high, give or take for a last row with few gaps."""
    ideal = math.sqrt(1.5 * tiles * shape[0] / shape[1])
    some = range(max(1, round(ideal * 0.85)), round(ideal * 1.15) + 1)
    return min(tiles, min(some, key=lambda columns: (-tiles % columns, abs(columns - ideal))))


def _titled(words: list[str], sheet: np.ndarray) -> np.ndarray:
    return np.concatenate([text_strip(words, sheet.shape[1], largest=0.6), sheet])
