"""What spatial gates of trained PSA blocks do: how far from constant, where on the body, and what they are worth."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor, nn

from psa_pose.attention import PolarizedAttention
from psa_pose.geometry import transform_points
from psa_pose.metrics.means import mean_of_known
from psa_pose.models.gates import collect_gates
from psa_pose.skeleton import Skeleton
from psa_pose.task import Task

# Persons in the mean; the canvas that they are laid on, and where on it the middles of shoulders and hips come to lie.
PERSONS = 256
CANVAS = (96, 128)
_TORSO = {"shoulder": (48, 44), "hip": (48, 76)}
# Crop pixels; a shorter one has no direction.
_LEAST_TORSO = 4


class ConstantGate(nn.Module):
    """A PSA block whose spatial gate is its own mean over the positions of each map."""

    def __init__(self, block: PolarizedAttention) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        channel, spatial = self.block.gates(x)
        assert spatial is not None, "only blocks with a spatial gate are replaced"
        spatial = spatial.mean((2, 3), keepdim=True)
        if channel is None:
            return x * spatial
        return x * (channel + spatial if self.block.layout == "parallel" else channel * spatial)


def with_constant_gates(model: nn.Module) -> nn.Module | None:
    """A copy in which every spatial gate is its mean over positions; None where the model has no spatial gate."""
    flat, found = copy.deepcopy(model), False
    for name, block in list(flat.named_modules()):
        if isinstance(block, PolarizedAttention) and block.spatial is not None:
            parent, _, child = name.rpartition(".")
            setattr(flat.get_submodule(parent), child, ConstantGate(block))
            found = True
    return flat if found else None


def gate_history(folder: Path) -> dict[int, dict[str, float]]:
    """Step -> standard deviation of each block's spatial gate over positions, of the evaluations of a run."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line["gates"] for line in lines if line.get("gates")}


@dataclass(frozen=True)
class BodyGates:
    """Spatial gates, each divided by its mean over its map, averaged over persons whose torsos lie on one another.

    maps: block -> (H, W) of CANVAS, NaN where nobody's crop reaches. joints (K, 2): the persons' mean joints on the
    canvas. at_joints: block -> (K,), the relative gate at each joint. persons: in the mean.
    """

    maps: dict[str, np.ndarray]
    joints: np.ndarray
    at_joints: dict[str, np.ndarray]
    persons: int


def gates_on_the_body(task: Task, model: nn.Module, dataset: Any, skeleton: Skeleton) -> BodyGates | None:
    """Of the first test persons with labelled shoulders and hips; None without such persons or spatial gates.

    Raises ValueError where the skeleton has no left and right shoulders and hips.
    """
    laid, at_joints = defaultdict[str, list[np.ndarray]](list), defaultdict[str, list[np.ndarray]](list)
    joints, size, rows = list[np.ndarray](), task.cfg.TEST.BATCH_SIZE, range(min(PERSONS, len(dataset)))
    for start in range(0, len(rows), size):
        batch = task.to_device(task.batch_maker()(dataset, [(0, row) for row in rows[start : start + size]]), dataset)
        # Of joints without a label no position is known.
        known = np.where(batch.visible.numpy()[..., None] > 0, batch.joints.numpy(), np.nan).astype(float)
        to_canvas = {
            row: matrix for row, pose in enumerate(known) if (matrix := _torso_matrix(pose, skeleton)) is not None
        }
        joints += [transform_points(known[row], matrix) for row, matrix in to_canvas.items()]
        crop = batch.crops.shape[2], batch.crops.shape[1]
        for name, (_, gate) in collect_gates(model, task.images(batch)).items():
            if gate is not None:
                relative = (gate / gate.mean((2, 3), keepdim=True))[:, 0].float().cpu().numpy()
                laid[name] += [_laid(relative[row], matrix, crop) for row, matrix in to_canvas.items()]
                at_joints[name] += [_at(relative[row], known[row], crop) for row in to_canvas]
    if not joints or not laid:
        return None
    maps = {name: mean_of_known(np.stack(each), 0) for name, each in laid.items()}
    return BodyGates(
        maps,
        mean_of_known(np.stack(joints), 0),
        {n: mean_of_known(np.stack(v), 0) for n, v in at_joints.items()},
        len(joints),
    )


def _torso_matrix(pose: np.ndarray, skeleton: Skeleton) -> np.ndarray | None:
    """The similarity (2, 3) from crop pixels to the canvas that lays a torso where all lie; None where it has none."""
    ends = [pose[[skeleton.names.index(f"{side}_{part}") for side in ("left", "right")]].mean(0) for part in _TORSO]
    (shoulders, hips), (top, bottom) = ([complex(*end) for end in pair] for pair in (ends, _TORSO.values()))
    if not abs(hips - shoulders) > _LEAST_TORSO:
        return None
    turn = (bottom - top) / (hips - shoulders)
    shift = top - turn * shoulders
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _laid(gate: np.ndarray, matrix: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """A gate (h, w) of a crop of (width, height) pixels on the canvas; NaN beside the crop."""
    (width, height), (h, w) = crop, gate.shape
    # A cell's middle is that of the pixels that it stands for.
    to_crop = np.array([[width / w, 0, (width / w - 1) / 2], [0, height / h, (height / h - 1) / 2], [0, 0, 1]])
    return cv2.warpAffine(gate, matrix @ to_crop, CANVAS, borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan,))


def _at(gate: np.ndarray, pose: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    """A gate (h, w) at joints (K, 2) in crop pixels: (K,), NaN where a joint is not known or not on the crop."""
    cells = np.floor((pose + 0.5) * (np.array(gate.shape[::-1]) / crop))
    inside = ((cells >= 0) & (cells < gate.shape[::-1])).all(1)
    values = np.full(len(pose), np.nan)
    x, y = cells[inside].astype(int).T
    values[inside] = gate[y, x]
    return values
