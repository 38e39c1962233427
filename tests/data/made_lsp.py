"""Synthetic people in the published form of Leeds Sports Pose, one person a picture."""

import json
import shutil
from pathlib import Path

import numpy as np
from scipy.io import savemat

from psa_pose.skeleton import COCO, LSP


def write_joints(path: Path, joints: np.ndarray, labelled: np.ndarray, extended: bool = True) -> None:
    """joints (n, 14, 2), labelled (n, 14) as joints.mat. LSP labels all: what is not `labelled` is hidden in it."""
    if extended:
        values = np.concatenate([joints, labelled[..., None]], axis=2).transpose(1, 2, 0)
    else:
        values = np.concatenate([joints, 1.0 - labelled[..., None]], axis=2).transpose(2, 1, 0)
    savemat(path, {"joints": values})


def lsp_joints(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x, y (14, 2) and labelled (14,) from COCO's keypoints (17, 3): the neck between the shoulders, the head top at
    twice the nose's distance from it."""
    points = dict(zip(COCO.names, keypoints, strict=True))
    left, right, nose = (points[name] for name in ("left_shoulder", "right_shoulder", "nose"))
    neck = np.array([*((left + right) / 2)[:2], min(left[2], right[2])])
    points["neck"] = neck
    points["head_top"] = np.array([*(2 * nose - neck)[:2], min(nose[2], neck[2])])
    rows = np.array([points[name] for name in LSP.names])
    return rows[:, :2], rows[:, 2] > 0


def make_lsp(people: Path, root: Path) -> int:
    """Write pictures of a synthetic COCO data set that have one labelled person, as LSP Extended; how many."""
    (root / "images").mkdir(parents=True)
    joints, labelled = [], []
    for split in ("train2017", "val2017"):
        content = json.loads((people / f"annotations/person_keypoints_{split}.json").read_text())
        for image in content["images"]:
            mine = [a for a in content["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
            mine.sort(key=lambda a: -a["num_keypoints"])
            if mine and mine[0]["num_keypoints"] > 3:
                xy, known = lsp_joints(np.array(mine[0]["keypoints"], float).reshape(17, 3))
                joints, labelled = [*joints, xy], [*labelled, known]
                shutil.copy(people / split / image["file_name"], root / f"images/im{len(joints):05d}.jpg")
    write_joints(root / "joints.mat", np.array(joints), np.array(labelled))
    return len(joints)
