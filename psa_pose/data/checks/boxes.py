"""A detector's boxes held against the annotated persons: do they find them, and are they what they should be?"""

from __future__ import annotations

import numpy as np

from psa_pose.data.checks.findings import ERROR_BELOW, Finding
from psa_pose.data.checks.readings import BOX_READINGS, iou, on_images
from psa_pose.data.formats.coco import Labels, Persons

# Intersection over union from which a box finds a person.
FOUND = 0.5


def check_boxes(found: Persons, labels: Labels | None) -> list[Finding]:
    """What is wrong with detected boxes, the errors first. labels: the annotated persons, where there are some."""
    sizes = found.image_sizes[found.image]
    if not len(found):
        return []
    return [*_wrong_reading(found, sizes, labels), *_scores(found), *_off_picture(found, sizes), *_repeats(found)]


def detector_recall(found: Persons, labels: Labels, boxes: np.ndarray | None = None) -> float:
    """Share of the annotated persons that a box finds at IoU 0.5; NaN where nobody is annotated.

    found: boxes by image, as `detected_persons` gives them; boxes: (N, 4) in their place.
    """
    if not len(labels):
        return float("nan")
    boxes = found.boxes if boxes is None else boxes
    first = np.searchsorted(found.image, labels.image, "left")
    count = np.searchsorted(found.image, labels.image, "right") - first
    # Every person with every box of its image, in one list.
    person = np.repeat(np.arange(len(labels)), count)
    box = np.arange(len(person)) + np.repeat(first - (np.cumsum(count) - count), count)
    hit = iou(labels.boxes[person], boxes[box]) >= FOUND
    return float(len(np.unique(person[hit])) / len(labels))


def _wrong_reading(found: Persons, sizes: np.ndarray, labels: Labels | None) -> list[Finding]:
    """An error where another reading of the boxes finds the persons, or lies on the images, as the stated does not."""
    if labels is None or not len(labels):
        return _wrong_without_truth(found, sizes)
    stated = detector_recall(found, labels)
    if stated >= ERROR_BELOW:
        return []
    recalls = {name: detector_recall(found, labels, read(found.boxes, sizes)) for name, read in BOX_READINGS.items()}
    name = max(recalls, key=lambda key: recalls[key])
    text = f"the boxes find {100 * stated:.0f} % of the {len(labels):,} annotated persons at IoU {FOUND}"
    if recalls[name] >= max(ERROR_BELOW, 2 * stated):
        remedy = "write bbox as x, y, width, height in pixels"
        return [Finding("error", f"{text}; as {name} they would find {100 * recalls[name]:.0f} %: {remedy}")]
    advice = "are they of these images, at this size? A person that no box finds counts as missed"
    return [Finding("warning", f"{text}; {advice}")]


def _wrong_without_truth(found: Persons, sizes: np.ndarray) -> list[Finding]:
    """Without annotations only the images can contradict the boxes."""
    if (found.boxes <= 1).all():
        text = "all boxes lie within 1 pixel: fractions of the image?"
        return [Finding("error", f"{text} Write x, y, width, height in pixels")]
    stated = on_images(found.boxes, sizes, 0.05).mean()
    name = "corners x1, y1, x2, y2"
    would = on_images(BOX_READINGS[name](found.boxes, sizes), sizes, 0.05).mean()
    if stated >= 0.75 or would < 0.95:
        return []
    text = f"{100 * stated:.0f} % of the boxes lie on their image; as {name} {100 * would:.0f} % would"
    return [Finding("error", f"{text}: write bbox as x, y, width, height in pixels")]


def _scores(found: Persons) -> list[Finding]:
    strange = (found.scores < 0) | (found.scores > 1)
    if not strange.any():
        return []
    low, high = found.scores.min(), found.scores.max()
    text = f"{strange.sum():,} of {len(found):,} boxes have a score outside 0 to 1 ({low:.3g} to {high:.3g})"
    return [Finding("warning", f"{text}; a person's score is the box's times its keypoints': write scores from 0 to 1")]


def _off_picture(found: Persons, sizes: np.ndarray) -> list[Finding]:
    known = (sizes > 0).all(1)
    beside = (found.boxes[:, :2] >= sizes).any(1) | (found.boxes[:, :2] + found.boxes[:, 2:] <= 0).any(1)
    beside &= known
    findings = []
    if beside.any():
        text = f"{beside.sum():,} of {len(found):,} boxes lie off their picture, such as {_first(found, beside)}"
        findings.append(Finding("warning", f"{text}; nobody can be found there: clip or remove them"))
    reach = known & ~beside & ~on_images(found.boxes, sizes, 0.1)
    if reach.mean() > 0.1:
        text = f"{reach.sum():,} of {len(found):,} boxes reach out of their picture, such as {_first(found, reach)}"
        findings.append(Finding("warning", f"{text}; write pixels of the picture whose size the annotations state"))
    return findings


def _repeats(found: Persons) -> list[Finding]:
    rows = np.ascontiguousarray(np.concatenate([found.image[:, None], found.boxes], axis=1))
    _, first = np.unique(rows.view(f"V{rows.shape[1] * rows.itemsize}"), return_index=True)
    again = np.ones(len(found), bool)
    again[first] = False
    if not again.any():
        return []
    text = f"{again.sum():,} of {len(found):,} boxes are another once more, such as {_first(found, again)}"
    return [Finding("warning", f"{text}; give each box once")]


def _first(found: Persons, which: np.ndarray) -> str:
    row = int(np.flatnonzero(which)[0])
    return f"{found.boxes[row].round(2).tolist()} on image {found.image_ids[found.image[row]]}"
