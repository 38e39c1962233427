"""One evaluation, or two compared, as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from psa_pose.metrics.coco_ap import RECALLS, STATS
from psa_pose.metrics.comparison import Comparison
from psa_pose.metrics.error_types import JOINT_KINDS, Taxonomy
from psa_pose.metrics.pck.torso import PCK, JointErrors
from psa_pose.metrics.protocol import BOXES, guess_protocol
from psa_pose.metrics.significance import Estimate
from psa_pose.visualization import html, svg
from psa_pose.visualization.pck_section import pck_section

_KIND_TEXT = {
    "jitter": "near its place, but not close",
    "inversion": "on the mirror joint of the same person",
    "swap": "on the same or the mirror joint of another person",
    "miss": "near no place where such a joint is",
    "score": "an order of the scores that is not that of the similarities",
    "background": "found persons that match nobody at OKS 0.5",
    "missed persons": "annotated persons whom nobody found at OKS 0.1",
}


@dataclass(frozen=True)
class Report:
    """What the page of one evaluation shows; shares are 0 to 1.

    title: the model.
    protocol: whose boxes, which split, how many persons.
    stats: COCO's statistics, -1 where undefined.
    intervals: 95 % of the statistics that are defined.
    precision: (T, 101), of all persons, at RECALLS and per OKS threshold.
    keypoints: rows of `diagnosis.keypoint_rows`.
    kinds: rows of `diagnosis.subset_ap`.
    taxonomy: the errors.
    pck: of a data set that is scored by PCK; None otherwise.
    figures: heading -> persons.
    pictures_show: what each of a figure's pictures is.
    """

    title: str
    protocol: str
    stats: dict[str, float]
    intervals: dict[str, Estimate]
    precision: np.ndarray
    keypoints: list[dict[str, Any]]
    kinds: list[dict[str, Any]]
    taxonomy: Taxonomy
    pck: JointErrors | None = None
    figures: dict[str, list[html.Figure]] = field(default_factory=dict)
    pictures_show: str = ""

    def page(self) -> str:
        """The page's text."""
        body = [
            f"<h1>{escape(self.title)}</h1><p>{escape(self.protocol)}</p>",
            _statistics(self),
            pck_section(self.pck) if self.pck else "",
            _curves(self),
            _keypoints(self),
            _kinds(self),
            _errors(self),
            *_figures(self.figures, self.pictures_show),
        ]
        return html.page(f"{self.title}: {self.protocol}", body)


@dataclass(frozen=True)
class ComparisonReport:
    """What the page of two models shows.

    names, protocols: of the first and of the second; a protocol is whose boxes, which split, how many persons.
    comparison: the figures.
    warnings: why they may say nothing about the models.
    figures: heading -> persons.
    pictures_show: what each of a figure's pictures is.
    """

    names: tuple[str, str]
    protocols: tuple[str, str]
    comparison: Comparison
    warnings: list[str]
    figures: dict[str, list[html.Figure]]
    pictures_show: str

    def page(self) -> str:
        """The page's text."""
        comparison = self.comparison
        rows = [
            [name, *(f"{100 * stats[name]:.1f}" for stats in comparison.stats), f"{100 * d.value:+.2f}",
             f"{100 * d.low:+.2f} to {100 * d.high:+.2f}", f"{d.p_value:.3f}"]
            for name, d in comparison.differences.items()
        ]  # fmt: skip
        keypoints = comparison.keypoints
        chart = svg.bars(
            [row["keypoint"] for row in keypoints], [row["difference"] for row in keypoints], "change of mean OKS", ""
        )
        sides = [
            f"<li>{what}: {escape(name)} ({escape(protocol)})"
            for what, name, protocol in zip(("first", "second"), self.names, self.protocols, strict=True)
        ]
        body = [
            f"<h1>Two models on the same persons</h1><ul>{''.join(sides)}</ul>",
            *(f"<p><b>{escape(warning)}</b></p>" for warning in self.warnings),
            f"<h2>{'Statistics' if PCK in comparison.stats[0] else 'COCO statistics'}, percent</h2>",
            html.table(["", "first", "second", "difference", "95 % interval", "p"], rows),
            html.note("Paired bootstrap over images; p is two-sided."),
            f"<h2>Second minus first: mean OKS of each keypoint, percent</h2>{chart}",
            html.note("Blue: the second is better; orange: the first is."),
            *_figures(self.figures, self.pictures_show),
        ]
        return html.page("Two models compared", body)


