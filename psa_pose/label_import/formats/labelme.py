"""labelme's JSON files, one for each picture.

The README of github.com/labelmeai/labelme and issues 633, 714, 904 and 925: `group_id` joins the shapes of one
instance, `imagePath` is relative to the file, a point's label is the keypoint's name. There is no place
for visibility: a flag named occluded or hidden makes a point hidden; a point drawn at (0, 0) is taken as not labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.label_import.formats.label_studio import polygon_area
from psa_pose.label_import.records import (
    LabelledImage,
    Ledger,
    Source,
    Wishes,
    as_dict,
    group_key,
    number,
    numbers,
    ordered_names,
    read_label_json,
    slashes,
)
from psa_pose.label_import.regions import Box, Point, join_regions, keep_one_category

HIDDEN = ("occluded", "hidden", "invisible")


def is_labelme(content: Any) -> bool:
    """True for the content of one labelme file."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(paths: Sequence[Path], root: Path, wishes: Wishes, ledger: Ledger) -> Source:
    """The instances of labelme files. Keypoints in the order in which they are first met, unless they are COCO's."""
    found = []
    for path in paths:
        content = read_label_json(path)
        name = slashes(content["imagePath"]) if is_labelme(content) else ""
        if not name:
            ledger.leave_out("files that are not labelme's", path.name)
            continue
        found.append((path, name, content, *_shapes(content["shapes"], path.name, ledger)))
    names = ordered_names([point.name for *_, points, _ in found for point in points], wishes.names)
    source = Source("labelme", names, [], root)
    for path, name, content, points, boxes in found:
        size = numbers([content.get("imageWidth"), content.get("imageHeight")], 2)
        image = LabelledImage(name, path.parent, (float(size[0]), float(size[1])) if size is not None else None)
        image.instances = join_regions(points, boxes, names, ledger, path.name)
        source.images.append(image)
    keep_one_category(source, wishes, ledger)
    return source


def _shapes(shapes: list[Any], where: str, ledger: Ledger) -> tuple[list[Point], list[Box]]:
    points, boxes = [], []
    for shape in shapes:
        if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
            ledger.leave_out("shapes without points", where)
            continue
        kind, label, group = shape.get("shape_type"), str(shape.get("label")), group_key(shape.get("group_id"))
        corners = np.array([[number(v) for v in p] for p in shape["points"] if isinstance(p, list) and len(p) == 2])
        if not len(corners) or not np.isfinite(corners).all():
            ledger.leave_out("shapes without points", f"{where}: {label}")
        elif kind == "point":
            flags = as_dict(shape.get("flags"))
            visibility = 1 if any(flags.get(word) for word in HIDDEN) else 2
            points.append(Point(label, float(corners[0, 0]), float(corners[0, 1]), visibility, group))
        elif kind in ("rectangle", "polygon") and len(corners) >= 2:
            low, high = corners.min(0), corners.max(0)
            area = polygon_area(corners) if kind == "polygon" else None
            boxes.append(Box(label, np.concatenate([low, high - low]), area, group))
        else:
            ledger.leave_out("shapes that are no point, rectangle or polygon", f"{where}: {label} ({kind})")
    return points, boxes
