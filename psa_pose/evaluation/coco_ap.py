"""Predicted persons -> COCO result entries -> keypoint AP by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from psa_pose.evaluation.oks import instance_scores, oks_nms

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


@dataclass(frozen=True)
class Predictions:
    """N predicted persons. image_ids (N,). box_scores (N,). areas (N,), square image pixels, of the padded boxes.

    joints (N, K, 2), image pixels. keypoint_scores (N, K).
    """

    image_ids: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray
    joints: np.ndarray
    keypoint_scores: np.ndarray


def to_results(
    predictions: Predictions, sigmas: np.ndarray, keypoint_threshold: float, nms_threshold: float
) -> list[dict[str, Any]]:
    """Rescore, suppress double detections image by image, and list the rest in COCO's keypoint result format."""
    scores = instance_scores(predictions.box_scores, predictions.keypoint_scores, keypoint_threshold)
    keypoints = np.concatenate([predictions.joints, predictions.keypoint_scores[..., None]], axis=2)
    by_image = np.argsort(predictions.image_ids, kind="stable")
    starts = np.flatnonzero(np.diff(predictions.image_ids[by_image], prepend=np.nan) != 0)
    results = []
    for rows in np.split(by_image, starts[1:]) if len(by_image) else []:
        kept = oks_nms(predictions.joints[rows], scores[rows], predictions.areas[rows], sigmas, nms_threshold)
        results += [
            {
                "image_id": int(predictions.image_ids[row]),
                "category_id": 1,
                "keypoints": keypoints[row].ravel().round(3).tolist(),
                "score": float(scores[row]),
            }
            for row in rows[kept]
        ]
    return results


def keypoint_ap(truth: dict[str, Any], results: list[dict[str, Any]], sigmas: np.ndarray) -> dict[str, float]:
    """COCO keypoint statistics (STATS -> value in 0 to 1; -1 where the truth has no such person) of a result list.

    truth: the content of a person-keypoints annotation file. sigmas (K,): OKS constants.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        # pycocotools adds fields of its own to what it is given.
        annotated.dataset = copy.deepcopy(truth)
        annotated.createIndex()
        found = annotated.loadRes(copy.deepcopy(results)) if results else _nothing_found(annotated)
        evaluation = COCOeval(annotated, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(STATS, evaluation.stats, strict=True)}


def _nothing_found(annotated: COCO) -> COCO:
    found = COCO()
    found.dataset = {**annotated.dataset, "annotations": []}
    found.createIndex()
    return found
