"""The box protocols: what they are called, and which of them statistics look like."""

from __future__ import annotations

from collections.abc import Mapping

# Percent: AR - AP of the rows known to be of either protocol lies below or above these, APL - APM on either side of
# _SIZES. What lies between says nothing. See the page of `evaluation`.
_GAP_GROUND_TRUTH, _GAP_DETECTOR, _SIZES = 3.7, 4.3, 9.1

# Whose boxes the persons were found in, in words; "unknown" where a result file does not say.
BOXES = {"ground_truth": "ground truth", "detector": "detector", "unknown": "not stated"}


def guess_protocol(stats: Mapping[str, float]) -> str | None:
    """The protocol that COCO statistics (0 to 1) look like: "ground_truth", "detector", or None: it cannot be told.

    A pattern of published val2017 rows, no proof: box scores spread the order of detector results, and annotated boxes
    do not miss the small persons.
    """
    if min(stats[name] for name in ("AP", "AR", "APM", "APL")) < 0:
        return None
    gap = round(100 * (stats["AR"] - stats["AP"]), 6)
    sizes = round(100 * (stats["APL"] - stats["APM"]), 6)
    if gap < _GAP_GROUND_TRUTH and sizes < _SIZES:
        return "ground_truth"
    if gap > _GAP_DETECTOR and sizes > _SIZES:
        return "detector"
    return None


def mixed_protocols(first: Mapping[str, float], second: Mapping[str, float]) -> str | None:
    """A warning when two sets of statistics look like different protocols; None where there is no reason for one."""
    looks = guess_protocol(first), guess_protocol(second)
    if None in looks or looks[0] == looks[1]:
        return None
    return (
        f"warning: by AR - AP and AP-L - AP-M the first looks like {BOXES[str(looks[0])]} boxes and the "
        f"second like {BOXES[str(looks[1])]} boxes; a difference between protocols says nothing about the models"
    )
