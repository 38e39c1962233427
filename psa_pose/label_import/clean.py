"""From what tools write to what a COCO keypoints file holds: a rule for what is missing or contradicts itself.

- A point is labelled where its numbers are finite, its visibility is above 0, and it lies in the image but not exactly
  at (0, 0); the others become 0, 0, 0 as in COCO.
- A box that is missing, has no area, or only just surrounds the labelled points (as exports of CVAT, Label Studio and
  SLEAP have it) is laid around the points, with MARGIN of the longer side on every side, within the image.
- An area that is missing, larger than the box or the whole box is AREA_SHARE of the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psa_pose.data.person_box import AREA_SHARE, MARGIN, box_around
from psa_pose.errors import DataError
from psa_pose.label_import.images import ImageFinder, Picture, measure
from psa_pose.label_import.records import Instance, LabelledImage, Ledger, Source


@dataclass
class CleanImage:
    """picture: the file. size: (width, height) that the coordinates are in. The rest as in `LabelledImage`."""

    picture: Picture
    size: tuple[int, int]
    instances: list[Instance]
    split: str
    group: str


def clean(source: Source, ledger: Ledger) -> list[CleanImage]:
    """The images that are there, with instances that a COCO file can hold. Raises DataError where none is left."""
    finder, seen = ImageFinder(source.root), set()
    found: list[tuple[LabelledImage, Picture, tuple[int, int]]] = []
    for image in source.images:
        path, reason = finder.find(image)
        if path is None:
            ledger.leave_out(reason, image.name)
        elif path.resolve() in seen:
            ledger.leave_out("pictures that are listed twice", image.name)
        else:
            seen.add(path.resolve())
            placed = _measured(image, path, ledger)
            found += [(image, *placed)] if placed else []
    if not found:
        reasons = "; ".join(f"{len(v)} {k}" for k, v in ledger.unused.items()) or "they list no picture"
        raise DataError(
            f"none of the {len(source.images)} labelled pictures can be used ({reasons}); give --images FOLDER"
        )
    if source.fractions:
        for image, _, size in found:
            _to_pixels(image.instances, size)
    _corners_to_sizes([(image.instances, size) for image, _, size in found], ledger)
    return [
        CleanImage(picture, size, _clean_all(image.instances, size, ledger), image.split, image.group)
        for image, picture, size in found
    ]


def _measured(image: LabelledImage, path: Path, ledger: Ledger) -> tuple[Picture, tuple[int, int]] | None:
    """The picture and the size that its labels are in; None where it is unreadable or of another size than stated."""
    try:
        picture = measure(path)
    except DataError:
        ledger.leave_out("pictures that cannot be read", image.name)
        return None
    if image.size is None or image.size == picture.upright:
        return picture, picture.upright
    if image.size == picture.stored:
        return picture, picture.stored
    stated, real = (f"{size[0]:g}x{size[1]:g}" for size in (image.size, picture.upright))
    ledger.leave_out("pictures of another size than the labels state", f"{image.name} is {real}, stated {stated}")
    return None


def _to_pixels(instances: Sequence[Instance], size: tuple[int, int]) -> None:
    for instance in instances:
        instance.points[:, :2] *= size
        if instance.box is not None and np.abs(instance.box).max() <= 1.5:
            instance.box = instance.box * [*size, *size]
            instance.area = None


def _corners_to_sizes(images: Sequence[tuple[list[Instance], tuple[int, int]]], ledger: Ledger) -> None:
    """Boxes that are x1, y1, x2, y2 become x, y, width, height.

    Taken for such: three or more, of which as sizes most leave the image, and as corners none does and nine in ten hold
    the points of their instance.
    """
    held = [
        (i, i.box, size)
        for instances, size in images
        for i in instances
        if i.box is not None and (i.points[:, 2] > 0).any()
    ]
    if len(held) < 3:
        return
    boxes, sizes = np.array([box for _, box, _ in held]), np.array([size for *_, size in held], float)
    leave = (boxes[:, :2] + boxes[:, 2:] > 1.02 * sizes + 1).any(1)
    fit = (boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes[:, 2:] <= sizes + 1).all(1)
    holds = []
    for instance, box, _ in held:
        points = instance.points[instance.points[:, 2] > 0, :2]
        holds.append(((points >= box[:2] - 1) & (points <= box[2:] + 1)).all())
    if leave.mean() > 0.5 and fit.all() and np.mean(holds) >= 0.9:
        for instance, box, _ in held:
            instance.box = np.concatenate([box[:2], box[2:] - box[:2]])
            ledger.did("boxes that were corners x1 y1 x2 y2, not sizes")


def _clean_all(instances: Sequence[Instance], size: tuple[int, int], ledger: Ledger) -> list[Instance]:
    done = [clean_instance(instance, size, ledger) for instance in instances]
    return [instance for instance in done if instance is not None]


def clean_instance(instance: Instance, size: tuple[int, int], ledger: Ledger) -> Instance | None:
    """The instance with points, box and area by this file's rules; None where neither points nor box give one."""
    points = _clean_points(instance.points, size, ledger)
    labelled = points[points[:, 2] > 0, :2]
    stated = _within(instance.box, size, ledger)
    tight = stated is not None and len(labelled) > 0 and _is_around(stated, labelled)
    box, area = stated, instance.area
    if stated is None or tight:
        laid = box_around(labelled, size)
        if laid is not None:
            ledger.did(
                f"boxes laid around the points with {MARGIN:g} of the longer side" + (", for tight ones" * tight)
            )
            whole = stated[2] * stated[3] if stated is not None else 0.0
            area = None if tight and area is not None and area >= 0.99 * whole else area
            box = laid
    if box is None:
        ledger.leave_out("instances with neither a box nor two points apart", instance.where)
        return None
    whole = box[2] * box[3]
    if area is None or not 0 < area < 0.99 * whole:
        ledger.did(f"areas set to {AREA_SHARE:g} of the box" + (", for larger ones or the whole box" * bool(area)))
        area = AREA_SHARE * whole
    return Instance(points, box, float(area), instance.crowd, instance.where)


