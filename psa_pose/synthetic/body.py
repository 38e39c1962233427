"""Articulated bodies of the synthetic people: sampled joint angles to 3D joints seen by the camera.

Lengths are in body heights. A body's own axes are x to its left, y up, z forward; the camera's are x right, y up,
z to the viewer, so a body turned by 0 degrees faces the viewer and its left is on the right of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SIDES = {"left": 1.0, "right": -1.0}
HEAD_AXES = np.array([0.062, 0.078, 0.07])
FACE = {
    "nose": np.array([0.0, -0.12, 1.0]),
    "left_eye": np.array([0.36, 0.12, 0.92]),
    "right_eye": np.array([-0.36, 0.12, 0.92]),
    "left_ear": np.array([1.0, 0.0, -0.08]),
    "right_ear": np.array([-1.0, 0.0, -0.08]),
}

# (low, high) in degrees: flexion swings the limb forward, abduction sideways, bend folds the elbow or knee.
ARMS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "hang": ((-12, 15), (6, 22), (3, 35)),
    "bent": ((-10, 35), (8, 35), (50, 115)),
    "akimbo": ((-25, -5), (38, 58), (75, 105)),
    "forward": ((50, 95), (-5, 25), (5, 60)),
    "raised": ((0, 30), (120, 168), (5, 60)),
    "sideways": ((-10, 20), (65, 105), (0, 40)),
    "wave": ((5, 30), (70, 105), (70, 120)),
    "crossed": ((25, 50), (2, 15), (85, 115)),
}
ARM_ODDS = {
    "hang": 0.30, "bent": 0.14, "akimbo": 0.10, "forward": 0.03,
    "raised": 0.16, "sideways": 0.15, "wave": 0.10, "crossed": 0.02,
}  # fmt: skip
STANCE_ODDS = {
    "stand": 0.53, "walk": 0.24, "run": 0.04, "wide": 0.12, "sit": 0.03, "squat": 0.02, "bow": 0.01, "lie": 0.01,
}  # fmt: skip


@dataclass(frozen=True)
class Body:
    """One posed body in camera axes, pelvis at the origin.

    joints: name -> (3,) for the 17 COCO keypoints and pelvis, waist, neck, head, left/right hand and toe.
    trunk, head: rotations (3, 3) from the chest's and the head's own axes to the camera's.
    head_axes: semi-axes (3,) of the head.
    width: breadth relative to an average build.
    """

    joints: Mapping[str, np.ndarray]
    trunk: np.ndarray
    head: np.ndarray
    head_axes: np.ndarray
    width: float


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation (3, 3) about axis 0 (x), 1 (y) or 2 (z)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def _limb_direction(flexion: float, abduction: float, side: float) -> np.ndarray:
    """Unit vector (3,) of a limb that hangs down at zero angles (degrees); side is +1 for left, -1 for right."""
    f, a = np.radians(flexion), np.radians(abduction)
    return np.array([side * np.sin(a), -np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)])


def _pick(rng: np.random.Generator, odds: Mapping[str, float]) -> str:
    """One key, drawn in proportion to its odds."""
    weights = np.array(list(odds.values()))
    return str(rng.choice(list(odds), p=weights / weights.sum()))


def _sample_yaw(rng: np.random.Generator) -> float:
    """Degrees the body is turned: mostly frontal, then back, profile, and anything."""
    kind = _pick(rng, {"front": 0.78, "back": 0.14, "profile": 0.04, "any": 0.04})
    if kind == "profile":
        return float(rng.choice([-90.0, 90.0]) + rng.normal(0, 14))
    if kind == "any":
        return float(rng.uniform(-180, 180))
    return float((180.0 if kind == "back" else 0.0) + np.clip(rng.normal(0, 16), -45, 45))


def _legs(rng: np.random.Generator, stance: str) -> dict[str, tuple[float, float, float]]:
    """(flexion, abduction, knee bend) in degrees for each side."""
    lead = rng.choice([-1.0, 1.0])
    stride = {"walk": rng.uniform(10, 30), "run": rng.uniform(30, 60)}.get(stance, 0.0)
    legs = {}
    for name, side in SIDES.items():
        front = side * lead > 0
        if stance in ("walk", "run"):
            knee = rng.uniform(5, 25) if stance == "walk" else rng.uniform(30, 95)
            legs[name] = (stride if front else -0.7 * stride, rng.uniform(0, 5), knee if front else 0.8 * knee + 10)
        elif stance == "sit":
            legs[name] = (rng.uniform(70, 95), rng.uniform(2, 18), rng.uniform(70, 100))
        elif stance == "squat":
            legs[name] = (rng.uniform(75, 110), rng.uniform(10, 30), rng.uniform(100, 130))
        elif stance == "wide":
            legs[name] = (rng.uniform(-8, 15), rng.uniform(16, 36), rng.uniform(0, 30))
        elif stance == "lie":
            legs[name] = (rng.uniform(-5, 50), rng.uniform(0, 15), rng.uniform(0, 70))
        else:
            legs[name] = (rng.uniform(-6, 10), rng.uniform(1, 9), rng.uniform(0, 12))
    return legs


def _arm(rng: np.random.Generator, style: str, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (3,) of the upper arm and of the forearm in the chest's axes."""
    flexion, abduction, bend = (rng.uniform(*limits) for limits in ARMS[style])
    upper = _limb_direction(flexion, abduction, side)
    if style in ("raised", "wave", "sideways"):
        hint = np.array([-0.5 * side, 1.0, rng.uniform(-0.1, 0.6)])
    elif style in ("akimbo", "crossed"):
        hint = np.array([-side, 0.1, 0.35])
    else:
        hint = np.array([-side * rng.uniform(0, 0.6), 0.3, 1.0])
    hint = hint - upper * (hint @ upper)
    hint /= np.linalg.norm(hint) + 1e-6
    return upper, np.cos(np.radians(bend)) * upper + np.sin(np.radians(bend)) * hint


