"""Aligned text and Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_records(records: Sequence[Mapping[str, Any]]) -> str:
    """Aligned text, a column per key, in the order in which keys first appear; "-" where a record lacks one."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    lines = [keys, *([_cell(record.get(key, "-")) for key in keys] for record in records)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    special = str.maketrans({"|": "\\|", "*": "\\*", "~": "\\~", "_": "\\_"})
    lines = [header, ["---"] * len(header), *([cell.translate(special) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_columns(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned text; the first `left` columns begin, the others end in line."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, ["-" * w for w in widths], *rows)
    ]
    return "\n".join(lines)
