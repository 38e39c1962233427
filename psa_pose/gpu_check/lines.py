"""A line of the check: one promise, its figure, its limit and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from psa_pose.files import write_json, write_text
from psa_pose.tables import markdown_table

PASS, FAIL, LEFT_OUT = "PASS", "FAIL", "LEFT OUT"


@dataclass(frozen=True)
class Line:
    """One promise.

    name: what is promised.
    verdict: PASS, FAIL or LEFT_OUT.
    value: the figure as a number; None where it has none.
    figure, limit: as they are shown, with their unit.
    note: the conditions, or why it was left out or failed.
    """

    name: str
    verdict: str
    value: float | None = None
    figure: str = ""
    limit: str = ""
    note: str = ""

    def text(self) -> str:
        """One line for a terminal."""
        limit = f" (limit: {self.limit})" if self.limit else ""
        return f"{self.verdict:8}  {self.name}: {self.figure or '-'}{limit}{'; ' if self.note else ''}{self.note}"


def at_most(name: str, value: float, limit: float, unit: str = "", note: str = "") -> Line:
    """PASS where the value is at most the limit; a value that is not a number fails."""
    return _line(name, value, value <= limit, f"at most {_number(limit, unit)}", unit, note)


def at_least(name: str, value: float, limit: float, unit: str = "", note: str = "") -> Line:
    """PASS where the value is at least the limit; a value that is not a number fails."""
    return _line(name, value, value >= limit, f"at least {_number(limit, unit)}", unit, note)


def holds(name: str, true: bool, figure: str, limit: str, note: str = "") -> Line:
    """PASS where it is true; figure, limit: what was found and what should be."""
    return Line(name, PASS if true else FAIL, None, figure, limit, note)


def left_out(name: str, reason: str) -> Line:
    """A promise that was not looked at, and why."""
    return Line(name, LEFT_OUT, note=reason)


def _line(name: str, value: float, good: bool, limit: str, unit: str, note: str) -> Line:
    return Line(name, PASS if good else FAIL, value, _number(value, unit), limit, note)


def _number(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


def failures(lines: Sequence[Line]) -> int:
    """How many promises were not kept."""
    return sum(line.verdict == FAIL for line in lines)


def summary(lines: Sequence[Line]) -> str:
    """How many of each verdict."""
    counts = {verdict: sum(line.verdict == verdict for line in lines) for verdict in (PASS, FAIL, LEFT_OUT)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def markdown(lines: Sequence[Line], machine: str, seconds: float) -> str:
    """The table for an issue, under the machine's description and the counts."""
    rows = [[line.name, line.figure or "-", line.limit or "-", line.verdict, line.note] for line in lines]
    table = markdown_table(["promise", "figure", "limit", "verdict", "note"], rows)
    return f"{machine}\n\n{summary(lines)}, in {seconds:.0f} s\n\n{table}\n"


def write_lines(folder: Path, lines: Sequence[Line], machine: dict[str, Any], text: str, seconds: float) -> None:
    """gpu_check.json and gpu_check.md. machine: its facts; text: they as one line; seconds: the check's length."""
    content = {"machine": machine, "seconds": seconds, "failures": failures(lines), "lines": [asdict(x) for x in lines]}
    write_json(folder / "gpu_check.json", content)
    write_text(folder / "gpu_check.md", markdown(lines, text, seconds))
