"""Label Studio's own JSON export: tasks with regions in percent of the image.

"Export annotations and data from Label Studio" (labelstud.io/guide/export) and "Units of image annotations"
(docs.humansignal.com/includes/image_units): x and y of a keypoint, x, y, width and height of a rectangle are percent of
original_width and original_height; a keypoint's `parentID` is the region that it belongs to.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.errors import DataError
from psa_pose.label_import.records import (
    LabelledImage,
    Ledger,
    Source,
    Wishes,
    as_dict,
    dicts,
    group_key,
    number,
    ordered_names,
    read_label_json,
    slashes,
)
from psa_pose.label_import.regions import Box, Point, join_regions, keep_one_category


def is_label_studio(content: Any) -> bool:
    """True for a list of tasks."""
    return isinstance(content, list) and bool(content) and all(isinstance(t, dict) for t in content)


def read_label_studio(path: Path, root: Path, wishes: Wishes, ledger: Ledger) -> Source:
    """The instances of all tasks. Raises DataError where a file has no task with results, as the JSON-MIN export."""
    tasks = read_label_json(path)
    if not any(isinstance(task.get("annotations"), list) for task in tasks):
        raise DataError(
            f"label file {path} has no annotations with results; export the project as JSON, not as JSON-MIN"
        )
    found = [(_image_name(task, path), _results(task, ledger)) for task in tasks]
    regions = [(name, size, *_regions(results, name, ledger)) for name, (size, results) in found]
    names = ordered_names([point.name for *_, points, _ in regions for point in points], wishes.names)
    source = Source("Label Studio, JSON", names, [], root)
    for name, size, points, boxes in regions:
        image = LabelledImage(name, path.parent, size)
        image.instances = join_regions(points, boxes, names, ledger, name)
        source.images.append(image)
    keep_one_category(source, wishes, ledger)
    return source


def _image_name(task: dict[str, Any], path: Path) -> str:
    """The picture that the task's data names: the value that ends like one, without a server's address."""
    values = [v for v in as_dict(task.get("data")).values() if isinstance(v, str)]
    if not values:
        raise DataError(f"label file {path}: task {task.get('id')} names no picture in its data; export it again")
    images = [v for v in values if v.lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))]
    name = slashes((images or values)[0])
    return name.rpartition("?d=")[2].split("://")[-1].lstrip("/")


def _results(task: dict[str, Any], ledger: Ledger) -> tuple[tuple[float, float] | None, list[dict[str, Any]]]:
    """The size of the image and the regions of the newest annotation that was not cancelled."""
    kept = sorted(
        (a for a in dicts(task.get("annotations")) if not a.get("was_cancelled")),
        key=lambda a: str(a.get("created_at", "")),
    )
    for _ in kept[:-1]:
        ledger.leave_out("older annotations of a task that has a newer one", f"task {task.get('id')}")
    results = dicts(kept[-1].get("result")) if kept else []
    sizes = [(number(r.get("original_width")), number(r.get("original_height"))) for r in results]
    good = [size for size in sizes if min(size) > 0]
    return (good[0] if good else None), results


def _regions(results: list[dict[str, Any]], where: str, ledger: Ledger) -> tuple[list[Point], list[Box]]:
    points, boxes = [], []
    for result in results:
        value = as_dict(result.get("value"))
        width, height = number(result.get("original_width")) / 100, number(result.get("original_height")) / 100
        kind = str(result.get("type"))
        labels = value.get(kind) if isinstance(value.get(kind), list) else []
        label = str(labels[0]) if labels else ""
        if kind == "keypointlabels" and label:
            x, y = number(value.get("x")) * width, number(value.get("y")) * height
            points.append(Point(label, x, y, 2, group_key(result.get("parentID"))))
        elif kind in ("rectanglelabels", "polygonlabels"):
            box, area = _box(value, width, height)
            if box is not None:
                boxes.append(Box(label, box, area, group_key(result.get("id"))))
        else:
            ledger.leave_out("regions that are no keypoint, rectangle or polygon", f"{where}: {kind}")
    return points, boxes


def _box(value: dict[str, Any], width: float, height: float) -> tuple[np.ndarray | None, float | None]:
    """Box and, of a polygon, area in pixels. A rectangle is turned about its first corner: the box is around it."""
    if isinstance(value.get("points"), list):
        corners = np.array(
            [[number(v) for v in p[:2]] for p in value["points"] if isinstance(p, list) and len(p) > 1]
        ).reshape(-1, 2)
        corners = corners * [width, height]
    else:
        x, y, w, h, turn = (number(value.get(k, 0)) for k in ("x", "y", "width", "height", "rotation"))
        sides = np.array([[0, 0], [w * width, 0], [w * width, h * height], [0, h * height]])
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        corners = sides @ np.array([[cos, sin], [-sin, cos]]) + [x * width, y * height]
    if len(corners) < 3 or not np.isfinite(corners).all():
        return None, None
    low, high = corners.min(0), corners.max(0)
    return np.concatenate([low, high - low]), (polygon_area(corners) if "points" in value else None)


def polygon_area(corners: np.ndarray) -> float:
    """Pixels within corners (N, 2), by the shoelace formula."""
    x, y = corners.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
