"""Predicted persons -> COCO result entries -> COCO keypoint statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.metrics.accumulate import accumulate, coco_stats
from psa_pose.metrics.matching import Matches, area_groups, match, pairs_of
from psa_pose.metrics.oks import instance_scores, oks_nms
from psa_pose.metrics.persons import annotated_persons, found_persons

# Decimals that are kept: hundredths of a pixel (annotations are whole pixels), thousandths of a keypoint's score. The
# person's score keeps every digit, because it decides the order.
PIXEL_DECIMALS, SCORE_DECIMALS = 2, 3


@dataclass(frozen=True)
class Predictions:
    """N predicted persons. image_ids (N,). box_scores (N,). areas (N,), square image pixels, of the padded boxes.

    joints (N, K, 2), image pixels. keypoint_scores (N, K). annotation_ids (N,): of annotated boxes.
    """

    image_ids: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray
    joints: np.ndarray
    keypoint_scores: np.ndarray
    annotation_ids: np.ndarray | None = None


def to_results(
    predictions: Predictions, sigmas: np.ndarray, keypoint_threshold: float, nms_threshold: float, category: int = 1
) -> list[dict[str, Any]]:
    """Rescore, suppress double detections image by image, and list the rest in COCO's keypoint result format.

    By image id, best score first; coordinates and keypoint scores rounded (PIXEL_DECIMALS, SCORE_DECIMALS).
    category: id of the annotated persons.
    """
    scores = instance_scores(predictions.box_scores, predictions.keypoint_scores, keypoint_threshold)
    kept = oks_nms(predictions.joints, scores, predictions.areas, sigmas, nms_threshold, images=predictions.image_ids)
    joints = predictions.joints[kept].round(PIXEL_DECIMALS)
    certainty = predictions.keypoint_scores[kept].round(SCORE_DECIMALS)
    keypoints = np.concatenate([joints, certainty[..., None]], axis=2).reshape(len(kept), 3 * joints.shape[1])
    rows = zip(predictions.image_ids[kept].tolist(), keypoints.tolist(), scores[kept].tolist(), strict=True)
    return [{"image_id": i, "category_id": category, "keypoints": k, "score": s} for i, k, s in rows]


def match_results(truth: dict[str, Any], results: Sequence[dict[str, Any]], sigmas: np.ndarray) -> Matches:
    """The matches, for all, medium and large persons, of a result list with the content of an annotation file."""
    annotated = annotated_persons(truth, len(sigmas))
    found = found_persons(results, annotated)
    return match(annotated, found, pairs_of(annotated, found, sigmas), area_groups(annotated, found))


def keypoint_ap(truth: dict[str, Any], results: Sequence[dict[str, Any]], sigmas: np.ndarray) -> dict[str, float]:
    """COCO keypoint statistics (STATS -> value in 0 to 1; -1 where the truth has no such person) of a result list.

    truth: the content of a person-keypoints annotation file. sigmas (K,): OKS constants. Equal to the last bit to
    `reference.pycocotools_ap`, which the tests hold it to.
    """
    return coco_stats(accumulate(match_results(truth, results, sigmas)))
