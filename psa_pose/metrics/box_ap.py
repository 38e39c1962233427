"""COCO's box AP of a detection file's persons."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.data.coco import Annotations, image_arrays
from psa_pose.data.coco_form import PERSON_CATEGORY as PERSON
from psa_pose.data.detections import detected_persons
from psa_pose.errors import DataError
from psa_pose.skeleton import COCO as COCO_SKELETON
from psa_pose.tables import format_columns

# Person AP on val2017 of the published detection file, as HRNet's and SimpleBaseline's repositories state it.
PUBLISHED = "COCO_val2017_detections_AP_H_56_person.json", 56.4


@dataclass(frozen=True)
class PersonAP:
    """COCO's box AP of the persons, 0 to 1: over IoU 0.5 to 0.95, at 0.5, at 0.75. boxes: how many were scored."""

    boxes: int
    images: int
    ap: float
    ap50: float
    ap75: float


def person_ap(listed: Annotations, detections: Path) -> PersonAP:
    """The person AP of a detection file by pycocotools' box evaluation: at most 100 boxes of an image, crowds ignored.

    Every listed image counts, those without persons too. Raises DataError for a file of another form or split, and
    where nobody is annotated.
    """
    truth = listed.content["annotations"]
    if not any(not a["iscrowd"] for a in truth):
        raise DataError(
            f"{listed.path} has no annotated person: there is no AP; give annotations of a split with persons"
        )
    # The keypoints of a detection are no part of it: any skeleton will do.
    persons, _ = detected_persons(detections, listed, COCO_SKELETON)
    ids, _ = image_arrays(listed)
    annotated = [
        {"image_id": a["image_id"], "bbox": a["bbox"], "area": a["area"], "iscrowd": int(a["iscrowd"])} for a in truth
    ]
    found = [
        {"image_id": int(ids[row]), "bbox": box, "area": box[2] * box[3], "iscrowd": 0, "score": score}
        for row, box, score in zip(persons.image, persons.boxes.tolist(), persons.scores.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_indexed(ids, annotated), _indexed(ids, found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return PersonAP(len(found), len(ids), *(float(value) for value in evaluation.stats[:3]))


def format_ap(ap: PersonAP, path: Path) -> str:
    """A table of the file's AP in percent, beside the published file's."""
    name, published = PUBLISHED
    own = f"{path.name}, {ap.boxes:,} boxes on {ap.images:,} images"
    rows = [
        [own, *(f"{100 * value:.1f}" for value in (ap.ap, ap.ap50, ap.ap75))],
        [f"{name} on val2017", f"{published:.1f}", "-", "-"],
    ]
    return format_columns(["person boxes", "AP", "AP50", "AP75"], rows, rule=False)


def _indexed(image_ids: np.ndarray, rows: Sequence[dict[str, Any]]) -> COCO:
    """Boxes as pycocotools wants them, numbered from 1: it takes 0 for no match."""
    indexed = COCO()
    indexed.dataset = {
        "images": [{"id": int(image_id)} for image_id in image_ids],
        "categories": [{"id": PERSON, "name": "person"}],
        "annotations": [{"id": n, "category_id": PERSON, **row} for n, row in enumerate(rows, start=1)],
    }
    indexed.createIndex()
    return indexed
