"""PCK beside AP, where a data set is scored by it in statistics and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from psa_pose.metrics.comparison import Comparison
from psa_pose.metrics.pck.torso import joint_errors, pck_differences, pck_stats, result_errors
from psa_pose.run_log import Info
from psa_pose.skeleton import Skeleton


def add_pck(
    stats: dict[str, float], truth: dict[str, Any], results: Sequence[dict[str, Any]], skeleton: Skeleton, info: Info
) -> dict[str, float]:
    """COCO's statistics with those of PCK behind them; who does not count is said."""
    errors = result_errors(truth, results, skeleton)
    for note in errors.notes():
        info(note)
    return stats | pck_stats(errors)


def compare_pck(comparison: Comparison, skeleton: Skeleton, resamples: int) -> Comparison:
    """A comparison with the statistics of PCK, and their differences, behind COCO's."""
    errors = [joint_errors(side.pairs.truth, side.pairs.predicted, skeleton) for side in comparison.located]
    first, second = (stats | pck_stats(e) for stats, e in zip(comparison.stats, errors, strict=True))
    moved = pck_differences(errors[0], errors[1], resamples)
    return replace(comparison, stats=(first, second), differences=comparison.differences | moved)
