"""Means of figures that are not all defined."""

from __future__ import annotations

import numpy as np


def mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean along an axis of what is no NaN; NaN where all is."""
    known = ~np.isnan(values)
    number = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
