"""What a checkpoint says beside its network: how persons were cropped, and when two of them are one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psa_pose.checkpoints import load_checkpoint
from psa_pose.checkpoints.spec import check_content
from psa_pose.codecs.build import build_codec
from psa_pose.config import parse_config
from psa_pose.geometry import Grid, box_to_region, crop_matrix, warp
from psa_pose.skeleton import Skeleton, make_skeleton


@dataclass(frozen=True)
class Trained:
    """input_size: (width, height) of a crop, pixels. padding: of the box. grid: of the codec.

    maps_per_joint: channels of the network's answer per joint, the first of which is the heatmap. has_gates: the
    network has PSA blocks. oks_nms: the similarity above which the weaker of two persons is dropped.
    """

    skeleton: Skeleton
    input_size: tuple[int, int]
    padding: float
    grid: Grid
    maps_per_joint: int
    has_gates: bool
    oks_nms: float

    def regions(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres (N, 2) and regions (N, 2), image pixels, that are cropped around boxes (N, 4) x, y, width, height."""
        return box_to_region(boxes, self.input_size[0] / self.input_size[1], self.padding)

    def crop(self, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The crop (H, W, 3) around a box (4,) that the network sees, in RGB, and the matrix (2, 3) image to crop."""
        matrix = crop_matrix(*self.regions(box), 0.0, self.input_size, self.grid)
        return warp(image, matrix, self.input_size), matrix


def trained_of(path: Path) -> Trained:
    """From a checkpoint that `PoseEstimator.from_checkpoint` takes. Raises CheckpointError for an unfit file."""
    content = load_checkpoint(path)
    check_content(content, path)
    cfg = parse_config(content["config"], f"checkpoint {path}")
    codec = build_codec(cfg)
    return Trained(
        skeleton=make_skeleton(content["skeleton"], f"checkpoint {path}"),
        input_size=codec.input_size,
        padding=content["input"]["PADDING"],
        grid=codec.grid,
        maps_per_joint=codec.channels_per_joint,
        has_gates=cfg.MODEL.ATTENTION.NAME.startswith("psa"),
        oks_nms=cfg.TEST.OKS_NMS,
    )
