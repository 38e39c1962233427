"""Tables with their notes: as Markdown, as one HTML page that fetches nothing, and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from psa_pose.evaluation.result import BOXES
from psa_pose.files import write_json, write_text
from psa_pose.models.complexity import GI
from psa_pose.paper.results import PROTOCOLS, STATS
from psa_pose.tables import markdown_table
from psa_pose.visualization import html

_DETAILS = "All statistics, percent"

_HEADER = (
    "row", "AP, ground-truth boxes", "AP, detector boxes", "printed AP", "printed looks like", "ours - printed",
    "M parameters", "printed", "G multiply-adds", "printed",
)  # fmt: skip

_SMOKE = "TRIAL on three synthetic people, one training step from random weights: the AP figures mean nothing."

_LEGEND = (
    "AP: val2017 unless noted, percent, with the 95 % interval of a bootstrap over images; the weights after the last "
    "epoch. printed looks like: the boxes that the printed figures seem to have been measured with, by AR - AP and "
    "APL - APM: an inference, not the authors' word. ours - printed: with the boxes that the printed figures look "
    "like; with both where that cannot be told. G multiply-adds: of one image, / 2^30, as the literature counts them. "
    "*: the printed figure is not what the network has. A row with ~ is not in the paper: a like-for-like comparison."
)

_STATISTICS = ("row", "boxes", "persons", *STATS)


@dataclass(frozen=True)
class Sheet:
    """A table to be read.

    warning: above it; "" for none.
    legend, notes: below it.
    details_header, details: of a second table; no rows, no table.
    """

    title: str
    warning: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: str
    notes: Sequence[str]
    details_header: Sequence[str] = ()
    details: Sequence[Sequence[str]] = field(default_factory=list)


def table_sheet(content: Mapping[str, Any]) -> Sheet:
    """The sheet of `results.table_content`."""
    rows, notes = _cells(content)
    warning = _SMOKE if content["smoke"] else ""
    return Sheet(content["title"], warning, _HEADER, rows, _LEGEND, notes, _STATISTICS, _statistics(content))


def _cells(content: Mapping[str, Any]) -> tuple[list[list[str]], list[str]]:
    """The table's rows, and the notes below it."""
    rows: list[list[str]] = []
    notes: list[str] = []
    for row in content["rows"]:
        mark = ""
        remarks = [row["note"]] if row["note"] else []
        remarks += [f"run with {', '.join(row['changed'])}"] if row["changed"] else []
        if row["status"].startswith("failed"):
            remarks.append(row["status"])
        if remarks:
            notes.append(f"({len(notes) + 1}) {row['name']}: {'; '.join(remarks)}")
            mark = f" ({len(notes)})"
        printed = row["printed"]
        rows.append(
            [
                f"{row['name']}{' ~' if row['like_for_like'] else ''}{mark}",
                *(our_ap(row, protocol) for protocol in PROTOCOLS),
                f"{printed['AP']:.1f}" if "AP" in printed else "-",
                BOXES[row["printed_looks_like"]] if row["printed_looks_like"] else "-",
                _difference(row),
                f"{row['params'] / 1e6:.3f}",
                _printed(row, "mPara"),
                f"{row['macs'] / GI:.3f}",
                _printed(row, "Flops"),
            ]
        )
    return rows, notes


def our_ap(row: Mapping[str, Any], protocol: str) -> str:
    """Our AP with its interval, or the row's status."""
    if row["status"] != "complete":
        return row["status"].partition(":")[0]
    if protocol not in row["ours"]:
        return "not tested"
    evaluation = row["ours"][protocol]
    ap = evaluation["stats"]["AP"]
    if ap < 0:
        return "undefined"
    low, high = evaluation["intervals"]["AP"]
    split = "" if evaluation["split"] == "val2017" else f", {evaluation['split']}"
    flip = "" if evaluation["flip"] else ", no flip"
    return f"{100 * ap:.1f} ({100 * low:.1f} to {100 * high:.1f}{split}{flip})"


def _difference(row: Mapping[str, Any]) -> str:
    """Our AP minus the printed one, with the boxes that it looks like, or with each."""
    values = row["ours_minus_printed"]
    asked = [row["printed_looks_like"]] if row["printed_looks_like"] else PROTOCOLS
    told = [f"{values[name]:+.1f} {BOXES[name]}" for name in asked if name in values]
    return ", ".join(told) or "-"


def _statistics(content: Mapping[str, Any]) -> list[list[str]]:
    """Every statistic of the rows that were run, ours and printed: a second table; empty where none was run."""
    lines = []
    for row in content["rows"]:
        for protocol, evaluation in row["ours"].items():
            percents = [f"{100 * v:.1f}" if v >= 0 else "-" for v in (evaluation["stats"][name] for name in STATS)]
            lines.append([row["name"], BOXES[protocol], f"{evaluation['persons']:,}", *percents])
        if row["ours"] and "AP" in row["printed"]:
            known = row["printed"]
            lines.append([row["name"], "printed", "-", *(f"{known[n]:.1f}" if n in known else "-" for n in STATS)])
    return lines


def _printed(row: Mapping[str, Any], name: str) -> str:
    if name not in row["printed"]:
        return "-"
    return f"{row['printed'][name]}{'*' if name in row['not_reproduced'] else ''}"


def write_sheet(stem: Path, sheet: Sheet, content: Mapping[str, Any]) -> str:
    """Write a table in three forms; the answer says where."""
    write_text(stem.with_suffix(".md"), markdown(sheet))
    write_text(stem.with_suffix(".html"), page(sheet))
    write_json(stem.with_suffix(".json"), content)
    return f"{stem}.md, .json and .html"


def markdown(sheet: Sheet) -> str:
    """The sheet as Markdown, a section of the second level."""
    parts = [f"## {sheet.title}"]
    parts += [f"**{sheet.warning}**"] if sheet.warning else []
    parts += [markdown_table(sheet.header, sheet.rows), sheet.legend.replace("*", "\\*").replace("~", "\\~")]
    parts += ["\n".join(f"- {note}" for note in sheet.notes)] if sheet.notes else []
    parts += [f"### {_DETAILS}\n\n{markdown_table(sheet.details_header, sheet.details)}"] if sheet.details else []
    return "\n\n".join(parts) + "\n"


def page(sheet: Sheet) -> str:
    """The sheet as an HTML page."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in sheet.notes)
    body = [
        f"<h1>{escape(sheet.title)}</h1>",
        f"<p><b>{escape(sheet.warning)}</b></p>" if sheet.warning else "",
        html.table(sheet.header, sheet.rows),
        html.note(sheet.legend),
        f"<ul class='note'>{notes}</ul>" if notes else "",
        f"<h2>{_DETAILS}</h2>{html.table(sheet.details_header, sheet.details)}" if sheet.details else "",
    ]
    return html.page(sheet.title, body, width=90)
