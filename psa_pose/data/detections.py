"""Person boxes of a detector, in COCO's result format, as the same arrays as annotated persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from psa_pose.data.coco import Annotations, Persons, image_arrays, is_id, is_number
from psa_pose.errors import DataError
from psa_pose.files import read_json
from psa_pose.skeleton import Skeleton

PERSON = 1


def detected_persons(
    path: Path, annotations: Annotations, skeleton: Skeleton, least_score: float = 0.0
) -> tuple[Persons, list[str]]:
    """The detector's person boxes on the annotated images, and what is wrong with those that cannot be used.

    path: JSON list of {"image_id", "category_id", "bbox": [x, y, w, h] in image pixels, "score"}. Boxes of other
    categories and below `least_score` are not persons to evaluate; boxes are not clipped, as published. The order is by
    image, so that the boxes of one image follow each other. joints and visible are zero.
    """
    content = read_json(path, "detection file")
    if not isinstance(content, list):
        raise DataError(f"detection file {path} must hold a list of detections, not a {type(content).__name__}")
    for number, detection in enumerate(content):
        if not isinstance(detection, dict) or not {"image_id", "category_id", "bbox", "score"} <= detection.keys():
            raise DataError(f"detection file {path}: entry {number} needs image_id, category_id, bbox and score")
        if not is_id(detection["image_id"]) or not is_number(detection["score"]):
            raise DataError(f"detection file {path}: entry {number} needs a whole number as image_id and one as score")
    image_ids, image_names = image_arrays(annotations)
    row_of = {int(image_id): row for row, image_id in enumerate(image_ids)}
    chosen = [d for d in content if d["category_id"] == PERSON and d["score"] >= least_score]
    strangers = sorted({d["image_id"] for d in chosen} - row_of.keys())
    if strangers:
        raise DataError(
            f"detection file {path} has boxes on image {strangers[0]}, which {annotations.path} does not list "
            f"({len(strangers)} such images); the two files belong to different splits"
        )
    chosen.sort(key=lambda d: row_of[d["image_id"]])
    try:
        boxes = np.array([d["bbox"] for d in chosen], float).reshape(-1, 4)
        scores = np.array([d["score"] for d in chosen], float)
    except (TypeError, ValueError):
        raise DataError(f"detection file {path}: every bbox must be four numbers and every score one") from None
    usable = np.isfinite(boxes).all(1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0) & np.isfinite(scores)
    problems = [
        f"detection file {path}: the box {chosen[i]['bbox']} on image {chosen[i]['image_id']} has no area"
        for i in np.flatnonzero(~usable)
    ]
    persons = Persons(
        image_ids,
        image_names,
        image=np.array([row_of[d["image_id"]] for d in chosen], np.int64),
        annotation_ids=np.full(len(chosen), -1, np.int64),
        boxes=boxes,
        scores=scores,
        joints=np.zeros((len(chosen), skeleton.num_joints, 2), np.float32),
        visible=np.zeros((len(chosen), skeleton.num_joints), np.float32),
    )
    return persons.select(usable), problems
