"""Facts of an annotation file that must agree with each other, compared on the arrays: boxes, keypoints, areas, images.

A file may be well formed and still wrong: another scale, another corner, fractions. What it says is then trained on.
"""

from __future__ import annotations

import numpy as np

from psa_pose.data.checks.findings import WARN_BELOW, Finding, of_share, some
from psa_pose.data.checks.readings import BOX_READINGS, count_in, extents, in_boxes, iou, on_images, point_readings
from psa_pose.data.formats.coco import Labels, Persons

# Of COCO's persons the mask is 16 to 95 % of the box; far outside it is another unit.
AREA_SHARES = (0.02, 1.05)
# Labels of at least so many images fill more than this share of the width or of the height.
FILLED, FILLED_IMAGES = 0.6, 5
# A box that leaves out so many of its keypoints, or all of them, is drawn wrongly; of COCO's about 1 % do.
LEFT_OUT, LEFT_OUT_SHARE = 4, 0.02


def check_labels(labels: Labels) -> list[Finding]:
    """What contradicts itself in the labels of a file, the errors first."""
    if not len(labels):
        return []
    around = extents(labels.joints, labels.visible)
    held = in_boxes(labels.boxes, labels.joints, labels.visible)
    return (
        _fractions(labels, around)
        or _wrong_boxes(labels, around, held)
        or [
            *_positions(labels, around, held),
            *_areas(labels),
            *_corner_points(labels),
            *_repeats(labels),
            *_filled(labels),
        ]
    )


def check_crops(persons: Persons, padding: float) -> list[Finding]:
    """The same of persons without boxes of their own, such as MPII's: their keypoints lie in the crops.

    padding: of the crops, as a factor.
    """
    some_labelled = persons.select(np.flatnonzero(persons.visible.any(1)))
    low, size = np.split(some_labelled.boxes, 2, axis=1)
    boxes = np.concatenate([low - (padding - 1) / 2 * size, padding * size], axis=1)
    held = in_boxes(boxes, some_labelled.joints, some_labelled.visible > 0)
    remedy = "centre, scale and joints must be of the same picture, scale in units of 200 pixels"
    return of_share(held, some_labelled.annotation_ids, "have their labelled joints in their crop", remedy)


def _fractions(labels: Labels, around: np.ndarray) -> list[Finding]:
    """Boxes and keypoints that are both fractions agree with each other, and with every picture."""
    tiny = (around[:, :2] >= 0).all(1) & (around[:, :2] + around[:, 2:] <= 1).all(1)
    if tiny.mean() < 0.5 or _small_sizes(labels):
        return []
    text = f"the keypoints of {tiny.sum():,} of {len(tiny):,} persons lie within 1 pixel ({some(labels.ids[tiny])})"
    return [Finding("error", f"{text}: fractions of the image? Write pixels")]


def _wrong_boxes(labels: Labels, around: np.ndarray, held: np.ndarray) -> list[Finding]:
    """An error where the boxes hold the keypoints in another reading, and not as x, y, width, height."""
    if _small_sizes(labels):
        return []
    stated, stated_iou = held & on_images(labels.boxes, labels.sizes), _likeness(around, labels.boxes)
    best, text = 0.0, ""
    # Only corners, taken for width and height, may still hold the keypoints: in much larger boxes.
    readings = list(BOX_READINGS.items())[: None if stated.mean() < 0.75 else 1]
    for name, read in readings:
        boxes = read(labels.boxes, labels.sizes)
        fit = _fit(labels, boxes).mean()
        likeness = _likeness(around, boxes)
        better = stated.mean() < 0.75 or likeness > 2 * stated_iou
        if better and fit >= 0.8 and likeness > max(best, stated_iou):
            best = likeness
            text = (
                f"as x, y, width, height {stated.sum():,} of {len(stated):,} boxes lie on their image and hold their "
                f"own keypoints; as {name} {round(fit * len(stated)):,} would: write bbox as x, y, width, height in "
                "pixels"
            )
    return [Finding("error", text)] if text else []


def _small_sizes(labels: Labels) -> bool:
    return bool((labels.sizes < 4).any(1).mean() > 0.5)


def _fit(labels: Labels, boxes: np.ndarray) -> np.ndarray:
    return in_boxes(boxes, labels.joints, labels.visible) & on_images(boxes, labels.sizes)


def _likeness(around: np.ndarray, boxes: np.ndarray) -> float:
    return float(np.median(iou(around, boxes)))


