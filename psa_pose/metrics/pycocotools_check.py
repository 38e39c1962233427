"""What pycocotools itself says: the statistics that `coco_ap.keypoint_ap` is checked against, and the AP of boxes."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.data.formats.coco import Annotations, image_arrays
from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.data.formats.detections import detected_persons
from psa_pose.errors import DataError
from psa_pose.metrics.coco_ap import STATS
from psa_pose.skeleton import COCO as COCO_SKELETON


def pycocotools_ap(
    annotations: dict[str, Any], results: Sequence[dict[str, Any]], sigmas: np.ndarray
) -> dict[str, float]:
    """As `coco_ap.keypoint_ap`, twenty times as slow."""
    # pycocotools adds fields of its own to what it is given.
    truth = copy.deepcopy(annotations)
    stats = _statistics(truth, copy.deepcopy(list(results)), "keypoints", sigmas)
    return {name: float(value) for name, value in zip(STATS, stats, strict=True)}


@dataclass(frozen=True)
class PersonAP:
    """COCO's box AP of the persons.

    boxes: how many were scored.
    images: how many are listed.
    ap: 0 to 1, the mean over IoU 0.5 to 0.95.
    ap50, ap75: 0 to 1, at IoU 0.5 and 0.75.
    """

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
    content = {
        "images": [{"id": image_id} for image_id in ids.tolist()],
        "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
        "annotations": _numbered(annotated),
    }
    stats = _statistics(content, _numbered(found), "bbox")
    return PersonAP(len(found), len(ids), *map(float, stats[:3]))


def _numbered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Boxes of persons, numbered from 1: pycocotools takes 0 for no match."""
    return [{"id": number, "category_id": PERSON_CATEGORY, **row} for number, row in enumerate(rows, start=1)]


def _statistics(
    truth: dict[str, Any], found: list[dict[str, Any]], kind: str, sigmas: np.ndarray | None = None
) -> np.ndarray:
    """pycocotools' statistics of entries (kind: "keypoints" or "bbox") on an annotation file's content; both change."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated, entries = COCO(), COCO()
        annotated.dataset = truth
        annotated.createIndex()
        if found and kind == "keypoints":
            entries = annotated.loadRes(found)
        else:
            entries.dataset = {**truth, "annotations": found}
            entries.createIndex()
        evaluation = COCOeval(annotated, entries, kind)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats
