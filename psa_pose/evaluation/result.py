"""Tables of results. A row always says whose boxes, which split, how many persons, and whether flipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psa_pose.metrics.coco_ap import STATS
from psa_pose.metrics.pck import PCKH, PCKH_COLUMNS
from psa_pose.metrics.protocol import BOXES, PUBLISHED, VAL2017
from psa_pose.tables import format_columns

_FLIP = {True: "yes", False: "no", None: "not stated"}


@dataclass(frozen=True)
class Evaluation:
    """COCO's statistics (STATS -> 0 to 1), or MPII's (PCKH_COLUMNS and joints), with the protocol that they hold for.

    protocol: a key of BOXES; "unknown" and flip None where a result file does not say.
    """

    protocol: str
    split: str
    flip: bool | None
    persons: int
    images: int
    stats: dict[str, float]

    @property
    def score(self) -> float:
        """What the best checkpoint is chosen by: AP, or PCKh."""
        return self.stats[PCKH if PCKH in self.stats else "AP"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def format_table(evaluations: Sequence[Evaluation], names: Sequence[str] | None = None) -> str:
    """Aligned text table, one row per evaluation; percent with one decimal as in the papers, "-" where undefined.

    names: of the rows, in a first column.
    """
    columns = PCKH_COLUMNS if any(PCKH in e.stats for e in evaluations) else STATS[:6]
    header = ["boxes", "split", "flip", "persons", *columns]
    rows = [
        [BOXES[e.protocol], e.split, _FLIP[e.flip], f"{e.persons:,}", *_percents(e.stats, columns)] for e in evaluations
    ]
    if names is not None:
        header, rows = ["model", *header], [[name, *row] for name, row in zip(names, rows, strict=True)]
    return format_columns(header, rows, left=3 + (names is not None))


def published_rows() -> tuple[list[str], list[Evaluation]]:
    """Names and evaluations of the published baselines, both protocols, for `format_table`."""
    rows = [
        Evaluation(protocol, "val2017", True, VAL2017[protocol], 5000, _published_stats(values))
        for _, protocol, values in PUBLISHED
    ]
    return [f"{name}, published" for name, _, _ in PUBLISHED], rows


def _published_stats(values: tuple[float | None, ...]) -> dict[str, float]:
    known = {name: -1.0 if v is None else v / 100 for name, v in zip(STATS[:6], values, strict=True)}
    return {name: known.get(name, -1.0) for name in STATS}


def _percents(stats: dict[str, float], columns: Sequence[str]) -> list[str]:
    return ["-" if stats[name] < 0 else f"{100 * stats[name]:.1f}" for name in columns]
