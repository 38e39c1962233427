"""Which persons to look at: the worst, and examples of every kind of error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.metrics.diagnosis import LOOSE_OKS, Localization
from psa_pose.metrics.error_types import INVERSION, JITTER, JOINT_KINDS, MISS, SWAP, Taxonomy
from psa_pose.metrics.matching import Pairs
from psa_pose.metrics.persons import GroundTruth, Predicted

KIND_TEXT = {
    "jitter": "near its place, but not close",
    "inversion": "on the mirror joint of the same person",
    "swap": "on the same or the mirror joint of another person",
    "miss": "near no place where such a joint is",
    "score": "an order of the scores that is not that of the similarities",
    "background": "found persons that match nobody at OKS 0.5",
    "missed persons": "annotated persons whom nobody found at OKS 0.1",
}


@dataclass(frozen=True)
class Example:
    """annotated, found: rows of the person and of the one found, -1 for none. caption: what is to be seen."""

    annotated: int
    found: int
    caption: str


def nearest_found(located: Localization, pairs: Pairs) -> np.ndarray:
    """For each annotated person the found one that means it, else the free one with the greatest OKS, else -1: (G,)."""
    answer = located.found.copy()
    free = ~np.isin(pairs.found, answer[answer >= 0]) & (answer[pairs.annotated] < 0)
    rows = np.flatnonzero(free)[np.argsort(pairs.oks[free], kind="stable")]
    answer[pairs.annotated[rows]] = pairs.found[rows]
    return answer


def worst_persons(located: Localization, nearest: np.ndarray, number: int) -> list[Example]:
    """The persons that count with the least OKS, those with the most labelled joints first among equals."""
    labelled = (located.annotated.keypoints[..., 2] > 0).sum(1)
    order = np.lexsort((-labelled, located.oks))
    rows = order[~located.annotated.ignored[order]][:number]
    return [Example(int(row), int(nearest[row]), _caption(located, int(row))) for row in rows]


def error_examples(
    located: Localization, nearest: np.ndarray, found: Predicted, taxonomy: Taxonomy, number: int
) -> dict[str, list[Example]]:
    """Per kind the persons with most such joints, the best of them first; background by score, misses by size."""
    answer = {}
    for kind in (JITTER, INVERSION, SWAP, MISS):
        joints = (taxonomy.kinds == kind).sum(1)
        rows = np.lexsort((-located.oks, -joints))[:number]
        answer[JOINT_KINDS[kind]] = [
            Example(int(r), int(located.found[r]), f"{joints[r]} joints; {_caption(located, int(r))}")
            for r in rows
            if joints[r]
        ]
    strangers = np.flatnonzero(taxonomy.background)
    strangers = strangers[np.argsort(-found.scores[strangers], kind="stable")][:number]
    answer["background"] = [Example(-1, int(row), f"score {found.scores[row]:.2f}") for row in strangers]
    missed = np.flatnonzero(taxonomy.missed)
    missed = missed[np.argsort(-located.annotated.areas[missed], kind="stable")][:number]
    answer["missed persons"] = [Example(int(row), int(nearest[row]), _caption(located, int(row))) for row in missed]
    return answer


def score_examples(annotated: GroundTruth, pairs: Pairs, found: Predicted, number: int) -> list[Example]:
    """Found persons whose place in the order of scores is furthest from that in the order of OKS, over all images.

    OKS is the greatest with a person that counts; whoever has none is left out.
    """
    rows = np.argsort(pairs.oks, kind="stable")
    rows = rows[~annotated.ignored[pairs.annotated[rows]] & (pairs.oks[rows] > 0)]
    whom, oks = np.full(len(found.image), -1), np.zeros(len(found.image))
    whom[pairs.found[rows]], oks[pairs.found[rows]] = pairs.annotated[rows], pairs.oks[rows]
    near = np.flatnonzero(whom >= 0)
    by_score, by_oks = (np.argsort(np.argsort(-values[near], kind="stable")) for values in (found.scores, oks))
    order = np.argsort(-np.abs(by_score - by_oks), kind="stable")[:number]
    return [
        Example(
            int(whom[near[i]]),
            int(near[i]),
            f"score {found.scores[near[i]]:.2f}, place {by_score[i] + 1} of {len(near)}; OKS {oks[near[i]]:.2f}, "
            f"place {by_oks[i] + 1}; annotation {annotated.ids[whom[near[i]]]}",
        )
        for i in order
        if by_score[i] != by_oks[i]
    ]


def _caption(located: Localization, row: int) -> str:
    annotated = located.annotated
    oks = f"OKS {located.oks[row]:.2f}" if located.found[row] >= 0 else f"nobody at OKS {LOOSE_OKS:g}"
    return f"{oks}, annotation {annotated.ids[row]}, image {annotated.image_ids[annotated.image[row]]}"
