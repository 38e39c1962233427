"""The file that COCO's test-dev server asks for: checked, rounded, zipped.

Rules, after COCO's result format and upload guidelines: a zip named person_keypoints_<split>_<algorithm>_results.zip
that holds one JSON list of the same name; per person image_id, category_id 1, keypoints (x, y, v for each joint; v is
not read, and written as 1) and score; coordinates to a tenth of a pixel. What lies beyond the 20 best persons of an
image is not counted, and is left out here.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose import distributed
from psa_pose.data.build import build_submission_set
from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.device import backends
from psa_pose.errors import DataError
from psa_pose.evaluation.predict_set import predict_persons
from psa_pose.evaluation.test import check_coco, load_model
from psa_pose.files import atomic_write, json_bytes
from psa_pose.metrics.coco_ap import to_results
from psa_pose.metrics.persons import MOST_PER_IMAGE
from psa_pose.run_log import RunLog

FIELDS = {"image_id", "category_id", "keypoints", "score"}
SERVER_CLOSED = (
    "COCO's public test-dev server has been reported closed since 2025: the file follows its rules, but before you "
    "count on a score, look whether it answers; val2017 can be evaluated here"
)


def _submission_name(split: str, algorithm: str) -> str:
    """The name that the zip and the list in it share. Raises as `check_algorithm`."""
    check_algorithm(algorithm)
    return f"person_keypoints_{split}_{algorithm}_results"


def check_algorithm(algorithm: str) -> None:
    """Raise DataError for an algorithm's name that a server may refuse."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", algorithm):
        raise DataError(f"the algorithm's name {algorithm!r} may only have letters, digits and hyphens; change it")


def _submission_entries(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result entries (as `to_results` lists them, by image and best first) cut and rounded as the server wants them."""
    taken: dict[int, int] = {}
    entries = []
    for result in results:
        taken[result["image_id"]] = taken.get(result["image_id"], 0) + 1
        if taken[result["image_id"]] <= MOST_PER_IMAGE:
            keypoints = np.array(result["keypoints"]).reshape(-1, 3)
            keypoints[:, :2] = keypoints[:, :2].round(1)
            keypoints[:, 2] = 1
            entries.append({**result, "keypoints": keypoints.ravel().tolist()})
    return entries


def _check_submission(entries: Any, image_ids: Iterable[int], num_joints: int) -> None:
    """Raise DataError for the first entry that the server would refuse or count wrongly."""
    known = set(image_ids)
    if not isinstance(entries, list) or not entries:
        raise DataError("the submission is not a list with at least one person; test again with persons")
    per_image: dict[int, int] = {}
    for number, entry in enumerate(entries):
        problem = _problem(entry, known, num_joints)
        if problem:
            raise DataError(f"entry {number} of the submission {problem}; write the file anew")
        per_image[entry["image_id"]] = per_image.get(entry["image_id"], 0) + 1
    fullest = max(per_image, key=lambda image: per_image[image])
    if per_image[fullest] > MOST_PER_IMAGE:
        raise DataError(
            f"the submission has {per_image[fullest]} persons on image {fullest}; only {MOST_PER_IMAGE} count: cut it"
        )


def _problem(entry: Any, image_ids: set[int], num_joints: int) -> str | None:
    if not isinstance(entry, dict) or entry.keys() != FIELDS:
        return f"does not have exactly the fields {', '.join(sorted(FIELDS))}"
    if entry["image_id"] not in image_ids:
        return f"is on image {entry['image_id']}, which the split does not have"
    if entry["category_id"] != PERSON_CATEGORY:
        return f"has category {entry['category_id']}, not {PERSON_CATEGORY} (person)"
    numbers = [*entry["keypoints"], entry["score"]] if isinstance(entry["keypoints"], list) else []
    if len(numbers) != 3 * num_joints + 1:
        return f"does not have {3 * num_joints} keypoint numbers"
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        return "has a number that is not finite"
    return None


def _submission_zip(name: str, entries: list[dict[str, Any]]) -> bytes:
    """The zip's content: one member, <name>.json. The same entries give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo(f"{name}.json", (1980, 1, 1, 0, 0, 0))
        archive.writestr(member, json_bytes(entries), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def run_submission(task: Any, checkpoint: Path, algorithm: str) -> Path:
    """COCO's submission file of what a checkpoint finds in the detector's boxes on images without annotations.

    task: `psa_pose.tasks.pose.PoseTask`.
    """
    cfg, skeleton = task.cfg, task.skeleton
    folder = Path(cfg.OUTPUT_DIR) / "submission"
    check_coco(skeleton, "the submission to COCO's test server (--submission)")
    with distributed.process_group(task.device), RunLog(folder) as log, backends(cfg, task.device, False):
        test_set = build_submission_set(cfg, skeleton, task.codec.grid, log.info)
        name = _submission_name(test_set.split, algorithm)
        predictor = task.predictor(load_model(task, checkpoint, log.info))
        log.info(f"predicting {len(test_set.dataset):,} persons of {test_set.split}, detector boxes")
        predictions, _ = predict_persons(cfg, test_set, predictor, skeleton, log.info)
        path = folder / f"{name}.zip"
        if predictions is not None:
            results = to_results(predictions, np.array(skeleton.sigmas), cfg.TEST.KEYPOINT_SCORE, cfg.TEST.OKS_NMS)
            entries = _submission_entries(results)
            image_ids = [image["id"] for image in test_set.annotations.content["images"]]
            _check_submission(entries, image_ids, skeleton.num_joints)
            atomic_write(path, lambda file: file.write(_submission_zip(name, entries)))
            images = len({entry["image_id"] for entry in entries})
            log.info(f"{len(entries):,} persons on {images:,} of {len(image_ids):,} images, checked: {path}")
        log.info(SERVER_CLOSED)
    return path
