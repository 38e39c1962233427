"""Annotated and found persons as sorted arrays: what every figure of the evaluation is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.errors import DataError

# COCO counts at most so many persons of an image, best scores first (`Params.setKpParams`: maxDets).
MOST_PER_IMAGE = 20


@dataclass(frozen=True)
class GroundTruth:
    """G annotated persons on M images, in file order.

    category: id of all.
    image_ids: (M,) int64, rising.
    image: (G,) int, row of each person's image.
    ids: (G,) int64, of the annotations.
    keypoints: (G, K, 3) float64, x and y in image pixels, v > 0 where labelled.
    boxes: (G, 4), x, y, width, height in image pixels.
    areas: (G,), square pixels.
    crowd: (G,) bool.
    ignored: (G,) bool, a crowd or without a labelled keypoint.
    """

    category: int
    image_ids: np.ndarray
    image: np.ndarray
    ids: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class Predicted:
    """D predicted persons, by image and there best score first (a tie: as listed), at most MOST_PER_IMAGE of an image.

    image: (D,) int, row of `GroundTruth.image_ids`.
    rank: (D,) int, place within the image, from 0.
    keypoints: (D, K, 3) float64, x and y in image pixels, score.
    scores: (D,), of the persons.
    areas: (D,), square pixels, of the box around all keypoints.
    entries: (D,) int, row in the result list.
    """

    image: np.ndarray
    rank: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    entries: np.ndarray


def read_ground_truth(annotations: dict[str, Any], num_joints: int) -> GroundTruth:
    """The persons of an annotation file's content. Raises DataError for ids or categories that COCO cannot score."""
    rows = annotations["annotations"]
    ids = np.array([a["id"] for a in rows], np.int64)
    if len(np.unique(ids)) != len(ids) or (ids == 0).any():
        raise DataError("annotation ids repeat or are 0, which COCO's evaluation counts wrongly; number them from 1")
    categories = {int(a.get("category_id", PERSON_CATEGORY)) for a in rows} or {PERSON_CATEGORY}
    if len(categories) > 1:
        raise DataError("the annotations have several categories; keypoint AP is of one: keep the persons")
    image_ids = np.unique(np.array([image["id"] for image in annotations["images"]], np.int64))
    keypoints = np.array([a["keypoints"] for a in rows], float).reshape(len(rows), num_joints, 3)
    labelled = (keypoints[..., 2] > 0).sum(1)
    counted = np.array([a.get("num_keypoints", n) for a, n in zip(rows, labelled, strict=True)])
    crowd = np.array([a["iscrowd"] for a in rows], bool)
    return GroundTruth(
        category=categories.pop(),
        image_ids=image_ids,
        image=_rows_of(image_ids, [a["image_id"] for a in rows], "annotation"),
        ids=ids,
        keypoints=keypoints,
        boxes=np.array([a["bbox"] for a in rows], float).reshape(-1, 4),
        areas=np.array([a["area"] for a in rows], float),
        crowd=crowd,
        ignored=crowd | (counted == 0),
    )


def read_predicted(results: Sequence[dict[str, Any]], annotated: GroundTruth) -> Predicted:
    """The entries of a COCO keypoint result list. Raises DataError for what cannot be scored."""
    K = annotated.keypoints.shape[1]
    try:
        keypoints = np.array([r["keypoints"] for r in results], float).reshape(len(results), K, 3)
        scores = np.array([r["score"] for r in results], float)
        image_ids = [r["image_id"] for r in results]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"every result needs image_id, score and keypoints, {3 * K} numbers; write the list anew"
        ) from None
    strangers = {r.get("category_id", PERSON_CATEGORY) for r in results} - {annotated.category}
    if strangers:
        raise DataError(
            f"results are of category {min(strangers, key=str)}, annotations of category {annotated.category}; "
            "they must be the same: write the annotations' into the results"
        )
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
        raise DataError("a result's keypoints or score are not finite; a network that diverged cannot be scored")
    return sort_predicted(_rows_of(annotated.image_ids, image_ids, "result"), keypoints, scores)


def sort_predicted(image: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> Predicted:
    """Persons in any order, sorted by image and score, the weakest of full images left out, as COCO does."""
    order = np.lexsort((-scores, image))
    rank = np.arange(len(order)) - np.searchsorted(image[order], image[order])
    order, rank = order[rank < MOST_PER_IMAGE], rank[rank < MOST_PER_IMAGE]
    keypoints = keypoints[order]
    x, y = keypoints[..., 0], keypoints[..., 1]
    areas = (x.max(1, initial=-np.inf) - x.min(1, initial=np.inf)) * (
        y.max(1, initial=-np.inf) - y.min(1, initial=np.inf)
    )
    return Predicted(image[order], rank, keypoints, scores[order], areas, order)


def _rows_of(image_ids: np.ndarray, wanted: Sequence[int], what: str) -> np.ndarray:
    ids = np.array(wanted, np.int64)
    rows = np.searchsorted(image_ids, ids)
    known = rows < len(image_ids)
    known[known] = image_ids[rows[known]] == ids[known]
    if not known.all():
        raise DataError(
            f"{(~known).sum()} {what}s are on images that the annotation file does not list, such as "
            f"{ids[~known][0]}; the files belong to different splits"
        )
    return rows
