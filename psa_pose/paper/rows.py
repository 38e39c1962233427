"""The rows of a table of the paper, and the like-for-like rows that it lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from psa_pose.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.paper.complexity import CONFIGS, read_table


@dataclass(frozen=True)
class Row:
    """A row of configs/paper/tables.yaml.

    config: name of a config, such as coco/hrnet/hrnet_w32_256x192. overrides: "KEY", "value", ... in which the row
    differs from it. printed: percent, G and M.
    """

    name: str
    config: str
    printed: dict[str, float]
    note: str = ""
    like_for_like: bool = False
    overrides: tuple[str, ...] = ()

    @classmethod
    def of_entry(cls, entry: dict[str, Any], like_for_like: bool = False) -> Row:
        """The row that an entry of the tables' file describes."""
        printed, note = entry.get("printed", {}), entry.get("note", "")
        overrides = tuple(map(str, entry.get("overrides", ())))
        return cls(entry["name"], entry["config"], printed, note, like_for_like, overrides)

    @property
    def folder(self) -> str:
        """Name of the folder of its run: the config's, or with overrides the row's; rows of one run share it."""
        if not self.overrides:
            return Path(self.config).name
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    def file(self, root: Path) -> Path:
        """The config file; `root` holds the folder of configs."""
        return root / CONFIGS / f"{self.config}.yaml"

    def load(self, root: Path, overrides: Sequence[str] = ()) -> CfgNode:
        """The row's config, with more overrides above its own."""
        return load_config(self.file(root), [*self.overrides, *overrides])


def read_rows(number: str, root: Path) -> tuple[str, list[Row]]:
    """Title and rows of a table, those of the paper first. Raises ConfigError for a table that is not there."""
    table = read_table(number, root)
    kinds = ("rows", "like_for_like")
    rows = [Row.of_entry(entry, kind == "like_for_like") for kind in kinds for entry in table.get(kind, [])]
    return table["title"], rows


def chosen_rows(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows of these names, which may be their folders'; raises ConfigError with the valid ones."""
    known = {key.casefold(): row for row in rows for key in (row.folder, row.name)}
    unknown = [name for name in names if name.casefold() not in known]
    if unknown:
        raise ConfigError(
            f"the table has no row {unknown[0]!r}; give one of these, or its config: "
            f"{'; '.join(row.name for row in rows)}"
        )
    wanted = {id(known[name.casefold()]) for name in names}
    return [row for row in rows if id(row) in wanted]