def _trunk_angles(rng: np.random.Generator, stance: str) -> tuple[float, float, float]:
    """(forward lean, sideways lean, twist) of the chest over the pelvis, degrees."""
    lean = {"run": rng.uniform(5, 25), "squat": rng.uniform(10, 40), "sit": rng.uniform(-10, 25)}
    lean |= {"bow": rng.uniform(35, 80), "lie": rng.uniform(-5, 20)}
    return lean.get(stance, rng.uniform(-4, 10)), float(rng.normal(0, 5)), float(rng.normal(0, 8))


def _view(rng: np.random.Generator, stance: str, yaw: float) -> np.ndarray:
    """Rotation (3, 3) from the pelvis to the camera: turn, a camera slightly above, and tilt in the picture."""
    tilt = rng.choice([-1, 1]) * rng.uniform(65, 100) if stance == "lie" else rng.normal(0, 4)
    return rotation(2, tilt) @ rotation(0, rng.uniform(-2, 16)) @ rotation(1, yaw)


def sample_body(rng: np.random.Generator, yaw: float | None = None) -> Body:
    """A body in a random plausible pose; `yaw` (degrees, 0 = facing the viewer) fixes which way it faces."""
    stance = _pick(rng, STANCE_ODDS)
    view = _view(rng, stance, _sample_yaw(rng) if yaw is None else yaw)
    lean, bend, twist = _trunk_angles(rng, stance)
    trunk = view @ rotation(0, lean) @ rotation(2, bend) @ rotation(1, twist)
    # Looking up undoes part of a lean, as people do.
    gaze = (float(np.clip(rng.normal(0, 10), -30, 30)), float(np.clip(rng.normal(4, 5), -12, 18) - 0.5 * lean))
    head = trunk @ rotation(1, gaze[0]) @ rotation(0, gaze[1]) @ rotation(2, rng.normal(0, 6))
    width, size = rng.uniform(0.88, 1.22), rng.uniform(1.15, 1.35)
    joints = {"pelvis": np.zeros(3), "waist": trunk @ np.array([0, 0.11, 0]), "neck": trunk @ np.array([0, 0.3, 0])}
    joints["head"] = joints["neck"] + head @ np.array([0, 0.09 * size, 0.015])
    for name, direction in FACE.items():
        joints[name] = joints["head"] + head @ (HEAD_AXES * size * direction / np.linalg.norm(direction))
    legs, arms = _legs(rng, stance), {name: _pick(rng, ARM_ODDS) for name in SIDES}
    if rng.random() < 0.4:
        arms["right"] = arms["left"]
    for name, side in SIDES.items():
        flexion, abduction, knee = legs[name]
        hip = view @ np.array([side * 0.062 * width, 0, 0])
        joints[f"{name}_hip"] = hip
        joints[f"{name}_knee"] = hip + view @ _limb_direction(flexion, abduction, side) * 0.235
        shin = view @ _limb_direction(flexion - knee, 0.7 * abduction, side)
        joints[f"{name}_ankle"] = joints[f"{name}_knee"] + shin * 0.235
        toe = view @ _limb_direction(flexion - knee + 85, rng.uniform(5, 25), side)
        joints[f"{name}_toe"] = joints[f"{name}_ankle"] + shin * 0.025 + toe * 0.085
        style = "swing" if stance in ("walk", "run") and rng.random() < 0.6 else arms[name]
        if style == "swing":
            upper = _limb_direction(-flexion, rng.uniform(4, 14), side)
            lower = _limb_direction(-flexion + (rng.uniform(10, 40) if stance == "walk" else 85), 5, side)
        else:
            upper, lower = _arm(rng, style, side)
        joints[f"{name}_shoulder"] = trunk @ np.array([side * 0.112 * width, 0.275, 0])
        joints[f"{name}_elbow"] = joints[f"{name}_shoulder"] + trunk @ upper * 0.165
        joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + trunk @ lower * 0.145
        joints[f"{name}_hand"] = joints[f"{name}_wrist"] + trunk @ lower * 0.05
    return Body(joints, trunk, head, HEAD_AXES * size, float(width))
