"""The part of an evaluation's page that shows PCK."""

from __future__ import annotations

from psa_pose.metrics.pck.torso import (
    AUC,
    GROUPS,
    PCK,
    PCKH,
    THRESHOLDS,
    JointErrors,
    counted_joints,
    pck_curves,
    pck_intervals,
    pck_stats,
)
from psa_pose.visualization import html, svg

_NOTE = (
    "Share of joints found within 0.2 of the torso (left shoulder to right hip), of the best person found on an image; "
    f"{PCK} is the mean of all joints, {AUC} the area below the curve from 0 to 0.2 divided by 0.2, {PCKH} the share "
    "within half the distance from neck to head top. 95 % interval: bootstrap over images."
)


def pck_section(errors: JointErrors) -> str:
    """The HTML of a page's part: curves, and a table of joints, groups and totals with intervals."""
    stats, spans, counted, curves = pck_stats(errors), pck_intervals(errors), counted_joints(errors), pck_curves(errors)
    # The axes of a chart end at 1: thresholds as shares of the greatest.
    shares = (THRESHOLDS / THRESHOLDS[-1]).tolist()
    chart = svg.curves(shares, list(curves.items()), "PCK over threshold", ("threshold / 0.2 of the torso", "PCK"))
    rows = []
    for name in (*errors.names, *GROUPS, PCK, AUC, PCKH):
        span = spans.get(name)
        number = f"{counted[name]:,}" if name in counted else ""
        value = f"{100 * stats[name]:.1f}" if span else "-"
        rows.append([name, number, value, f"{100 * span.low:.1f} to {100 * span.high:.1f}" if span else "-"])
    table = html.table(["", "joints", "PCK", "95 % interval"], rows)
    return f"<h2>PCK, percent</h2>{chart}{table}{html.note(' '.join([_NOTE, *(f'{n}.' for n in errors.notes())]))}"
