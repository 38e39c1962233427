"""Where a picture's person boxes come from: a COCO file, a detector, or the whole picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.formats.coco_form import PERSON_CATEGORY, is_number
from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.inference.match import match_names
from psa_pose.media.files import is_video

# Boxes (N, 4) x, y, width, height in image pixels, None for the whole picture; and their scores (N,).
Boxes = tuple[np.ndarray | None, np.ndarray | None]
# Path and pixels (H, W, 3) of a picture -> its boxes. A frame of a video has the path <video>#<number>.
BoxSource = Callable[[Path, np.ndarray], Boxes]
# Boxes with their scores, of each picture.
_Rows = dict[str, list[list[float]]]


def whole_picture(path: Path, pixels: np.ndarray) -> Boxes:
    """One box, as large as the picture."""
    return None, None


def boxes_of_file(path: Path, least_score: float = 0.0, files: Sequence[Path] = ()) -> BoxSource:
    """The persons of a COCO file. A picture without boxes has nobody on it.

    A detection file is a list of {"image_id", "category_id", "bbox": [x, y, w, h], "score"}; a box belongs to the
    picture whose name without suffix is its image_id, leading zeros aside, as COCO's files are named. An annotation
    file is {"images", "annotations"}, and its pictures are found by their file_name; crowds and boxes without area are
    left out, and the score is 1 where none is given. The frames of a video are images of the name `<file>#<number>`, as
    in what is written here for a video; a detection file cannot give those.
    files: the pictures and videos that boxes are wanted for, see `match_names`.
    Raises DataError for a file of another form, and where it does not say which of two pictures it means.
    """
    content = read_json(path, "detection file")
    if isinstance(content, dict):
        return _source(_annotated(content, path), least_score, files, f"annotation file {path}", False)
    if not isinstance(content, list):
        raise DataError(f"detection file {path} must hold a list of detections, not a {type(content).__name__}")
    if any(map(is_video, files)):
        raise DataError(
            f"detection file {path} gives boxes to pictures, not to a video's frames; give an annotation file with "
            "images named <video>#<frame>, or leave it out for videos"
        )
    rows: _Rows = {}
    for number, entry in enumerate(content):
        if not isinstance(entry, dict) or not {"image_id", "category_id", "score"} <= entry.keys():
            raise DataError(f"detection file {path}: entry {number} needs image_id, category_id, bbox and score")
        _add(rows, str(entry["image_id"]), entry, PERSON_CATEGORY, f"detection file {path}: entry {number}")
    _check_category(content, PERSON_CATEGORY, f"detection file {path}")
    return _source(rows, least_score, files, f"detection file {path}", True)


def _annotated(content: dict[str, Any], path: Path) -> _Rows:
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DataError(f"annotation file {path} needs the lists images and annotations, as in COCO's files")
    try:
        names = {image["id"]: image["file_name"].replace("\\", "/") for image in images}
        rows: _Rows = {name: [] for name in names.values()}
        twice = next((name for name, count in Counter(names.values()).items() if count > 1), None)
        if twice is not None:
            raise DataError(
                f"annotation file {path}: two images are named {twice!r}; write their folders into the file_name"
            )
        persons = next((c["id"] for c in content.get("categories", []) if c.get("keypoints")), PERSON_CATEGORY)
        for number, entry in enumerate(annotations):
            if not entry.get("iscrowd", 0):
                _add(rows, names[entry["image_id"]], entry, persons, f"annotation file {path}: annotation {number}")
        _check_category(annotations, persons, f"annotation file {path}")
    except (KeyError, TypeError, AttributeError):
        raise DataError(
            f"annotation file {path}: images need id and file_name, annotations the image_id of one of them"
        ) from None
    # A detector's box without area is a mistake to be told; annotators leave such boxes.
    return {name: [row for row in some if row[2] > 0 and row[3] > 0] for name, some in rows.items()}


def _add(rows: _Rows, key: str, entry: dict[str, Any], category: int, where: str) -> None:
    box, score = entry.get("bbox"), entry.get("score", 1.0)
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in (*box, score)):
        raise DataError(f"{where} needs four finite numbers as bbox and one as score")
    if entry.get("category_id", category) == category:
        rows.setdefault(key, []).append([*box, score])


def _check_category(entries: Sequence[dict[str, Any]], category: int, what: str) -> None:
    """Raise DataError where all entries are of other categories than the persons'."""
    stated = {entry.get("category_id", category) for entry in entries}
    if entries and category not in stated:
        raise DataError(
            f"{what}: all {len(entries):,} boxes are of category {', '.join(sorted(map(str, stated))[:5])}; {category} "
            "is read, the persons': write it as their category_id"
        )


def _source(rows: _Rows, least_score: float, files: Sequence[Path], what: str, stems: bool) -> BoxSource:
    names = dict.fromkeys(_split_frame(name)[0] for name in rows)
    known = match_names(files, names, what, stems)
    if files and not stems and not any(known.values()):
        raise DataError(
            f"{what} names none of the {len(files)} files, such as {files[0]} (it names "
            f"{next(iter(names), 'nothing')}); give the file that was made for them"
        )

    def boxes(picture: Path, _: np.ndarray) -> Boxes:
        file, frame = _split_frame(str(picture))
        name = known.get(Path(file))
        if name is None:
            name = match_names([Path(file)], names, what, stems)[Path(file)]
        some = rows.get(name + frame, [])
        found = np.array([row for row in some if row[4] >= least_score], float).reshape(-1, 5)
        return found[:, :4], found[:, 4]

    return boxes


def _split_frame(name: str) -> tuple[str, str]:
    """The file of a video's frame, and "#<number>"; a picture's name, and ""."""
    file, mark, number = name.rpartition("#")
    return (file, mark + number) if number.isdecimal() and is_video(Path(file)) else (name, "")
