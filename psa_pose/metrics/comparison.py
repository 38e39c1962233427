"""Two models on the same images: is the difference more than noise, and what moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from psa_pose.metrics.coco_ap import accumulate
from psa_pose.metrics.diagnosis import Localization, locate
from psa_pose.metrics.matching import match, read_pairs
from psa_pose.metrics.significance import Estimate, bootstrap, differences


@dataclass(frozen=True)
class Comparison:
    """Two models on the same persons; AP and OKS are 0 to 1.

    stats: of the first and the second model.
    differences: second minus first.
    keypoints: mean OKS of each joint in both.
    images: mean OKS of the image's persons in both, those that moved most first.
    located: the persons and their joints, in both.
    """

    stats: tuple[dict[str, float], dict[str, float]]
    differences: dict[str, Estimate]
    keypoints: list[dict[str, Any]]
    images: list[dict[str, Any]]
    located: tuple[Localization, Localization]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: the figures, not the persons."""
        plain = {name: getattr(self, name) for name in ("stats", "keypoints", "images")}
        return plain | {"differences": {name: asdict(d) for name, d in self.differences.items()}}

    def most_moved(self, number: int) -> tuple[list[int], list[int]]:
        """Rows of the annotated persons whose OKS the second model raised most, and of those it lowered most."""
        moved = self.located[1].oks - self.located[0].oks
        order = np.argsort(-moved, kind="stable")
        return [int(r) for r in order[:number] if moved[r] > 0], [int(r) for r in order[::-1][:number] if moved[r] < 0]


def compare(
    annotations: dict[str, Any],
    first: Sequence[dict[str, Any]],
    second: Sequence[dict[str, Any]],
    names: Sequence[str],
    sigmas: np.ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two result lists on the content of an annotation file, with a paired bootstrap over its images."""
    stats, samples, located = [], [], []
    for results in (first, second):
        pairs = read_pairs(annotations, results, sigmas)
        matches = match(pairs)
        stats.append(accumulate(matches).stats())
        samples.append(bootstrap(matches, resamples, seed))
        located.append(locate(pairs))
    return Comparison(
        stats=(stats[0], stats[1]),
        differences=differences(stats[0], stats[1], samples[0], samples[1]),
        keypoints=_keypoints(located[0], located[1], names),
        images=_images(located[0], located[1]),
        located=(located[0], located[1]),
    )


def _keypoints(first: Localization, second: Localization, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for joint, name in enumerate(names):
        before, after = first.similarity[:, joint], second.similarity[:, joint]
        known = ~np.isnan(before)
        if known.any():
            a, b = float(before[known].mean()), float(after[known].mean())
            rows.append({"keypoint": name, "labelled": int(known.sum()), "first": a, "second": b, "difference": b - a})
    return sorted(rows, key=lambda row: -abs(row["difference"]))


def _images(first: Localization, second: Localization) -> list[dict[str, Any]]:
    truth = first.pairs.truth
    counts = ~truth.ignored
    persons = np.bincount(truth.image[counts], minlength=len(truth.image_ids))
    before, after = (
        np.bincount(truth.image[counts], side.oks[counts], len(truth.image_ids)) / np.maximum(persons, 1)
        for side in (first, second)
    )
    order = np.argsort(-np.abs(after - before) * persons, kind="stable")
    return [
        {
            "image_id": int(truth.image_ids[i]),
            "persons": int(persons[i]),
            "first": float(before[i]),
            "second": float(after[i]),
            "difference": float(after[i] - before[i]),
        }
        for i in order
        if persons[i]
    ]
