"""Loose points and boxes of an image, as labelme and Label Studio keep them, joined to instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.errors import DataError
from psa_pose.label_import.records import Instance, Ledger, Source, Wishes, blank_points


@dataclass(frozen=True)
class Point:
    """name: the keypoint. x, y, visibility. group: what joins it to others; None: nothing does."""

    name: str
    x: float
    y: float
    visibility: int
    group: Any = None


@dataclass(frozen=True)
class Box:
    """label: what is in it. box: x, y, width, height. area: of a polygon, else None. group: as of `Point`."""

    label: str
    box: np.ndarray
    area: float | None
    group: Any = None


def join_regions(
    points: Sequence[Point], boxes: Sequence[Box], names: Sequence[str], ledger: Ledger, where: str
) -> list[Instance]:
    """An instance for each group with points.

    A point without a group belongs to the only instance of its image, or to the only box around it; where neither
    tells, it is left out, and so is a box without points.
    """
    groups: dict[Any, tuple[list[Point], list[Box]]] = {}
    for number, box in enumerate(boxes):
        groups.setdefault(("box", number) if box.group is None else box.group, ([], []))[1].append(box)
    for point in points:
        if point.group is not None:
            groups.setdefault(point.group, ([], []))[0].append(point)
    loose = [point for point in points if point.group is None]
    if loose and not groups:
        groups[None] = ([], [])
    for point in loose:
        around = [key for key, (_, held) in groups.items() if any(_holds(box.box, point) for box in held)]
        owners = list(groups) if len(groups) == 1 else around
        if len(owners) == 1:
            groups[owners[0]][0].append(point)
        else:
            ledger.leave_out("points that no group and no box gives to one instance", f"{where}: {point.name}")
    for _, found in (pair for pair in groups.values() if not pair[0]):
        ledger.leave_out("boxes without points", f"{where}: {found[0].label}")
    return [_instance(held, found, names, ledger, where) for held, found in groups.values() if held]


def keep_one_category(source: Source, wishes: Wishes, ledger: Ledger) -> None:
    """Keep the instances of the wished category, or of the only one. Raises DataError where there are several."""
    labels = sorted({i.label for image in source.images for i in image.instances if i.label})
    if wishes.category and wishes.category not in labels:
        raise DataError(f"category {wishes.category!r} labels no box with points; choose one of {', '.join(labels)}")
    if len(labels) > 1 and not wishes.category:
        raise DataError(
            f"{len(labels)} kinds of boxes hold points ({', '.join(labels)}); choose one with --category NAME"
        )
    source.category = wishes.category or (labels[0] if labels else "person")
    for image in source.images:
        for instance in image.instances:
            if wishes.category and instance.label != wishes.category:
                ledger.leave_out("instances of other categories", instance.where)
        image.instances = [i for i in image.instances if not wishes.category or i.label == wishes.category]


def _instance(
    points: Sequence[Point], boxes: Sequence[Box], names: Sequence[str], ledger: Ledger, where: str
) -> Instance:
    array = blank_points(len(names))
    for point in points:
        if point.name not in names:
            ledger.leave_out("points of a name that is no keypoint", f"{where}: {point.name}")
        elif array[names.index(point.name), 2]:
            ledger.leave_out("second points of one name in an instance", f"{where}: {point.name}")
        else:
            array[names.index(point.name)] = point.x, point.y, point.visibility
    for box in boxes[1:]:
        ledger.leave_out("second boxes of an instance", f"{where}: {box.label}")
    first = boxes[0] if boxes else None
    if first is None:
        return Instance(array, where=where)
    return Instance(array, first.box, first.area, where=where, label=first.label)


def _holds(box: np.ndarray, point: Point) -> bool:
    x, y, width, height = box
    return bool(x <= point.x <= x + width and y <= point.y <= y + height)