def _clean_points(points: np.ndarray, size: tuple[int, int], ledger: Ledger) -> np.ndarray:
    points = points.astype(float)
    there = np.isfinite(points).all(1) & (points[:, 2] > 0)
    empty = there & (points[:, :2] == 0).all(1)
    outside = there & ~empty & ((points[:, :2] < -1) | (points[:, :2] > np.array(size) + 1)).any(1)
    ledger.did("points at (0, 0) taken as not labelled", empty.sum())
    ledger.did("points outside their image taken as not labelled", outside.sum())
    there &= ~empty & ~outside
    odd = there & ~np.isin(points[:, 2], (1, 2))
    ledger.did("visibilities other than 0, 1 and 2 taken as 2", odd.sum())
    points[odd, 2] = 2
    points[~there] = 0
    return points


def _within(box: np.ndarray | None, size: tuple[int, int], ledger: Ledger) -> np.ndarray | None:
    """The box within the image; None where nothing is left of it."""
    if box is None or not np.isfinite(box).all() or (box[2:] <= 0).any():
        return None
    low, high = np.clip(box[:2], 0, size), np.clip(box[:2] + box[2:], 0, size)
    if (high - low <= 1).any():
        return None
    ledger.did("boxes cut at the border of their image", (np.abs(high - low - box[2:]) > 1).any())
    return np.concatenate([low, high - low])


def _is_around(box: np.ndarray, points: np.ndarray) -> bool:
    """True for a box that ends at the outermost points, to a pixel's rounding."""
    around = np.concatenate([points.min(0), np.ptp(points, axis=0)])
    return bool(np.abs(box - around).max() <= 1)
