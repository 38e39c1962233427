"""Who found whom: OKS of every pair on an image and COCO's greedy matching, for all images at once.

The arithmetic is that of pycocotools' `computeOks` and `evaluateImg`, in its order of operations, so that the figures
that follow are equal to the last bit. Matches are computed once; AP, curves, bootstrap and diagnosis read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from psa_pose.metrics.persons import GroundTruth, Predicted, read_ground_truth, read_predicted

# `Params.setKpParams`.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
# Pairs whose distances are held at once.
CHUNK = 1 << 15


@dataclass(frozen=True)
class Group:
    """Whose AP is asked for.

    name: for tables.
    left_out: (G,) bool, annotated persons that do not count, nor does who finds them.
    outside: (D,) bool, predicted persons that do not count when they match nobody.
    """

    name: str
    left_out: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Every annotated person with every predicted one of the same image: P pairs, by predicted person.

    truth, predicted: the persons.
    sigmas: (K,), OKS constants.
    truth_rows, predicted_rows: (P,) int, rows of the persons of each pair.
    oks: (P,), 0 to 1.
    """

    truth: GroundTruth
    predicted: Predicted
    sigmas: np.ndarray
    truth_rows: np.ndarray
    predicted_rows: np.ndarray
    oks: np.ndarray


@dataclass(frozen=True)
class Matches:
    """The matching of A groups at T OKS thresholds.

    truth, predicted: the persons.
    person: (A, T, D) int32, row of the annotated person that each predicted one matches, or -1.
    ignored: (A, T, D) bool, predicted persons that count neither as right nor as wrong.
    counted: (A, G) bool, annotated persons to be found.
    """

    truth: GroundTruth
    predicted: Predicted
    person: np.ndarray
    ignored: np.ndarray
    counted: np.ndarray

    def true_false_positives(self, group: int, threshold: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks (D,) of the predicted persons that count as hits and as false alarms."""
        hit, counts = self.person[group, threshold] >= 0, ~self.ignored[group, threshold]
        return hit & counts, ~hit & counts


def _area_groups(truth: GroundTruth, predicted: Predicted) -> list[Group]:
    """COCO's three: all, medium and large persons."""
    return [
        Group(name, truth.ignored | _outside(truth.areas, span), _outside(predicted.areas, span))
        for name, span in AREAS.items()
    ]


def _outside(areas: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    return (areas < span[0]) | (areas > span[1])


def read_pairs(annotations: dict[str, Any], results: Sequence[dict[str, Any]], sigmas: np.ndarray) -> Pairs:
    """The pairs of a COCO keypoint result list with the content of an annotation file. sigmas (K,)."""
    truth = read_ground_truth(annotations, len(sigmas))
    return make_pairs(truth, read_predicted(results, truth), sigmas)


def make_pairs(truth: GroundTruth, predicted: Predicted, sigmas: np.ndarray) -> Pairs:
    """The pairs of persons, and their OKS. sigmas (K,)."""
    by_image = np.argsort(truth.image, kind="stable")
    first = np.searchsorted(truth.image[by_image], predicted.image)
    count = np.searchsorted(truth.image[by_image], predicted.image, side="right") - first
    whose = np.repeat(np.arange(len(predicted.image)), count)
    place = np.arange(len(whose)) - np.repeat(np.cumsum(count) - count, count)
    whom = by_image[np.repeat(first, count) + place]
    oks = np.zeros(len(whose))
    labelled = (truth.keypoints[..., 2] > 0).sum(1)[whom]
    # Persons with equally many labelled joints together: a sum over rows without gaps is the sum of each by itself.
    for number in np.unique(labelled):
        rows = np.flatnonzero(labelled == number)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            similar = keypoint_similarity(truth, whom[part], predicted.keypoints[whose[part]], sigmas)
            if number:
                similar = similar[truth.keypoints[whom[part], :, 2] > 0].reshape(len(part), number)
            oks[part] = similar.sum(1) / similar.shape[1]
    return Pairs(truth, predicted, sigmas, whom, whose, oks)


def keypoint_similarity(
    annotated: GroundTruth, persons: np.ndarray, keypoints: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """exp(-d^2 / (2 area (2 sigma)^2)) of each joint, (P, K): annotated `persons` (P,), `keypoints` (P, K, >= 2).

    A person without any labelled joint has none to measure from: d is then the distance from its doubled box.
    """
    difference = keypoints[..., :2] - annotated.keypoints[persons, :, :2]
    blank = ~(annotated.keypoints[persons, :, 2] > 0).any(1)
    boxes = annotated.boxes[persons[blank]]
    low, high = boxes[:, None, :2] - boxes[:, None, 2:], boxes[:, None, :2] + boxes[:, None, 2:] * 2
    points = keypoints[blank, :, :2]
    difference[blank] = np.maximum(0, low - points) + np.maximum(0, points - high)
    squared = difference[..., 0] ** 2 + difference[..., 1] ** 2
    areas = annotated.areas[persons] + np.spacing(1)
    return np.exp(-(squared / (sigmas * 2) ** 2 / areas[:, None] / 2))


def match(pairs: Pairs, groups: Sequence[Group] | None = None, thresholds: np.ndarray = THRESHOLDS) -> Matches:
    """COCO's matching: predicted persons in turn, best score first, each take the free person with the greatest OKS.

    A person that counts goes before one that does not; of equals the later in the file; a crowd is never used up.
    groups: by default COCO's three, those of AREAS.
    """
    truth, predicted = pairs.truth, pairs.predicted
    groups = groups or _area_groups(truth, predicted)
    shape = (len(groups), len(thresholds), len(predicted.image))
    person = np.full(shape, -1, np.int32)
    left_out = np.array([group.left_out for group in groups])
    least = np.minimum(thresholds, 1 - 1e-10)
    for rows, whom, oks in _by_number_of_persons(pairs):
        there = rows.ravel() >= 0
        matched = _match_images(oks, left_out[:, whom], truth.crowd[whom], whom, least)
        person[:, :, rows.ravel()[there]] = matched[:, :, there]
    ignored = np.repeat(np.array([group.outside for group in groups])[:, None], len(least), axis=1)
    group, threshold, row = np.nonzero(person >= 0)
    ignored[group, threshold, row] = left_out[group, person[group, threshold, row]]
    return Matches(truth, predicted, person, ignored, ~left_out)


def _by_number_of_persons(pairs: Pairs) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Images with equally many annotated persons together, n images at a time.

    Yields rows (n, ranks) of found persons, -1 where there are fewer; whom (n, g), annotated persons in file order; and
    oks (n, ranks, g), 0 where there is no found person.
    """
    truth, predicted = pairs.truth, pairs.predicted
    by_image = np.argsort(truth.image, kind="stable")
    M = len(truth.image_ids)
    persons = np.bincount(truth.image, minlength=M)
    founds = np.bincount(predicted.image, minlength=M)
    first_person, first_found = np.cumsum(persons) - persons, np.cumsum(founds) - founds
    first_pair = np.cumsum(persons * founds) - persons * founds
    for g in np.unique(persons[(persons > 0) & (founds > 0)]):
        images = np.flatnonzero((persons == g) & (founds > 0))
        step = max(1, CHUNK // int(g))
        for part in (images[start : start + step] for start in range(0, len(images), step)):
            rank = np.arange(founds[part].max())
            there = rank < founds[part][:, None]
            rows = np.where(there, first_found[part][:, None] + rank, -1)
            index = first_pair[part][:, None, None] + rank[:, None] * g + np.arange(g)
            oks = np.where(there[..., None], pairs.oks[np.where(there[..., None], index, 0)], 0.0)
            yield rows, by_image[first_person[part][:, None] + np.arange(g)], oks


def _match_images(
    oks: np.ndarray, left_out: np.ndarray, crowd: np.ndarray, whom: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """oks (n, ranks, g), left_out (A, n, g), crowd and whom (n, g), least (T,) -> matched persons (A, T, n * ranks)."""
    n, ranks, g = oks.shape
    A, T = len(left_out), len(least)
    free = np.ones((A, T, n, g), bool)
    answer = np.full((A, T, n, ranks), -1, np.int32)
    image = np.arange(n)
    for rank in range(ranks):
        similar = oks[:, rank]
        value = np.where((free | crowd) & (similar >= least[:, None, None]), similar, -1.0)
        counting = np.where(left_out[:, None], -1.0, value)
        # The last of equals.
        best = np.where((counting >= 0).any(-1), _last_argmax(counting), _last_argmax(value))
        hit = (value >= 0).any(-1)
        answer[..., rank] = np.where(hit, whom[image, best], -1)
        a, t, i = np.nonzero(hit)
        free[a, t, i, best[a, t, i]] = False
    return answer.reshape(A, T, n * ranks)


def _last_argmax(values: np.ndarray) -> np.ndarray:
    return values.shape[-1] - 1 - values[..., ::-1].argmax(-1)
