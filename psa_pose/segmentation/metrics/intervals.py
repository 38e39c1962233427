"""How sure a figure is: bootstrap over images, from the counts of each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from psa_pose.errors import DataError
from psa_pose.metrics.significance import Estimate, draw_images, estimate
from psa_pose.segmentation.metrics.confusion import STATS, summary


def bootstrap(counts: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """STATS of each resample, (resamples, 6), NaN where nothing is labelled.

    counts: (N, 3, C) of each image. A resample draws N images with replacement; the same seed draws the same images, so
    two models on the same images can be compared resample by resample.
    """
    if not len(counts):
        raise DataError("there is no image to draw from; evaluate on at least one")
    flat, samples = counts.reshape(len(counts), -1).astype(float), np.empty((resamples, len(STATS)))
    for rows, times in draw_images(len(counts), resamples, seed):
        samples[rows] = summary((times.T @ flat).reshape(-1, *counts.shape[1:]))
    return samples


def intervals(counts: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict[str, Estimate]:
    """The 95 % interval of each of STATS, over the images of counts (N, 3, C)."""
    value, samples = summary(counts.sum(0)), bootstrap(counts, resamples, seed)
    return {name: _estimate(value[i], samples[:, i], paired=False) for i, name in enumerate(STATS)}


def compare(
    first: np.ndarray,
    second: np.ndarray,
    names_first: Sequence[str],
    names_second: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Second minus first of each of STATS, paired by image: counts (N, 3, C) and the images' names, in any order.

    Raises DataError where the two are of other images or classes.
    """
    if sorted(names_first) != sorted(names_second) or len(set(names_first)) != len(names_first):
        strangers = sorted(set(names_first) ^ set(names_second)) or ["an image twice"]
        raise DataError(f"the two results are of different images ({strangers[0]}); evaluate both on the same list")
    if first.shape != second.shape:
        raise DataError(
            f"the two results have {first.shape[2]} and {second.shape[2]} classes; compare results of one class list"
        )
    place = {name: row for row, name in enumerate(names_second)}
    second = second[[place[name] for name in names_first]]
    difference = summary(second.sum(0)) - summary(first.sum(0))
    samples = bootstrap(second, resamples, seed) - bootstrap(first, resamples, seed)
    return {name: _estimate(difference[i], samples[:, i], paired=True) for i, name in enumerate(STATS)}


def _estimate(value: float, samples: np.ndarray, paired: bool) -> Estimate:
    return estimate(float(value), samples[~np.isnan(samples)], paired)
