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

    def as_markdown(self) -> str:
        """The table as Markdown, a section of the second level."""
        parts = [f"## {self.title}"]
        parts += [f"**{self.warning}**"] if self.warning else []
        parts += [markdown_table(self.header, self.rows), self.legend.replace("*", "\\*").replace("~", "\\~")]
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        if self.details:
            parts.append(f"### {self.details_title}\n\n{markdown_table(self.details_header, self.details)}")
        return "\n\n".join(parts) + "\n"

    def as_page(self) -> str:
        """The table as an HTML page."""
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        body = [
            f"<h1>{escape(self.title)}</h1>",
            f"<p><b>{escape(self.warning)}</b></p>" if self.warning else "",
            html.table(self.header, self.rows),
            html.note(self.legend),
            f"<ul class='note'>{notes}</ul>" if notes else "",
            f"<h2>{self.details_title}</h2>{html.table(self.details_header, self.details)}" if self.details else "",
        ]
        return html.page(self.title, body, width=90)
