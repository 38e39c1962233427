"""From matches to precision, recall and COCO's ten statistics, in pycocotools' arithmetic (`accumulate`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.metrics.matching import Matches

STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class Curves:
    """Per group and threshold: precision (A, T, 101) at RECALLS, recall (A, T) of all found. -1: nobody to find."""

    precision: np.ndarray
    recall: np.ndarray


def accumulate(matches: Matches) -> Curves:
    """Precision (the greatest at this recall or a higher one) and recall, over all images, best scores first."""
    A, T, _ = matches.person.shape
    precision, recall = -np.ones((A, T, len(RECALLS))), -np.ones((A, T))
    order = np.argsort(-matches.found.scores, kind="stable")
    for a in range(A):
        wanted = np.count_nonzero(matches.counted[a])
        for t in range(T if wanted else 0):
            right, wrong = true_false_positives(matches, a, t)
            tp, fp = np.cumsum(right[order]).astype(float), np.cumsum(wrong[order]).astype(float)
            reached = tp / wanted
            envelope = np.maximum.accumulate((tp / (fp + tp + np.spacing(1)))[::-1])[::-1]
            recall[a, t] = reached[-1] if len(reached) else 0
            at = np.searchsorted(reached, RECALLS, side="left")
            precision[a, t] = np.append(envelope, 0.0)[at]
    return Curves(precision, recall)


def true_false_positives(matches: Matches, group: int, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (D,) of the found persons that count as hits and as false alarms."""
    hit, counts = matches.person[group, threshold] >= 0, ~matches.ignored[group, threshold]
    return hit & counts, ~hit & counts


def group_ap(curves: Curves, group: int) -> float:
    """AP of one group, 0 to 1; -1 where it has nobody to find."""
    return _mean(curves.precision[group])


def coco_stats(curves: Curves) -> dict[str, float]:
    """STATS -> 0 to 1, -1 where undefined; the groups are those of `area_groups`."""
    p, r = curves.precision, curves.recall
    values = [p[0], p[0, 0], p[0, 5], p[1], p[2], r[0], r[0, :1], r[0, 5:6], r[1], r[2]]
    return {name: _mean(value) for name, value in zip(STATS, values, strict=True)}


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