def _statistics(report: Report) -> str:
    rows = []
    for name in STATS:
        value = report.stats[name]
        interval = report.intervals.get(name)
        span = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else "-"
        rows.append([name, "-" if value < 0 else f"{100 * value:.1f}", span])
    looks = guess_protocol(report.stats)
    words = f"AR - AP and APL - APM look like {BOXES[looks]} boxes." if looks else (
        "AR - AP and APL - APM do not tell which boxes were used.")  # fmt: skip
    note = f"95 % interval: bootstrap over images. {words}"
    return f"<h2>COCO statistics, percent</h2>{html.table(['', 'value', '95 % interval'], rows)}{html.note(note)}"


def _curves(report: Report) -> str:
    chosen = [(f"OKS {t:g}", report.precision[i]) for i, t in ((0, 0.5), (5, 0.75), (8, 0.9))]
    lines = [(name, values.tolist()) for name, values in chosen if values[0] >= 0]
    chart = svg.curves(RECALLS.tolist(), lines, "precision over recall", ("recall", "precision"))
    return f"<h2>Precision and recall, all persons</h2>{chart}"


def _keypoints(report: Report) -> str:
    rows = report.keypoints
    chart = svg.bars([r["keypoint"] for r in rows], [r["oks"] for r in rows], "mean OKS of each keypoint", "")
    keys = [key for key in rows[0] if key.startswith("pck")]
    header = ["keypoint", "labelled", "OKS", *(k.replace("pck", "PCK") for k in keys), "median px", "of size"]
    cells = [
        [r["keypoint"], f"{r['labelled']:,}", _percent(r["oks"]), *(_percent(r[k]) for k in keys),
         "-" if r["median_px"] is None else f"{r['median_px']:.2f}", _percent(r["median_of_size"], 2)]
        for r in rows
    ]  # fmt: skip
    note = (
        "Mean OKS of the joint and PCK (error within this share of the longer side of the annotated box) over all "
        "labelled joints, those of persons whom nobody found counting 0; median error of those found, also as a "
        "percentage of the square root of the person's area."
    )
    return f"<h2>Keypoints, percent</h2>{chart}{html.table(header, cells)}{html.note(note)}"


def _kinds(report: Report) -> str:
    rows = [[f"{r['by']}: {r['group']}", f"{r['persons']:,}", _percent(r["AP"])] for r in report.kinds]
    note = "Found persons that match nobody count against every group but those of area."
    return f"<h2>AP of kinds of persons, percent</h2>{html.table(['', 'persons', 'AP'], rows)}{html.note(note)}"


def _errors(report: Report) -> str:
    taxonomy = report.taxonomy
    chart = svg.bars(list(taxonomy.gains), list(taxonomy.gains.values()), "AP given back by each kind of error", "AP")
    total = max(1, sum(taxonomy.counts.values()))
    rows = [[name, f"{taxonomy.counts[name]:,}", f"{100 * taxonomy.counts[name] / total:.1f}"] for name in JOINT_KINDS]
    rows += [["found persons in the background", f"{taxonomy.background.sum():,}", "-"]]
    rows += [["persons whom nobody found", f"{taxonomy.missed.sum():,}", "-"]]
    text = "".join(f"<li><b>{escape(kind)}</b>: {escape(words)}" for kind, words in _KIND_TEXT.items())
    return (
        f"<h2>Kinds of errors, and the AP that each would give back alone</h2>{chart}"
        f"{html.table(['joints of found persons', 'number', '%'], rows)}<ul class='note'>{text}</ul>"
    )


def _figures(figures: dict[str, list[html.Figure]], pictures_show: str) -> list[str]:
    parts = [f"<h2>{escape(heading)}</h2>{html.figure_grid(some)}" for heading, some in figures.items()]
    return [*parts, html.note(pictures_show)]


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"
