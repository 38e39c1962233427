"""Predicted persons -> COCO result entries -> matches -> COCO's ten statistics, in pycocotools' arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.data.formats.coco_form import PERSON_CATEGORY
from psa_pose.metrics.matching import Matches, match, read_pairs
from psa_pose.metrics.oks import instance_scores, oks_nms

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
RECALLS = np.linspace(0.0, 1.0, 101)
# Decimals that are kept: hundredths of a pixel (annotations are whole pixels), thousandths of a keypoint's score. The
# person's score keeps every digit, because it decides the order.
_PIXEL_DECIMALS, _SCORE_DECIMALS = 2, 3


@dataclass(frozen=True)
class Predictions:
    """What a network says of N boxes.

    image_ids: (N,) int.
    box_scores: (N,), 1 for annotated boxes.
    areas: (N,), square image pixels, of the padded boxes.
    joints: (N, K, 2), image pixels.
    keypoint_scores: (N, K).
    annotation_ids: (N,) int, of annotated boxes.
    """

    image_ids: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray
    joints: np.ndarray
    keypoint_scores: np.ndarray
    annotation_ids: np.ndarray | None = None


def to_results(
    predictions: Predictions,
    sigmas: np.ndarray,
    keypoint_threshold: float,
    nms_threshold: float,
    category: int = PERSON_CATEGORY,
) -> list[dict[str, Any]]:
    """Rescore, suppress double detections image by image, and list the rest in COCO's keypoint result format.

    By image id, best score first; coordinates and keypoint scores rounded.
    category: id of the annotated persons.
    """
    scores = instance_scores(predictions.box_scores, predictions.keypoint_scores, keypoint_threshold)
    kept = oks_nms(predictions.joints, scores, predictions.areas, sigmas, nms_threshold, images=predictions.image_ids)
    joints = predictions.joints[kept].round(_PIXEL_DECIMALS)
    certainty = predictions.keypoint_scores[kept].round(_SCORE_DECIMALS)
    keypoints = np.concatenate([joints, certainty[..., None]], axis=2).reshape(len(kept), 3 * joints.shape[1])
    rows = zip(predictions.image_ids[kept].tolist(), keypoints.tolist(), scores[kept].tolist(), strict=True)
    return [{"image_id": i, "category_id": category, "keypoints": k, "score": s} for i, k, s in rows]


def match_results(annotations: dict[str, Any], results: Sequence[dict[str, Any]], sigmas: np.ndarray) -> Matches:
    """The matches, for all, medium and large persons, of a result list with the content of an annotation file."""
    return match(read_pairs(annotations, results, sigmas))


def keypoint_ap(annotations: dict[str, Any], results: Sequence[dict[str, Any]], sigmas: np.ndarray) -> dict[str, float]:
    """COCO keypoint statistics (STATS -> value in 0 to 1; -1 where nobody is annotated) of a result list.

    annotations: the content of a person-keypoints annotation file. sigmas (K,): OKS constants. Equal to the last bit to
    `pycocotools_check.pycocotools_ap`, which the tests hold it to.
    """
    return accumulate(match_results(annotations, results, sigmas)).stats()


@dataclass(frozen=True)
class Curves:
    """Per group and OKS threshold; -1 where there is nobody to find.

    precision: (A, T, 101), 0 to 1, at RECALLS.
    recall: (A, T), 0 to 1, of all predicted persons.
    """

    precision: np.ndarray
    recall: np.ndarray

    def ap(self, group: int) -> float:
        """AP of one group, 0 to 1; -1 where it has nobody to find."""
        return _mean(self.precision[group])

    def stats(self) -> dict[str, float]:
        """STATS -> 0 to 1, -1 where undefined; the groups are those of AREAS."""
        p, r = self.precision, self.recall
        values = [p[0], p[0, 0], p[0, 5], p[1], p[2], r[0], r[0, :1], r[0, 5:6], r[1], r[2]]
        return {name: _mean(value) for name, value in zip(STATS, values, strict=True)}


def accumulate(matches: Matches) -> Curves:
    """Precision (the greatest at this recall or a higher one) and recall, over all images, best scores first."""
    A, T, _ = matches.person.shape
    precision, recall = -np.ones((A, T, len(RECALLS))), -np.ones((A, T))
    order = np.argsort(-matches.predicted.scores, kind="stable")
    for a in range(A):
        wanted = np.count_nonzero(matches.counted[a])
        for t in range(T if wanted else 0):
            right, wrong = matches.true_false_positives(a, t)
            tp, fp = np.cumsum(right[order]).astype(float), np.cumsum(wrong[order]).astype(float)
            reached = tp / wanted
            envelope = np.maximum.accumulate((tp / (fp + tp + np.spacing(1)))[::-1])[::-1]
            recall[a, t] = reached[-1] if len(reached) else 0
            at = np.searchsorted(reached, RECALLS, side="left")
            precision[a, t] = np.append(envelope, 0.0)[at]
    return Curves(precision, recall)


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
