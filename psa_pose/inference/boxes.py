"""Where a picture's person boxes come from: a COCO detection file, a detector, or the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from psa_pose.data.coco import is_number, read_json
from psa_pose.data.detections import PERSON
from psa_pose.errors import DataError

# Boxes (N, 4) x, y, width, height in image pixels, None for the whole picture; and their scores (N,).
Boxes = tuple[np.ndarray | None, np.ndarray | None]
# Path and pixels (H, W, 3) of a picture -> its boxes.
BoxSource = Callable[[Path, np.ndarray], Boxes]


def whole_picture(path: Path, pixels: np.ndarray) -> Boxes:
    """One box, as large as the picture."""
    return None, None


def boxes_of_file(path: Path, least_score: float = 0.0) -> BoxSource:
    """The persons of a COCO detection file: a list of {"image_id", "category_id", "bbox": [x, y, w, h], "score"}.

    A box belongs to the picture whose name without suffix is its image_id, leading zeros aside, as COCO's files are
    named. A picture without boxes has nobody on it. Raises DataError for a file of another form.
    """
    content = read_json(path, "detection file")
    if not isinstance(content, list):
        raise DataError(f"detection file {path} must hold a list of detections, not a {type(content).__name__}")
    rows: dict[str, list[list[float]]] = {}
    for number, entry in enumerate(content):
        box = entry.get("bbox") if isinstance(entry, dict) else None
        if not isinstance(box, list) or len(box) != 4 or not {"image_id", "category_id", "score"} <= entry.keys():
            raise DataError(f"detection file {path}: entry {number} needs image_id, category_id, bbox and score")
        if not all(is_number(value) for value in (*box, entry["score"])):
            raise DataError(f"detection file {path}: entry {number} needs four finite numbers as bbox and one as score")
        if entry["category_id"] == PERSON and entry["score"] >= least_score:
            rows.setdefault(_key(str(entry["image_id"])), []).append([*box, entry["score"]])

    def boxes(picture: Path, _: np.ndarray) -> Boxes:
        found = np.array(rows.get(_key(picture.stem), []), float).reshape(-1, 5)
        return found[:, :4], found[:, 4]

    return boxes


def _key(name: str) -> str:
    return name.lstrip("0") or "0"
