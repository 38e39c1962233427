"""How sure an AP is: bootstrap over images, with the matches computed once.

A resample draws as many images as there are, with replacement; its AP is that of the drawn images, each counted as
often as it was drawn. Only the order of the scores and who matched whom matter, so a resample is a vector of weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from psa_pose.errors import DataError
from psa_pose.metrics.coco_ap import RECALLS, STATS
from psa_pose.metrics.matching import Matches

if TYPE_CHECKING:
    from scipy import sparse

# Resamples whose curves are held at once.
_CHUNK = 64


@dataclass(frozen=True)
class Estimate:
    """A statistic, its 95 % interval, and for a difference its two-sided p-value (1.0 for a single value)."""

    value: float
    low: float
    high: float
    p_value: float = 1.0


def bootstrap(matches: Matches, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """STATS of each resample, (resamples, 10), 0 to 1; -1 where it has nobody to find.

    The same seed draws the same images, so two models on the same images can be compared resample by resample.
    """
    A, T, _ = matches.person.shape
    precision, recall = -np.ones((resamples, A, T)), -np.ones((resamples, A, T))
    M = len(matches.truth.image_ids)
    wanted = [np.bincount(matches.truth.image[matches.counted[a]], minlength=M).astype(np.float32) for a in range(A)]
    parts = [(a, t, *_steps(matches, a, t)) for a in range(A) for t in range(T) if wanted[a].any()]
    for rows, weights in draw_images(M, resamples, seed):
        for a, t, hits, predicted in parts:
            persons = wanted[a] @ weights
            answer = _weighted(hits @ weights, predicted @ weights, persons)
            precision[rows, a, t], recall[rows, a, t] = np.where(persons > 0, answer, -1)
    return _statistics(precision, recall)


def draw_images(images: int, resamples: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the resamples, and how often each image is drawn in them: (images, n) float32."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        n = min(_CHUNK, resamples - start)
        drawn = rng.integers(images, size=(n, images)) + np.arange(n)[:, None] * images
        weights = np.bincount(drawn.ravel(), minlength=n * images).reshape(n, images)
        yield slice(start, start + n), np.ascontiguousarray(weights.T.astype(np.float32))


def _steps(matches: Matches, group: int, threshold: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """The curve's steps, one per hit in the order of the scores: whose image each hit is (steps, M), and the images of
    all who were found since the step before, the hit included. False alarms after the last hit change nothing.
    """
    # Here, because it takes a tenth of a second that a training's start does not need.
    from scipy import sparse

    order = np.argsort(-matches.predicted.scores, kind="stable")
    right, wrong = matches.true_false_positives(group, threshold)
    right, counts, image = right[order], (right | wrong)[order], matches.predicted.image[order]
    step = np.cumsum(right) - right
    steps = int(right.sum())
    shape = (steps, len(matches.truth.image_ids))
    counts &= step < steps
    hits = sparse.csr_matrix((np.ones(steps, np.float32), (step[right], image[right])), shape)
    predicted = sparse.csr_matrix((np.ones(int(counts.sum()), np.float32), (step[counts], image[counts])), shape)
    return hits, predicted


def _weighted(hits: np.ndarray, predicted: np.ndarray, persons: np.ndarray) -> np.ndarray:
    """hits, predicted (steps, n), persons (n,) -> mean precision at RECALLS and recall of everything, (2, n)."""
    if not len(hits):
        return np.zeros((2, len(persons)))
    right = np.cumsum(hits, axis=0)
    precision = right / np.maximum(np.cumsum(predicted, axis=0), 1)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    answer = np.zeros((2, len(persons)))
    for n, number in enumerate(persons.tolist()):
        if number:
            # The fewest hits whose recall, in float64 as in `accumulate`, is not below.
            least = np.ceil(RECALLS * number - 1e-6)
            least += least / number < RECALLS
            at = np.searchsorted(right[:, n], least, side="left")
            answer[0, n] = envelope[at[at < len(envelope)], n].sum(dtype=float) / len(RECALLS)
            answer[1, n] = right[-1, n] / number
    return answer


def _statistics(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """precision, recall (n, A, T), -1 where undefined throughout a group -> STATS (n, 10)."""
    p, r = precision, recall
    columns = [p[:, 0].mean(1), p[:, 0, 0], p[:, 0, 5], p[:, 1].mean(1), p[:, 2].mean(1)]
    columns += [r[:, 0].mean(1), r[:, 0, 0], r[:, 0, 5], r[:, 1].mean(1), r[:, 2].mean(1)]
    return np.stack(columns, axis=1)


def intervals(stats: dict[str, float], samples: np.ndarray) -> dict[str, Estimate]:
    """The 95 % interval of every defined statistic; samples: of `bootstrap`."""
    defined = {name: column[column >= 0] for name, column in zip(STATS, samples.T, strict=True)}
    return {name: estimate(stats[name], defined[name]) for name in STATS if stats[name] >= 0}


def differences(
    first: dict[str, float], second: dict[str, float], samples_first: np.ndarray, samples_second: np.ndarray
) -> dict[str, Estimate]:
    """Second minus first, paired: both sample arrays must come from the same seed on the same images."""
    if samples_first.shape != samples_second.shape:
        raise DataError("the two bootstraps have different numbers of resamples; draw them alike")
    answer = {}
    for i, name in enumerate(STATS):
        if first[name] >= 0 and second[name] >= 0:
            defined = (samples_first[:, i] >= 0) & (samples_second[:, i] >= 0)
            moved = (samples_second - samples_first)[defined, i]
            answer[name] = estimate(second[name] - first[name], moved, paired=True)
    return answer


def estimate(value: float, samples: np.ndarray, paired: bool = False) -> Estimate:
    """A statistic with the interval that its resamples (n,) show; paired: it is a difference, with a p-value."""
    if not len(samples):
        return Estimate(value, value, value)
    low, high = np.percentile(samples, [2.5, 97.5])
    n = len(samples)
    # Twice the smaller tail; never 0, since n draws cannot show less than 1 / (n + 1).
    tail = min((samples <= 0).sum(), (samples >= 0).sum()) + 1
    return Estimate(value, float(low), float(high), min(1.0, 2 * tail / (n + 1)) if paired else 1.0)
