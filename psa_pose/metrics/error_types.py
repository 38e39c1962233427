"""What kind of errors were made, and the AP that each kind costs.

The kinds are those of Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation" (ICCV
2017, arXiv 1707.05388). A joint of a found person (matched at OKS 0.1 or more) is, by its similarity to labelled
joints,

- good: at least 0.85 to its own place,
- jitter: at least 0.5 to its own place,
- inversion: else, at least 0.5 to its mirror joint of the same person,
- swap: else, at least 0.5 to the same joint, or its mirror joint, of another person,
- miss: else.

Where several hold, inversion goes before swap. What an error costs is the AP gained when it alone is put right: the
joints moved to their places; every score replaced by the best OKS with a person that counts (score); found persons that
match nobody at OKS 0.5 left out (background); persons whom nobody found at OKS 0.1 left out (missed persons).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from psa_pose.metrics.coco_ap import accumulate
from psa_pose.metrics.diagnosis import Localization, everyone
from psa_pose.metrics.matching import Group, Pairs, make_pairs, match
from psa_pose.metrics.persons import GroundTruth, Predicted, sort_predicted

GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
JOINT_KINDS = ("good", "jitter", "inversion", "swap", "miss")
_CLOSE, _NEAR = 0.85, 0.5


@dataclass(frozen=True)
class Taxonomy:
    """What went wrong, for G annotated and D predicted persons.

    kinds: (G, K) int, index into JOINT_KINDS, -1 where the joint is not labelled or nobody found its person.
    counts: joints per joint kind.
    ap: 0 to 1, -1 where undefined.
    gains: kind of error -> AP, 0 to 1, that would be given back.
    background: (D,) bool, predicted persons that mean nobody.
    missed: (G,) bool, annotated persons that nobody found.
    """

    kinds: np.ndarray
    counts: dict[str, int]
    ap: float
    gains: dict[str, float]
    background: np.ndarray
    missed: np.ndarray


def error_types(located: Localization, flip_order: np.ndarray) -> Taxonomy:
    """Classify every error and price every kind. flip_order (K,): each joint's mirror joint."""
    pairs = located.pairs
    truth, predicted = pairs.truth, pairs.predicted
    kinds = _joint_kinds(located, flip_order)
    everybody = everyone(pairs)
    ap = _ap(pairs, everybody)
    matches = match(pairs, [everybody], np.array([_NEAR]))
    background = (matches.person[0, 0] < 0) & ~matches.ignored[0, 0]
    missed = (located.rows < 0) & ~truth.ignored
    gains = {
        JOINT_KINDS[kind]: _repaired_ap(pairs, _put_right(located, kinds == kind)) - ap
        for kind in (JITTER, INVERSION, SWAP, MISS)
    }
    gains["score"] = _repaired_ap(pairs, _rescored(pairs)) - ap
    gains["background"] = _repaired_ap(pairs, _select(predicted, ~background)) - ap
    found_only = replace(everybody, left_out=everybody.left_out | missed)
    left = _ap(pairs, found_only)
    gains["missed persons"] = left - ap if left >= 0 else 0.0
    counts = {name: int((kinds == kind).sum()) for kind, name in enumerate(JOINT_KINDS)}
    return Taxonomy(kinds, counts, ap, gains, background, missed)


def _joint_kinds(located: Localization, flip_order: np.ndarray) -> np.ndarray:
    """The kind of every labelled joint of every person that was found, (G, K); -1 elsewhere."""
    truth, sigmas = located.pairs.truth, located.pairs.sigmas
    kinds = np.full(located.similarity.shape, -1)
    persons = np.flatnonzero(located.rows >= 0)
    own = located.similarity[persons]
    answers = located.pairs.predicted.keypoints[located.rows[persons]]
    kind = np.full(own.shape, MISS)
    kind[_near_others(truth, persons, answers, sigmas, flip_order)] = SWAP
    kind[_near(truth, persons, persons, answers, sigmas, flip_order) & (flip_order != np.arange(len(sigmas)))] = (
        INVERSION
    )
    kind[own >= _NEAR] = JITTER
    kind[own >= _CLOSE] = GOOD
    kind[np.isnan(own)] = -1
    kinds[persons] = kind
    return kinds


def _near(
    truth: GroundTruth,
    whose: np.ndarray,
    whom: np.ndarray,
    answers: np.ndarray,
    sigmas: np.ndarray,
    joint: np.ndarray,
) -> np.ndarray:
    """(P, K): the answered joint k lies near joint `joint[k]` of annotated person `whom`, on the scale of `whose`."""
    moved = answers[..., :2] - truth.keypoints[whom][:, joint, :2]
    squared = (moved**2).sum(-1)
    area = truth.areas[whose][:, None] + np.spacing(1)
    similar = np.exp(-squared / (2 * area * (2 * sigmas) ** 2))
    return (similar >= _NEAR) & (truth.keypoints[whom][:, joint, 2] > 0)


def _near_others(
    truth: GroundTruth, persons: np.ndarray, answers: np.ndarray, sigmas: np.ndarray, flip_order: np.ndarray
) -> np.ndarray:
    near = np.zeros(answers.shape[:2], bool)
    by_image = np.argsort(truth.image, kind="stable")
    first = np.searchsorted(truth.image[by_image], truth.image[persons])
    count = np.searchsorted(truth.image[by_image], truth.image[persons], side="right") - first
    for other in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > other)
        whom = by_image[first[rows] + other]
        rows, whom = rows[whom != persons[rows]], whom[whom != persons[rows]]
        for joint in (np.arange(len(sigmas)), flip_order):
            near[rows] |= _near(truth, persons[rows], whom, answers[rows], sigmas, joint)
    return near


def _put_right(located: Localization, wrong: np.ndarray) -> Predicted:
    """The predicted persons with the joints `wrong` (G, K) moved to their annotated places."""
    predicted = located.pairs.predicted
    keypoints = predicted.keypoints.copy()
    person, joint = np.nonzero(wrong)
    keypoints[located.rows[person], joint, :2] = located.pairs.truth.keypoints[person, joint, :2]
    return sort_predicted(predicted.image, keypoints, predicted.scores)


def _rescored(pairs: Pairs) -> Predicted:
    truth, predicted = pairs.truth, pairs.predicted
    best = np.zeros(len(predicted.image))
    counts = ~truth.ignored[pairs.truth_rows]
    np.maximum.at(best, pairs.predicted_rows[counts], pairs.oks[counts])
    return sort_predicted(predicted.image, predicted.keypoints, best)


def _select(predicted: Predicted, rows: np.ndarray) -> Predicted:
    return sort_predicted(predicted.image[rows], predicted.keypoints[rows], predicted.scores[rows])


def _repaired_ap(pairs: Pairs, repaired: Predicted) -> float:
    return _ap(make_pairs(pairs.truth, repaired, pairs.sigmas))


def _ap(pairs: Pairs, group: Group | None = None) -> float:
    return accumulate(match(pairs, [group or everyone(pairs)])).ap(0)
