"""Person boxes of a detector, in COCO's result format, as the same arrays as annotated persons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.data.formats.coco import Annotations, Persons, image_arrays, image_sizes
from psa_pose.data.formats.coco_form import are_numbers, is_id, is_number, wrong_number
from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.skeleton import Skeleton


def detected_persons(
    path: Path, annotations: Annotations, skeleton: Skeleton, least_score: float = 0.0
) -> tuple[Persons, list[str]]:
    """The detector's person boxes on the annotated images, and what is wrong with those that cannot be used.

    path: JSON list of {"image_id", "category_id", "bbox": [x, y, w, h] in image pixels, "score"}. Boxes of other
    categories than the annotations' and those below `least_score` are not persons to evaluate; boxes are not clipped,
    as published. The order is by image, so that the boxes of one image follow each other. joints and visible are zero.
    """
    content = read_json(path, "detection file")
    if not isinstance(content, list):
        raise DataError(f"detection file {path} must hold a list of detections, not a {type(content).__name__}")
    for number, detection in enumerate(content):
        problem = _problem(detection)
        if problem:
            raise DataError(f"detection file {path}: entry {number} {problem}")
    image_ids, image_names = image_arrays(annotations)
    row_of = {int(image_id): row for row, image_id in enumerate(image_ids)}
    persons_only = [d for d in content if d["category_id"] == annotations.category]
    if content and not persons_only:
        listed = ", ".join(sorted({str(d["category_id"]) for d in content})[:5])
        raise DataError(
            f"detection file {path}: all {len(content):,} boxes are of category {listed}; {annotations.category} is "
            f"read, the persons' in {annotations.path}: write it as category_id of the persons"
        )
    chosen = [d for d in persons_only if d["score"] >= least_score]
    if persons_only and not chosen:
        raise DataError(
            f"detection file {path}: all {len(persons_only):,} boxes score below TEST.BOX_SCORE, {least_score:g}; "
            "lower it, or write scores from 0 to 1"
        )
    if not annotations.in_file:
        # A range of the images is tested, and the file may be of all.
        chosen = [d for d in chosen if d["image_id"] in row_of]
    strangers = sorted({d["image_id"] for d in chosen} - row_of.keys())
    if strangers:
        raise DataError(
            f"detection file {path} has boxes on image {strangers[0]}, which {annotations.path} does not list "
            f"({len(strangers)} such images); the two files belong to different splits"
        )
    chosen.sort(key=lambda d: row_of[d["image_id"]])
    boxes = np.array([d["bbox"] for d in chosen], float).reshape(-1, 4)
    scores = np.array([d["score"] for d in chosen], float)
    usable = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    problems = [
        f"detection file {path}: the box {chosen[i]['bbox']} on image {chosen[i]['image_id']} has no area"
        for i in np.flatnonzero(~usable)
    ]
    persons = Persons(
        image_ids,
        image_names,
        image_sizes(annotations),
        image=np.array([row_of[d["image_id"]] for d in chosen], np.int64),
        annotation_ids=np.full(len(chosen), -1, np.int64),
        boxes=boxes,
        scores=scores,
        joints=np.zeros((len(chosen), skeleton.num_joints, 2), np.float32),
        visible=np.zeros((len(chosen), skeleton.num_joints), np.float32),
    )
    return persons.select(usable), problems


def _problem(detection: Any) -> str:
    """What is wrong with the form of an entry, and the remedy; "" where nothing is."""
    if not isinstance(detection, dict) or not {"image_id", "category_id", "bbox", "score"} <= detection.keys():
        return "needs image_id, category_id, bbox and score; write the file anew"
    for key in ("image_id", "category_id"):
        if not is_id(detection[key]):
            return f"has {wrong_number(detection[key])} as {key}; write a whole number"
    if not is_number(detection["score"]):
        return f"has {wrong_number(detection['score'])} as score; write a number from 0 to 1"
    box = detection["bbox"]
    if not isinstance(box, list) or len(box) != 4:
        return "has a bbox that is not four numbers; write x, y, width and height"
    if not are_numbers(box):
        wrong = next(value for value in box if not is_number(value))
        return f"has {wrong_number(wrong)} in its bbox; write x, y, width and height as numbers"
    return ""
