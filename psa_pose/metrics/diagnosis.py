"""More than AP: who was located how well, joint by joint, and the AP of kinds of persons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.geometry import pairwise_iou
from psa_pose.metrics.coco_ap import accumulate
from psa_pose.metrics.matching import Group, Pairs, keypoint_similarity, match
from psa_pose.metrics.persons import GroundTruth, Predicted

# A predicted person that is closer than this to an annotated one is taken to mean it (Ronchi and Perona, ICCV 2017).
LOOSE_OKS = 0.1
# Fractions of the longer side of the annotated box within which a joint counts as found.
PCK = (0.05, 0.1, 0.2)
# Persons whose boxes overlap more than this (intersection over union) crowd each other (Ronchi and Perona).
OVERLAP = 0.1


@dataclass(frozen=True)
class Localization:
    """Which predicted person means each of the G annotated ones, and how well its joints are placed.

    pairs: the persons.
    rows: (G,) int, the predicted person; -1: nobody, or the person does not count.
    oks: (G,), 0 where nobody.
    similarity: (G, K), of each joint, 0 where nobody; NaN where it is not labelled or the person does not count.
    distance: (G, K), image pixels, infinite where nobody; NaN as above.
    """

    pairs: Pairs
    rows: np.ndarray
    oks: np.ndarray
    similarity: np.ndarray
    distance: np.ndarray


def everyone(pairs: Pairs) -> Group:
    """All persons that COCO counts, whatever their size."""
    return Group("all", pairs.truth.ignored, np.zeros(len(pairs.predicted.image), bool))


def locate(pairs: Pairs) -> Localization:
    """Match persons at an OKS of LOOSE_OKS or more and measure their joints."""
    truth, predicted = pairs.truth, pairs.predicted
    matches = match(pairs, [everyone(pairs)], np.array([LOOSE_OKS]))
    G, K = truth.keypoints.shape[:2]
    means = np.full(G, -1)
    rows = np.flatnonzero((matches.person[0, 0] >= 0) & ~matches.ignored[0, 0])
    persons = matches.person[0, 0, rows]
    means[persons] = rows
    similarity, distance = np.zeros((G, K)), np.full((G, K), np.inf)
    similarity[persons] = keypoint_similarity(truth, persons, predicted.keypoints[rows], pairs.sigmas)
    moved = predicted.keypoints[rows, :, :2] - truth.keypoints[persons, :, :2]
    distance[persons] = np.hypot(moved[..., 0], moved[..., 1])
    unknown = (truth.keypoints[..., 2] <= 0) | truth.ignored[:, None]
    similarity[unknown] = distance[unknown] = np.nan
    labelled = np.maximum(1, (~unknown).sum(1))
    return Localization(pairs, means, np.nansum(similarity, axis=1) / labelled, similarity, distance)


def keypoint_rows(located: Localization, names: Sequence[str]) -> list[dict[str, Any]]:
    """Per joint, over labelled joints of persons that count: how many; mean OKS of the joint (0 for a person whom
    nobody found); PCK; and of those found, the median error in pixels and as a share of the square root of the area.
    """
    truth = located.pairs.truth
    side = truth.boxes[:, 2:].max(1, initial=0)
    share = located.distance / np.sqrt(np.maximum(truth.areas, 1))[:, None]
    rows = []
    for joint, name in enumerate(names):
        distance = located.distance[:, joint]
        known = ~np.isnan(distance)
        near = known & np.isfinite(distance)
        rows.append(
            {
                "keypoint": name,
                "labelled": int(known.sum()),
                "oks": _mean(located.similarity[known, joint]),
                **{f"pck@{f:g}": _mean(distance[known] <= f * side[known]) for f in PCK},
                "median_px": float(np.median(distance[near])) if near.any() else None,
                "median_of_size": float(np.median(share[near, joint])) if near.any() else None,
            }
        )
    return rows


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _subsets(truth: GroundTruth, predicted: Predicted) -> dict[str, list[Group]]:
    """Groups by the person's size, by how many of its joints are labelled, and by how many others crowd it.

    Predicted persons that match nobody count against every group but those of size, where COCO's rule holds.
    """
    K = truth.keypoints.shape[1]
    labelled = (truth.keypoints[..., 2] > 0).sum(1)
    crowding = _neighbours(truth)
    nobody = np.zeros(len(predicted.image), bool)
    edges = sorted({1, -(-K // 3) + 1, -(-2 * K // 3) + 1, K + 1})
    by_labels = [(f"{a} to {b - 1}" if b - 1 > a else f"{a}", a, b) for a, b in itertools.pairwise(edges)]
    by_crowd = [("0", 0, 1), ("1", 1, 2), ("2", 2, 3), ("3 or more", 3, 10**9)]
    spans = {"below 64²": (0.0, 64.0**2), "64² to 128²": (64.0**2, 128.0**2), "128² to 256²": (128.0**2, 256.0**2),
             "256² and more": (256.0**2, 1e10)}  # fmt: skip
    return {
        "area, pixels": [
            Group(name, truth.ignored | ~_within(truth.areas, *span), ~_within(predicted.areas, *span))
            for name, span in spans.items()
        ],
        "labelled keypoints": [
            Group(name, truth.ignored | ~_within(labelled, low, high), nobody) for name, low, high in by_labels
        ],
        f"others with a box overlap above {OVERLAP:g}": [
            Group(name, truth.ignored | ~_within(crowding, low, high), nobody) for name, low, high in by_crowd
        ],
    }


def _within(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (values >= low) & (values < high)


def _neighbours(truth: GroundTruth) -> np.ndarray:
    """How many other annotated persons (crowds aside) overlap each person's box by more than OVERLAP, (G,)."""
    count = np.zeros(len(truth.image), int)
    for image in np.unique(truth.image):
        rows = np.flatnonzero((truth.image == image) & ~truth.crowd)
        overlap = pairwise_iou(truth.boxes[rows])
        count[rows] = (overlap > OVERLAP).sum(1) - (np.diagonal(overlap) > OVERLAP)
    return count


def subset_ap(pairs: Pairs) -> list[dict[str, Any]]:
    """AP (0 to 1; None without persons) of each group of `subsets`, with its number of persons."""
    rows = []
    for kind, groups in _subsets(pairs.truth, pairs.predicted).items():
        curves = accumulate(match(pairs, groups))
        for number, group in enumerate(groups):
            ap = curves.ap(number)
            persons = int((~group.left_out).sum())
            rows.append({"by": kind, "group": group.name, "persons": persons, "AP": ap if ap >= 0 else None})
    return rows
