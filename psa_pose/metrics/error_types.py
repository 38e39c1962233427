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

from psa_pose.metrics.accumulate import accumulate, group_ap
from psa_pose.metrics.diagnosis import Localization, everyone, locate
from psa_pose.metrics.matching import Group, Pairs, match, pairs_of
from psa_pose.metrics.persons import GroundTruth, Predicted, sorted_found

GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
JOINT_KINDS = ("good", "jitter", "inversion", "swap", "miss")
KINDS = (*JOINT_KINDS[1:], "score", "background", "missed persons")
CLOSE, NEAR = 0.85, 0.5


@dataclass(frozen=True)
class Taxonomy:
    """kinds (G, K): index into JOINT_KINDS, -1 where the joint is not labelled or its person not found. counts: joints
    per joint kind. ap: 0 to 1, -1 where undefined. gains: KINDS -> AP that would be given back. background, missed
    (D,), (G,): masks of found persons that mean nobody, and of annotated ones that nobody found.
    """

    kinds: np.ndarray
    counts: dict[str, int]
    ap: float
    gains: dict[str, float]
    background: np.ndarray
    missed: np.ndarray


def error_types(annotated: GroundTruth, found: Predicted, sigmas: np.ndarray, flip_order: np.ndarray) -> Taxonomy:
    """Classify every error and price every kind. sigmas (K,); flip_order (K,): each joint's mirror joint."""
    pairs = pairs_of(annotated, found, sigmas)
    located = locate(annotated, found, pairs, sigmas)
    kinds = joint_kinds(located, found, sigmas, flip_order)
    everybody = everyone(annotated, found)
    ap = _ap(annotated, found, sigmas, everybody, pairs)
    matches = match(annotated, found, pairs, [everybody], np.array([NEAR]))
    background = (matches.person[0, 0] < 0) & ~matches.ignored[0, 0]
    missed = (located.found < 0) & ~annotated.ignored
    gains = {
        JOINT_KINDS[kind]: _ap(annotated, _put_right(located, found, kinds == kind), sigmas) - ap
        for kind in (JITTER, INVERSION, SWAP, MISS)
    }
    gains["score"] = _ap(annotated, _rescored(annotated, found, pairs), sigmas) - ap
    gains["background"] = _ap(annotated, _select(found, ~background), sigmas) - ap
    found_only = replace(everybody, left_out=everybody.left_out | missed)
    left = _ap(annotated, found, sigmas, found_only, pairs)
    gains["missed persons"] = left - ap if left >= 0 else 0.0
    counts = {name: int((kinds == kind).sum()) for kind, name in enumerate(JOINT_KINDS)}
    return Taxonomy(kinds, counts, ap, gains, background, missed)


def joint_kinds(located: Localization, found: Predicted, sigmas: np.ndarray, flip_order: np.ndarray) -> np.ndarray:
    """The kind of every labelled joint of every found person, (G, K); -1 elsewhere."""
    annotated = located.annotated
    kinds = np.full(located.similarity.shape, -1)
    persons = np.flatnonzero(located.found >= 0)
    own = located.similarity[persons]
    answers = found.keypoints[located.found[persons]]
    kind = np.full(own.shape, MISS)
    kind[_near_others(annotated, persons, answers, sigmas, flip_order)] = SWAP
    kind[_near(annotated, persons, persons, answers, sigmas, flip_order) & (flip_order != np.arange(len(sigmas)))] = (
        INVERSION
    )
    kind[own >= NEAR] = JITTER
    kind[own >= CLOSE] = GOOD
    kind[np.isnan(own)] = -1
    kinds[persons] = kind
    return kinds


def _near(
    annotated: GroundTruth,
    whose: np.ndarray,
    whom: np.ndarray,
    answers: np.ndarray,
    sigmas: np.ndarray,
    joint: np.ndarray,
) -> np.ndarray:
    """(P, K): the answered joint k lies near joint `joint[k]` of annotated person `whom`, on the scale of `whose`."""
    moved = answers[..., :2] - annotated.keypoints[whom][:, joint, :2]
    squared = (moved**2).sum(-1)
    area = annotated.areas[whose][:, None] + np.spacing(1)
    similar = np.exp(-squared / (2 * area * (2 * sigmas) ** 2))
    return (similar >= NEAR) & (annotated.keypoints[whom][:, joint, 2] > 0)


def _near_others(
    annotated: GroundTruth, persons: np.ndarray, answers: np.ndarray, sigmas: np.ndarray, flip_order: np.ndarray
) -> np.ndarray:
    near = np.zeros(answers.shape[:2], bool)
    by_image = np.argsort(annotated.image, kind="stable")
    first = np.searchsorted(annotated.image[by_image], annotated.image[persons])
    count = np.searchsorted(annotated.image[by_image], annotated.image[persons], side="right") - first
    for other in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > other)
        whom = by_image[first[rows] + other]
        rows, whom = rows[whom != persons[rows]], whom[whom != persons[rows]]
        for joint in (np.arange(len(sigmas)), flip_order):
            near[rows] |= _near(annotated, persons[rows], whom, answers[rows], sigmas, joint)
    return near


def _put_right(located: Localization, found: Predicted, wrong: np.ndarray) -> Predicted:
    """The found persons with the joints `wrong` (G, K) moved to their annotated places."""
    keypoints = found.keypoints.copy()
    person, joint = np.nonzero(wrong)
    keypoints[located.found[person], joint, :2] = located.annotated.keypoints[person, joint, :2]
    return sorted_found(found.image, keypoints, found.scores)


def _rescored(annotated: GroundTruth, found: Predicted, pairs: Pairs) -> Predicted:
    best = np.zeros(len(found.image))
    counts = ~annotated.ignored[pairs.annotated]
    np.maximum.at(best, pairs.found[counts], pairs.oks[counts])
    return sorted_found(found.image, found.keypoints, best)


def _select(found: Predicted, rows: np.ndarray) -> Predicted:
    return sorted_found(found.image[rows], found.keypoints[rows], found.scores[rows])


def _ap(
    annotated: GroundTruth, found: Predicted, sigmas: np.ndarray, group: Group | None = None, pairs: Pairs | None = None
) -> float:
    pairs = pairs or pairs_of(annotated, found, sigmas)
    groups = [group or everyone(annotated, found)]
    return group_ap(accumulate(match(annotated, found, pairs, groups)), 0)
