"""Where a picture's person boxes come from: a COCO file, a detector, or the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.coco_form import PERSON_CATEGORY, is_number
from psa_pose.errors import DataError
from psa_pose.files import read_json

# Boxes (N, 4) x, y, width, height in image pixels, None for the whole picture; and their scores (N,).
Boxes = tuple[np.ndarray | None, np.ndarray | None]
# Path and pixels (H, W, 3) of a picture -> its boxes. A frame of a video has the path <video>#<number>.
BoxSource = Callable[[Path, np.ndarray], Boxes]
# Boxes with their scores, of each picture.
_Rows = dict[str, list[list[float]]]


def whole_picture(path: Path, pixels: np.ndarray) -> Boxes:
    """One box, as large as the picture."""
    return None, None


def boxes_of_file(path: Path, least_score: float = 0.0, frames: bool = False) -> BoxSource:
    """The persons of a COCO file. A picture without boxes has nobody on it.

    A detection file is a list of {"image_id", "category_id", "bbox": [x, y, w, h], "score"}; a box belongs to the
    picture whose name without suffix is its image_id, leading zeros aside, as COCO's files are named. An annotation
    file is {"images", "annotations"}, and its pictures are found by their file_name; crowds and boxes without area are
    left out, and the score is 1 where none is given. The frames of a video are images of the name `<file>#<number>`, as
    in what is written here for a video. frames: boxes are wanted for those too, which a detection file cannot give.
    Raises DataError for a file of another form.
    """
    content = read_json(path, "detection file")
    if isinstance(content, dict):
        return _source(_annotated(content, path), least_score, lambda picture: picture.name)
    if not isinstance(content, list):
        raise DataError(f"detection file {path} must hold a list of detections, not a {type(content).__name__}")
    if frames:
        raise DataError(
            f"detection file {path} gives boxes to pictures, not to a video's frames; give an annotation file with "
            "images named <video>#<frame>, or leave it out for videos"
        )
    rows: _Rows = {}
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or not {"image_id", "category_id", "score"} <= entry.keys():
            raise DataError(f"detection file {path}: entry {number} needs image_id, category_id, bbox and score")
        _add(rows, _key(str(entry["image_id"])), entry, f"detection file {path}: entry {number}")
    return _source(rows, least_score, lambda picture: _key(picture.stem))


def _annotated(content: dict[str, Any], path: Path) -> _Rows:
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DataError(f"annotation file {path} needs the lists images and annotations, as in COCO's files")
    rows: _Rows = {}
    try:
        names = {image["id"]: Path(image["file_name"]).name for image in images}
        for number, entry in enumerate(annotations):
            if not entry.get("iscrowd", 0):
                _add(rows, names[entry["image_id"]], entry, f"annotation file {path}: annotation {number}")
    except (KeyError, TypeError, AttributeError):
        raise DataError(
            f"annotation file {path}: images need id and file_name, annotations the image_id of one of them"
        ) from None
    # A detector's box without area is a mistake to be told; annotators leave such boxes.
    return {name: [row for row in some if row[2] > 0 and row[3] > 0] for name, some in rows.items()}


def _add(rows: _Rows, key: str, entry: dict[str, Any], where: str) -> None:
    box, score = entry.get("bbox"), entry.get("score", 1.0)
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in (*box, score)):
        raise DataError(f"{where} needs four finite numbers as bbox and one as score")
    if entry.get("category_id", PERSON_CATEGORY) == PERSON_CATEGORY:
        rows.setdefault(key, []).append([*box, score])


def _source(rows: _Rows, least_score: float, key_of: Callable[[Path], str]) -> BoxSource:
    def boxes(picture: Path, _: np.ndarray) -> Boxes:
        found = np.array([row for row in rows.get(key_of(picture), []) if row[4] >= least_score], float).reshape(-1, 5)
        return found[:, :4], found[:, 4]

    return boxes


def _key(name: str) -> str:
    return name.lstrip("0") or "0"
