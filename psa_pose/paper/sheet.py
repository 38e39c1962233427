"""A table with its notes as Markdown, and as one HTML page that fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from psa_pose.tables import markdown_table
from psa_pose.visualization import html


@dataclass(frozen=True)
class Sheet:
    """warning: above the table, "" for none. legend and notes: below it. details: of a second table, if it has rows."""

    title: str
    warning: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: str
    notes: Sequence[str]
    details_header: Sequence[str] = ()
    details: Sequence[Sequence[str]] = field(default_factory=list)


DETAILS = "All statistics, percent"


def markdown(sheet: Sheet) -> str:
    """The sheet as Markdown, a section of the second level."""
    parts = [f"## {sheet.title}"]
    parts += [f"**{sheet.warning}**"] if sheet.warning else []
    parts += [markdown_table(sheet.header, sheet.rows), sheet.legend.replace("*", "\\*").replace("~", "\\~")]
    parts += ["\n".join(f"- {note}" for note in sheet.notes)] if sheet.notes else []
    parts += [f"### {DETAILS}\n\n{markdown_table(sheet.details_header, sheet.details)}"] if sheet.details else []
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
        f"<h2>{DETAILS}</h2>{html.table(sheet.details_header, sheet.details)}" if sheet.details else "",
    ]
    return html.page(sheet.title, body, width=90)
