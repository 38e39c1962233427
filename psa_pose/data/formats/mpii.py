"""MPII in the form that SimpleBaseline's and HRNet's code reads: JSON lists of persons, and gt_valid.mat for PCKh.

Conventions of `lib/dataset/mpii.py` of those repositories. A person is {"image", "center", "scale", "joints",
"joints_vis"}: coordinates in pixels that count from 1, scale in units of 200 pixels. The crop is a square around a
centre that is moved down by 15 scale, of side 200 scale times 1.25, which is INPUT.PADDING.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.formats.coco import Annotations, Persons
from psa_pose.data.formats.coco_form import is_number
from psa_pose.data.formats.mat import read_mat
from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.skeleton import Skeleton

UNIT, DOWN = 200, 15
# Head sizes of PCKh are the diagonal of the head box times this.
HEAD_SHARE = 0.6


@dataclass(frozen=True)
class HeadTruth:
    """What PCKh is computed against, in the order of the annotation file.

    joints (N, K, 2) float64: image pixels. visible (N, K) bool: annotated. head_sizes (N,) float64: pixels.
    """

    joints: np.ndarray
    visible: np.ndarray
    head_sizes: np.ndarray


def read_mpii(path: Path, skeleton: Skeleton) -> tuple[Annotations, Persons, list[str]]:
    """Its images, all its persons, and what is wrong with those that cannot be used.

    Annotation ids are places in the file, from 1, image ids of the images in the order of their first person. Raises
    DataError for a file of another form, and for a list without joints such as that of MPII's test images.
    """
    content = read_json(path, "annotation file")
    if not isinstance(content, list) or not content:
        raise DataError(
            f"annotation file {path} is not a list of persons; DATASET.FORMAT 'mpii' needs HRNet's JSON form"
        )
    for number, entry in enumerate(content, start=1):
        _check_entry(entry, f"annotation file {path}: person {number}", skeleton.num_joints)
    names = list(dict.fromkeys(entry["image"] for entry in content))
    row_of = {name: row for row, name in enumerate(names)}
    scale = np.array([entry["scale"] for entry in content], float)
    centre = np.array([entry["center"] for entry in content], float)
    # In MPII a centre of -1 stands for a person without one.
    usable = (centre[:, 0] != -1) & (scale > 0)
    low = centre - 1 + np.stack([0 * scale, DOWN * scale], 1) - UNIT / 2 * scale[:, None]
    persons = Persons(
        image_ids=np.arange(1, len(names) + 1),
        image_names=np.array([name.encode() for name in names]),
        image_sizes=np.zeros((len(names), 2)),
        image=np.array([row_of[entry["image"]] for entry in content], np.int64),
        annotation_ids=np.arange(1, len(content) + 1),
        boxes=np.concatenate([low, np.stack([UNIT * scale] * 2, 1)], axis=1),
        scores=np.ones(len(content)),
        joints=np.array([entry["joints"] for entry in content], np.float32) - 1,
        visible=(np.array([entry["joints_vis"] for entry in content]) > 0).astype(np.float32),
    )
    problems = [
        f"annotation file {path}: person {row + 1} on {content[row]['image']} has no centre or no scale"
        for row in np.flatnonzero(~usable)
    ]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    return Annotations(path, {"images": images}), persons.select(usable), problems


def _check_entry(entry: Any, where: str, joints: int) -> None:
    if not isinstance(entry, dict) or not {"image", "center", "scale"} <= entry.keys():
        raise DataError(f"{where} needs image, center, scale, joints and joints_vis; write the file anew")
    if not {"joints", "joints_vis"} <= entry.keys():
        raise DataError(f"{where} has no joints, as in MPII's test list: give a list that can be trained or scored on")
    points, flags = entry["joints"], entry["joints_vis"]
    shaped = (
        isinstance(entry["image"], str)
        and _numbers(entry["center"], 2)
        and is_number(entry["scale"])
        and _numbers(flags, joints)
        and isinstance(points, list)
        and len(points) == joints
        and all(_numbers(point, 2) for point in points)
    )
    if not shaped or not entry["image"].isprintable() or entry["image"] in ("", ".", ".."):
        raise DataError(
            f"{where} needs an image name, a center (x, y), a scale, {joints} joints (x, y) and as many joints_vis, "
            "all finite numbers; write the file anew"
        )


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))


def read_head_truth(path: Path, skeleton: Skeleton) -> HeadTruth:
    """Joints and head sizes of MPII's gt_valid.mat, whose persons are those of valid.json. Raises DataError."""
    content = read_mat(path, "MPII truth", "DATASET.TEST_HEADS")
    K = skeleton.num_joints
    wanted = {"pos_gt_src": (K, 2), "jnt_missing": (K,), "headboxes_src": (2, 2)}
    arrays = {key: np.asarray(content.get(key)) for key in wanted}
    persons = {array.shape[-1] if array.ndim else -1 for array in arrays.values()}
    if len(persons) != 1 or any(arrays[key].shape[:-1] != shape for key, shape in wanted.items()):
        raise DataError(
            f"MPII truth {path} needs pos_gt_src ({K}, 2, N), jnt_missing ({K}, N) and headboxes_src (2, 2, N); fetch "
            "gt_valid.mat again"
        )
    boxes = arrays["headboxes_src"].astype(float)
    sizes = np.linalg.norm(boxes[1] - boxes[0], axis=0) * HEAD_SHARE
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise DataError(f"MPII truth {path} has a head box without a size; fetch gt_valid.mat again")
    joints = arrays["pos_gt_src"].astype(float).transpose(2, 0, 1) - 1
    return HeadTruth(joints, arrays["jnt_missing"].T == 0, sizes)
