"""A table of the paper, its cells as words, and the files it is written to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psa_pose.files import write_json, write_text
from psa_pose.metrics.protocol import BOXES
from psa_pose.models.complexity import GI
from psa_pose.paper.results import PROTOCOLS, STATS
from psa_pose.visualization.noted_table import NotedTable

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


def table_page(content: Mapping[str, Any]) -> NotedTable:
    """The table of `results.table_content`."""
    rows, notes = _cells(content)
    warning = _SMOKE if content["smoke"] else ""
    details = "All statistics, percent", _STATISTICS, _statistics(content)
    return NotedTable(content["title"], warning, _HEADER, rows, _LEGEND, notes, *details)


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
    return ", ".join(f"{values[name]:+.1f} {BOXES[name]}" for name in asked if name in values) or "-"


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


def write_page(stem: Path, table: NotedTable, content: Mapping[str, Any]) -> str:
    """Write a table in three forms; the answer says where."""
    write_text(stem.with_suffix(".md"), table.as_markdown())
    write_text(stem.with_suffix(".html"), table.as_page())
    write_json(stem.with_suffix(".json"), content)
    return f"{stem}.md, .json and .html"
