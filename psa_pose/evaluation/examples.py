"""Which persons to look at: the worst, and examples of every kind of error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from psa_pose.metrics.diagnosis import LOOSE_OKS, Localization
from psa_pose.metrics.error_types import INVERSION, JITTER, JOINT_KINDS, MISS, SWAP, Taxonomy
from psa_pose.metrics.matching import Pairs


@dataclass(frozen=True)
class Example:
    """A person to look at.

    truth: row of the annotated person, -1 for none.
    predicted: row of the predicted person, -1 for none.
    caption: what is to be seen.
    """

    truth: int
    predicted: int
    caption: str


def choose_examples(located: Localization, taxonomy: Taxonomy, worst: int, per_kind: int) -> dict[str, list[Example]]:
    """Heading -> examples: the `worst` persons, and of each kind of error so many."""
    nearest = _nearest(located)
    examples = {"Worst persons": _worst_persons(located, nearest, worst)}
    for kind, rows in _error_examples(located, nearest, taxonomy, per_kind).items():
        examples[f"Examples: {kind}"] = rows
    return examples | {"Examples: score": _score_examples(located.pairs, per_kind)}


def _nearest(located: Localization) -> np.ndarray:
    """Rows (G,) of the predicted persons: who means each annotated one, else who is free and nearest, else -1."""
    answer, pairs = located.rows.copy(), located.pairs
    free = ~np.isin(pairs.predicted_rows, answer[answer >= 0]) & (answer[pairs.truth_rows] < 0)
    rows = np.flatnonzero(free)[np.argsort(pairs.oks[free], kind="stable")]
    answer[pairs.truth_rows[rows]] = pairs.predicted_rows[rows]
    return answer


def _worst_persons(located: Localization, nearest: np.ndarray, number: int) -> list[Example]:
    """The persons that count with the least OKS, those with the most labelled joints first among equals."""
    labelled = (located.pairs.truth.keypoints[..., 2] > 0).sum(1)
    order = np.lexsort((-labelled, located.oks))
    rows = order[~located.pairs.truth.ignored[order]][:number]
    return [Example(int(row), int(nearest[row]), _caption(located, int(row))) for row in rows]


def _error_examples(
    located: Localization, nearest: np.ndarray, taxonomy: Taxonomy, number: int
) -> dict[str, list[Example]]:
    """Per kind the persons with most such joints, the best of them first; background by score, misses by size."""
    answer, predicted = {}, located.pairs.predicted
    for kind in (JITTER, INVERSION, SWAP, MISS):
        joints = (taxonomy.kinds == kind).sum(1)
        rows = np.lexsort((-located.oks, -joints))[:number]
        answer[JOINT_KINDS[kind]] = [
            Example(int(r), int(located.rows[r]), f"{joints[r]} joints; {_caption(located, int(r))}")
            for r in rows
            if joints[r]
        ]
    strangers = np.flatnonzero(taxonomy.background)
    strangers = strangers[np.argsort(-predicted.scores[strangers], kind="stable")][:number]
    answer["background"] = [Example(-1, int(row), f"score {predicted.scores[row]:.2f}") for row in strangers]
    missed = np.flatnonzero(taxonomy.missed)
    missed = missed[np.argsort(-located.pairs.truth.areas[missed], kind="stable")][:number]
    answer["missed persons"] = [Example(int(row), int(nearest[row]), _caption(located, int(row))) for row in missed]
    return answer


def _score_examples(pairs: Pairs, number: int) -> list[Example]:
    """Predicted persons whose place in the order of scores is furthest from that in the order of OKS, over all images.

    OKS is the greatest with a person that counts; whoever has none is left out.
    """
    truth, predicted = pairs.truth, pairs.predicted
    rows = np.argsort(pairs.oks, kind="stable")
    rows = rows[~truth.ignored[pairs.truth_rows[rows]] & (pairs.oks[rows] > 0)]
    whom, oks = np.full(len(predicted.image), -1), np.zeros(len(predicted.image))
    whom[pairs.predicted_rows[rows]], oks[pairs.predicted_rows[rows]] = pairs.truth_rows[rows], pairs.oks[rows]
    near = np.flatnonzero(whom >= 0)
    by_score, by_oks = (np.argsort(np.argsort(-values[near], kind="stable")) for values in (predicted.scores, oks))
    order = np.argsort(-np.abs(by_score - by_oks), kind="stable")[:number]
    return [
        Example(
            int(whom[near[i]]),
            int(near[i]),
            f"score {predicted.scores[near[i]]:.2f}, place {by_score[i] + 1} of {len(near)}; OKS {oks[near[i]]:.2f}, "
            f"place {by_oks[i] + 1}; annotation {truth.ids[whom[near[i]]]}",
        )
        for i in order
        if by_score[i] != by_oks[i]
    ]


def _caption(located: Localization, row: int) -> str:
    truth = located.pairs.truth
    oks = f"OKS {located.oks[row]:.2f}" if located.rows[row] >= 0 else f"nobody at OKS {LOOSE_OKS:g}"
    return f"{oks}, annotation {truth.ids[row]}, image {truth.image_ids[truth.image[row]]}"
