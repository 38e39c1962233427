"""The rows of a table of the paper, and the like-for-like rows that it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psa_pose.errors import ConfigError
from psa_pose.paper.complexity import CONFIGS, read_table


@dataclass(frozen=True)
class Row:
    """config: name of a file in configs/coco. printed: as in paper_tables.yaml: percent, G and M."""

    name: str
    config: str
    printed: dict[str, float]
    note: str
    like_for_like: bool

    def file(self, root: Path) -> Path:
        """The config file in the repository `root`."""
        return root / CONFIGS / f"{self.config}.yaml"


def read_rows(number: str, root: Path) -> tuple[str, list[Row]]:
    """Title and rows of a table, those of the paper first. Raises ConfigError for a table that is not there."""
    table = read_table(number, root)
    rows = [
        Row(entry["name"], entry["config"], entry.get("printed", {}), entry.get("note", ""), kind == "like_for_like")
        for kind in ("rows", "like_for_like")
        for entry in table.get(kind, [])
    ]
    return table["title"], rows


def chosen_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of these names, which may be their configs'; raises ConfigError with the valid ones."""
    known = {key.casefold(): row for row in rows for key in (row.config, row.name)}
    unknown = [name for name in names if name.casefold() not in known]
    if unknown:
        raise ConfigError(
            f"the table has no row {unknown[0]!r}; give one of these, or its config: "
            f"{'; '.join(row.name for row in rows)}"
        )
    wanted = {id(known[name.casefold()]) for name in names}
    return [row for row in rows if id(row) in wanted]