def _positions(labels: Labels, around: np.ndarray, held: np.ndarray) -> list[Finding]:
    """Keypoints in their box; boxes and keypoints on their image. held (N,): whose box has most of its keypoints."""
    remedy = "boxes and keypoints must be pixels of the same picture"
    if held.mean() < WARN_BELOW:
        readings = point_readings(labels.joints, labels.visible, labels.boxes, labels.sizes)
        shares = {name: in_boxes(labels.boxes, joints, labels.visible).mean() for name, joints in readings.items()}
        name = max(shares, key=lambda key: shares[key])
        if shares[name] >= max(0.8, 1.5 * held.mean()):
            remedy = f"as {name} the keypoints of {100 * shares[name]:.0f} % would: write pixels of the picture"
    # Those who lie farthest from their box are named first.
    distance = np.abs(around[:, :2] + around[:, 2:] / 2 - labels.boxes[:, :2] - labels.boxes[:, 2:] / 2).max(1)
    order = np.argsort(-np.nan_to_num(distance), kind="stable")
    found = of_share(held[order], labels.ids[order], "have their labelled keypoints in their box", remedy)
    size = np.concatenate([np.zeros_like(labels.sizes), labels.sizes], axis=1)
    shown = labels.visible.sum(1)
    there = count_in(size, labels.joints, labels.visible, 0.02, 2) == shown
    there |= (labels.sizes == 0).any(1)
    picture = "labels must be pixels of the picture whose size the file states: were they made at another size?"
    found += of_share(there, labels.ids, "have their labelled keypoints on their image", picture)
    boxes = on_images(labels.boxes, labels.sizes, 0.05)
    found += of_share(boxes, labels.ids, "have a box that lies on their image", picture)
    outside = shown - count_in(labels.boxes, labels.joints, labels.visible, 0, 0)
    poor = outside >= LEFT_OUT
    if not found and poor.mean() > LEFT_OUT_SHARE:
        beside = outside == shown
        also = (
            f", {beside.sum():,} of them lie beside their person ({some(labels.ids[beside])})" if beside.any() else ""
        )
        text = f"{poor.sum():,} boxes leave out {LEFT_OUT} or more of their own keypoints ({some(labels.ids[poor])})"
        found.append(Finding("warning", f"{text}{also}; mend these boxes, or the crops cut the persons"))
    return found


def _areas(labels: Labels) -> list[Finding]:
    sides = np.maximum(labels.boxes[:, 2:], 0).prod(1)
    plausible = (labels.areas <= AREA_SHARES[1] * sides + 1) & (labels.areas >= AREA_SHARES[0] * sides)
    share = f"have an area of {100 * AREA_SHARES[0]:.0f} to 100 % of their box"
    remedy = "OKS divides by the area: write the mask's, in square pixels"
    return of_share(plausible, labels.ids, share, remedy)


def _corner_points(labels: Labels) -> list[Finding]:
    """Points that are not there are often written as 0, 0; some tools label them all the same."""
    points = labels.visible & (labels.joints == 0).all(-1)
    persons = points.any(1)
    if not persons.any():
        return []
    level = "error" if persons.mean() > 0.05 and points.sum() > 3 else "warning"
    text = f"{points.sum():,} keypoints of {persons.sum():,} persons are labelled (v > 0) at exactly 0, 0"
    return [Finding(level, f"{text} ({some(labels.ids[persons])}); a point that is not there has v 0")]


def _repeats(labels: Labels) -> list[Finding]:
    points = labels.joints.sum(1, dtype=float, where=labels.visible[..., None])
    facts = [labels.image, *labels.boxes.T, *points.T]
    # Fact by fact: whole rows, sorted, would be the largest arrays of a start at COCO's size.
    order = np.lexsort(facts)
    same = np.logical_and.reduce([fact[order[1:]] == fact[order[:-1]] for fact in facts])
    if not same.any():
        return []
    again = np.sort(order[1:][same])
    text = f"{len(again):,} persons are annotated more than once ({some(labels.ids[again])})"
    return [Finding("warning", f"{text}: AP asks for each of them; keep one")]


def _filled(labels: Labels) -> list[Finding]:
    """Labels made on smaller pictures agree with each other and lie on the larger ones: all in a corner of them."""
    known = (labels.sizes > 0).all(1)
    if len(np.unique(labels.image[known])) < FILLED_IMAGES:
        return []
    ends = (labels.boxes[:, :2] + labels.boxes[:, 2:])[known] / labels.sizes[known]
    width, height = ends.max(0)
    if max(width, height) >= FILLED:
        return []
    text = f"no box reaches beyond {100 * width:.0f} % of its picture's width and {100 * height:.0f} % of its height"
    return [Finding("warning", f"{text}; were the labels made on smaller pictures?")]
