"""`scripts/detect_people.py`: a detector's person boxes as a COCO detection file, and the person AP of such a file."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from psa_pose.checkpoints import write_whole
from psa_pose.config.skeleton import read_category
from psa_pose.data.coco import Annotations, image_arrays, read_annotations, read_image_info, read_json
from psa_pose.data.detections import PERSON, detected_persons
from psa_pose.data.images import read_image
from psa_pose.detector import PersonDetector
from psa_pose.errors import DataError
from psa_pose.skeleton import COCO as COCO_SKELETON
from psa_pose.skeleton import Skeleton

# Person AP on val2017 of the published detection file, as HRNet's and SimpleBaseline's repositories state it.
PUBLISHED = "COCO_val2017_detections_AP_H_56_person.json", 56.4


class BatchDetector(PersonDetector):
    """A person detector that also takes several pictures at a time."""

    @torch.inference_mode()
    def batch(self, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """RGB pictures (H, W, 3) uint8 -> for each what a call with it alone gives: boxes (N, 4) and scores (N,).

        torchvision pads the pictures of a batch to the largest: that moves the boxes of the smaller ones slightly.
        """
        if len(images) == 1:
            return [self(images[0])]
        pixels = [torch.from_numpy(image).to(self._device).permute(2, 0, 1).float() / 255 for image in images]
        answers = []
        for found in self._model(pixels):
            boxes, scores = found["boxes"].cpu().numpy().astype(float), found["scores"].cpu().numpy().astype(float)
            boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            person = (found["labels"].cpu().numpy() == PERSON) & (scores >= self._least_score)
            person &= (boxes[:, 2:] > 0).all(1)
            answers.append((boxes[person], scores[person]))
        return answers


@dataclass(frozen=True)
class PersonAP:
    """COCO's box AP of the persons, 0 to 1: over IoU 0.5 to 0.95, at 0.5, at 0.75. boxes: how many were scored."""

    boxes: int
    images: int
    ap: float
    ap50: float
    ap75: float


def read_listed(path: Path, skeleton: Skeleton | None = None) -> Annotations:
    """An annotation file, or one that only lists images (COCO's image_info). skeleton: None takes the file's own."""
    content = read_json(path, "annotation file")
    if isinstance(content, dict) and not content.get("annotations"):
        return read_image_info(path)
    return read_annotations(path, skeleton or read_category(path))


def detect_people(detector: BatchDetector, listed: Annotations, folder: Path, out: Path, batch: int = 1) -> int:
    """Write the detector's persons on all listed images as a COCO detection file; the answer is the number of boxes.

    folder: of the images. The file is a list of {"image_id", "category_id": 1, "bbox": [x, y, w, h], "score"} in the
    order of the images, boxes in image pixels, and is written whole or not at all. Raises DataError for an image that
    cannot be read.
    """
    ids, names = image_arrays(listed)
    entries: list[dict[str, Any]] = []
    progress = tqdm(total=len(ids), desc="images", disable=not sys.stderr.isatty())
    with progress:
        for start in range(0, len(ids), batch):
            rows = range(start, min(start + batch, len(ids)))
            images = [read_image(folder / names[row].decode()) for row in rows]
            for row, (boxes, scores) in zip(rows, detector.batch(images), strict=True):
                entries += detection_entries(int(ids[row]), boxes, scores)
            progress.update(len(rows))
    write_whole(out, lambda file: file.write(json.dumps(entries).encode()))
    return len(entries)


def detection_entries(image_id: int, boxes: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """The detections of one image, boxes (N, 4) in pixels to a hundredth, those that keep an area of it."""
    return [
        {"image_id": image_id, "category_id": PERSON, "bbox": box, "score": score}
        for box, score in zip(boxes.round(2).tolist(), scores.round(6).tolist(), strict=True)
        if min(box[2:]) > 0
    ]


def person_ap(listed: Annotations, detections: Path) -> PersonAP:
    """The person AP of a detection file by pycocotools' box evaluation: at most 100 boxes of an image, crowds ignored.

    Every listed image counts, those without persons too. Raises DataError for a file of another form or split, and
    where nobody is annotated.
    """
    truth = [a for a in listed.content["annotations"] if a.get("category_id", PERSON) == PERSON]
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
    width = max(len(own), len(name) + len(" on val2017"))
    lines = [
        f"{'person boxes':{width}}    AP  AP50  AP75",
        f"{own:{width}}  {100 * ap.ap:4.1f}  {100 * ap.ap50:4.1f}  {100 * ap.ap75:4.1f}",
        f"{name + ' on val2017':{width}}  {published:4.1f}     -     -",
    ]
    return "\n".join(lines)


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
