"""Aligned text and Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_columns(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, rule: bool = True) -> str:
    """Aligned text; the first `left` columns begin, the others end in line. rule: a line under the header."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, *([["-" * width for width in widths]] if rule else []), *rows]
    sides = ["<" if column < left else ">" for column in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:{side}{w}}" for cell, side, w in zip(line, sides, widths, strict=True)).rstrip()
        for line in lines
    )


def format_records(records: Sequence[Mapping[str, Any]]) -> str:
    """Aligned text, a column per key, in the order in which keys first appear; "-" where a record lacks one."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[_cell(record.get(key, "-")) for key in keys] for record in records]
    return format_columns(keys, rows, left=len(keys), rule=False)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; what Markdown reads as markup is escaped in the cells."""
    special = str.maketrans({"|": "\\|", "*": "\\*", "~": "\\~", "_": "\\_"})
    lines = [header, ["---"] * len(header), *([cell.translate(special) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
