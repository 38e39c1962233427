"""Tables of results. A row always says whose boxes, which split, how many persons, and whether flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psa_pose.evaluation.coco_ap import STATS

BOXES = {"ground_truth": "ground truth", "detector": "detector"}


@dataclass(frozen=True)
class Evaluation:
    """COCO statistics (STATS -> 0 to 1) with the protocol that they hold for."""

    protocol: str
    split: str
    flip: bool
    persons: int
    images: int
    stats: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def format_table(evaluations: Sequence[Evaluation]) -> str:
    """Aligned text table, one row per evaluation; percent with one decimal as in the papers, "-" where undefined."""
    header = ["boxes", "split", "flip", "persons", *STATS[:6]]
    rows = [
        [BOXES[e.protocol], e.split, "yes" if e.flip else "no", f"{e.persons:,}", *_percents(e.stats)]
        for e in evaluations
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, ["-" * w for w in widths], *rows)
    ]
    return "\n".join(lines)


def _percents(stats: dict[str, float]) -> list[str]:
    return ["-" if stats[name] < 0 else f"{100 * stats[name]:.1f}" for name in STATS[:6]]
