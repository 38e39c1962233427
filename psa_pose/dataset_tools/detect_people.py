"""`tools/detect.py`: a detector's person boxes as a COCO detection file, and the person AP of such a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from psa_pose.config.skeleton import read_category
from psa_pose.data.formats.coco import Annotations, image_arrays, image_sizes, read_annotations, read_image_info
from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.distributed import progress_bar
from psa_pose.files import read_json, write_json
from psa_pose.inference.detector import PersonDetector
from psa_pose.media.pictures import read_image
from psa_pose.metrics.pycocotools_check import PersonAP
from psa_pose.skeleton import Skeleton
from psa_pose.tables import format_columns

# Person AP on val2017 of the published detection file, as HRNet's and SimpleBaseline's repositories state it.
_PUBLISHED = "COCO_val2017_detections_AP_H_56_person.json", 56.4


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
            person = (found["labels"].cpu().numpy() == PERSON_CATEGORY) & (scores >= self._least_score)
            person &= (boxes[:, 2:] > 0).all(1)
            answers.append((boxes[person], scores[person]))
        return answers


def read_listed(path: Path, skeleton: Skeleton | None = None) -> Annotations:
    """An annotation file, or one that only lists images (COCO's image_info). skeleton: None takes the file's own."""
    content = read_json(path, "annotation file")
    if isinstance(content, dict) and not content.get("annotations"):
        return read_image_info(path)
    return read_annotations(path, skeleton or read_category(path))


def detect_people(detector: BatchDetector, listed: Annotations, folder: Path, out: Path, batch: int = 1) -> int:
    """Write the detector's persons on all listed images as a COCO detection file; the answer is the number of boxes.

    folder: of the images. The file is a list of {"image_id", "category_id", "bbox": [x, y, w, h], "score"} in the
    order of the images, boxes in image pixels, and is written whole or not at all. Raises DataError for an image that
    cannot be read.
    """
    ids, names = image_arrays(listed)
    sizes = [(width, height) for width, height in image_sizes(listed).tolist()]
    entries: list[dict[str, Any]] = []
    with progress_bar(desc="images", total=len(ids)) as progress:
        for start in range(0, len(ids), batch):
            rows = range(start, min(start + batch, len(ids)))
            images = [read_image(folder / names[row].decode(), "rgb", sizes[row], "auto") for row in rows]
            for row, (boxes, scores) in zip(rows, detector.batch(images), strict=True):
                entries += _detection_entries(int(ids[row]), boxes, scores, listed.category)
            progress.update(len(rows))
    write_json(out, entries)
    return len(entries)


def _detection_entries(
    image_id: int, boxes: np.ndarray, scores: np.ndarray, category: int = PERSON_CATEGORY
) -> list[dict[str, Any]]:
    """The detections of one image, boxes (N, 4) in pixels to a hundredth, those that keep an area of it."""
    return [
        {"image_id": image_id, "category_id": category, "bbox": box, "score": score}
        for box, score in zip(boxes.round(2).tolist(), scores.round(6).tolist(), strict=True)
        if min(box[2:]) > 0
    ]


def format_ap(ap: PersonAP, path: Path) -> str:
    """A table of the file's AP in percent, beside the published file's."""
    name, published = _PUBLISHED
    own = f"{path.name}, {ap.boxes:,} boxes on {ap.images:,} images"
    rows = [
        [own, *(f"{100 * value:.1f}" for value in (ap.ap, ap.ap50, ap.ap75))],
        [f"{name} on val2017", f"{published:.1f}", "-", "-"],
    ]
    return format_columns(["person boxes", "AP", "AP50", "AP75"], rows, rule=False)
