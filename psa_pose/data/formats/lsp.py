"""Leeds Sports Pose and its extended set: joints.mat, read into COCO's form, so that all that reads COCO reads it.

LSP (Johnson and Everingham, BMVC 2010): 2,000 photographs im0001.jpg ..., `joints` (3, 14, n), third row 1 where the
joint is hidden; every joint is labelled. LSP Extended (CVPR 2011): 10,000 photographs im00001.jpg ..., `joints`
(14, 3, n), third row 1 where the joint is labelled; x and y mean nothing where it is not.

Coordinates are taken as pixels that count from 0. In the first 7,000 photographs of LSP Extended labelled joints lie at
exactly x = 0 and y = 0 and at most at width - 1 and height - 1, but for one point outside; LSP's own do not tell.
Neither set has boxes or masks, and each photograph has one annotated person, whose number is the photograph's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.formats.coco import Annotations, check_range
from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.data.formats.mat import read_mat
from psa_pose.data.person_box import AREA_SHARE, box_around
from psa_pose.errors import DataError
from psa_pose.media.headers import read_image_header
from psa_pose.skeleton import LSP


def read_lsp(path: Path, images: Path, first: int = 0, last: int = 0) -> Annotations:
    """The photographs from `first` to `last`, counted from 1 (0, 0: all), in COCO's form. images: their folder.

    A joint that is not labelled has v 0 and does not count. Boxes are laid around the labelled joints with a tenth
    of the longer side, within the photograph; areas are 0.53 of them, as COCO's masks. Raises DataError for a file of
    another form.
    """
    joints, flags, digits = _read_joints(path)
    check_range(path, first, last, len(joints))
    numbers = range(first or 1, (last or len(joints)) + 1)
    listed, persons = [], []
    for number in numbers:
        name = f"im{number:0{digits}d}.jpg"
        points, v = joints[number - 1], flags[number - 1]
        width, height = _image_size(images / name, points[v > 0])
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        persons.append(_person(number, points, v, (width, height)))
    category = {"id": PERSON_CATEGORY, "name": "person", "keypoints": list(LSP.names)}
    content = {"images": listed, "annotations": persons, "categories": [category]}
    return Annotations(path, content, in_file=False)


def _read_joints(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """x, y (n, 14, 2); v (n, 14), 0 not labelled, 1 hidden, 2 otherwise; how many digits a photograph's name has."""
    values = np.asarray(read_mat(path, "annotation file", "DATASET.ROOT").get("joints"))
    if values.dtype.kind not in "fiu":
        values = np.zeros(0)
    # MATLAB drops a last axis of length 1.
    values = (values[..., None] if values.ndim == 2 else values).astype(float)
    extended = values.shape[:2] == (LSP.num_joints, 3)
    if values.ndim != 3 or not (extended or values.shape[:2] == (3, LSP.num_joints)):
        raise DataError(
            f"annotation file {path} needs joints of (14, 3, n), as LSP Extended, or of (3, 14, n), as LSP; fetch "
            "joints.mat again"
        )
    values = values.transpose(2, 0, 1) if extended else values.transpose(2, 1, 0)
    flags = values[..., 2]
    v = np.where(flags > 0, 2, 0) if extended else np.where(flags > 0, 1, 2)
    if not set(np.unique(flags)) <= {0.0, 1.0} or not np.isfinite(values[v > 0]).all():
        raise DataError(
            f"annotation file {path}: the third row of joints must be 0 or 1, x and y numbers; fetch it again"
        )
    return np.where(v[..., None] > 0, values[..., :2], 0), v, 5 if extended else 4


def _image_size(path: Path, points: np.ndarray) -> tuple[int, int]:
    """Width and height from the file's header. Of a missing or broken file, which is named later, where joints end."""
    header = read_image_header(path)
    if header is not None:
        return header.width, header.height
    width, height = np.ceil(points.max(0, initial=0)).astype(int).tolist()
    return width + 1, height + 1


def _person(number: int, points: np.ndarray, v: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    laid = box_around(points[v > 0], size)
    # Without an area, the person is left out with its reason.
    box = np.zeros(4) if laid is None else laid
    return {
        "id": number,
        "image_id": number,
        "category_id": PERSON_CATEGORY,
        "iscrowd": 0,
        "num_keypoints": int((v > 0).sum()),
        "keypoints": np.column_stack([points, v]).ravel().tolist(),
        "bbox": box.tolist(),
        "area": float(AREA_SHARE * box[2:].prod()),
    }
