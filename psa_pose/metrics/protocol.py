"""The box protocols: what they are called, which of them a row looks like, and the published rows of both."""

from __future__ import annotations

from collections.abc import Mapping

# Percent: AR - AP of the rows known to be of either protocol lies below or above these, APL - APM on either side of
# _SIZES. What lies between says nothing. See the page of `evaluation`.
_GAP_GROUND_TRUTH, _GAP_DETECTOR, _SIZES = 3.7, 4.3, 9.1

# Whose boxes the persons were found in, in words; "unknown" where a result file does not say.
BOXES = {"ground_truth": "ground truth", "detector": "detector", "unknown": "not stated"}
# Boxes that are tested on val2017.
VAL2017 = {"ground_truth": 6352, "detector": 104_125}


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


# Name, protocol, then AP AP50 AP75 APM APL AR in percent on val2017 with flip test, as published; None: not printed.
# Detector boxes are those of the 56.4-AP person detector.
PUBLISHED: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    ("SimpleBaseline R50 256x192", "detector", (70.4, 88.6, 78.3, 67.1, 77.2, 76.3)),
    ("SimpleBaseline R50 256x192", "ground_truth", (72.4, 91.5, 80.4, 69.7, 76.5, 75.6)),
    ("SimpleBaseline R101 384x288", "detector", (73.6, 89.6, 80.3, 69.9, 81.1, 79.1)),
    ("SimpleBaseline R101 384x288", "ground_truth", (75.5, 92.5, 82.6, 72.4, 80.8, 78.4)),
    ("HRNet-W32 256x192", "detector", (74.4, 90.5, 81.9, 70.8, 81.0, 79.8)),
    ("HRNet-W32 256x192", "ground_truth", (76.5, 93.5, 83.7, 73.9, 80.8, 79.3)),
    ("HRNet-W48 256x192 (mmpose)", "detector", (75.6, 90.8, 82.6, None, None, 80.9)),
    ("HRNet-W48 256x192 (mmpose)", "ground_truth", (77.6, 93.6, 84.8, 74.7, 81.9, 80.2)),
    ("HRNet-W32 384x288", "detector", (75.8, 90.6, 82.5, 72.0, 82.7, 80.9)),
    ("HRNet-W32 384x288", "ground_truth", (77.8, None, None, None, None, None)),
)
