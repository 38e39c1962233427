"""A table with its notes: as Markdown, and as one HTML page that fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from psa_pose.tables import markdown_table
from psa_pose.visualization import html


@dataclass(frozen=True)
class NotedTable:
    """A table to be read.

    warning: above it; "" for none.
    legend, notes: below it.
    details_title, details_header, details: of a second table; no rows, no table.
    """

    title: str
    warning: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: str
    notes: Sequence[str]
    details_title: str = ""
    details_header: Sequence[str] = ()
    details: Sequence[Sequence[str]] = field(default_factory=list)


def as_markdown(table: NotedTable) -> str:
    """The table as Markdown, a section of the second level."""
    parts = [f"## {table.title}"]
    parts += [f"**{table.warning}**"] if table.warning else []
    parts += [markdown_table(table.header, table.rows), table.legend.replace("*", "\\*").replace("~", "\\~")]
    parts += ["\n".join(f"- {note}" for note in table.notes)] if table.notes else []
    if table.details:
        parts.append(f"### {table.details_title}\n\n{markdown_table(table.details_header, table.details)}")
    return "\n\n".join(parts) + "\n"


def as_page(table: NotedTable) -> str:
    """The table as an HTML page."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    body = [
        f"<h1>{escape(table.title)}</h1>",
        f"<p><b>{escape(table.warning)}</b></p>" if table.warning else "",
        html.table(table.header, table.rows),
        html.note(table.legend),
        f"<ul class='note'>{notes}</ul>" if notes else "",
        f"<h2>{table.details_title}</h2>{html.table(table.details_header, table.details)}" if table.details else "",
    ]
    return html.page(table.title, body, width=90)
