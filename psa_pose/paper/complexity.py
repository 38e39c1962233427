"""The rows of the PSA paper's tables, and the parameters and multiply-adds of their networks or of any config."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from psa_pose.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.models.complexity import GI, Complexity, config_complexity
from psa_pose.tables import format_columns

CONFIGS = Path("configs")
_TABLES = (CONFIGS / "paper/tables.yaml", CONFIGS / "paper/segmentation_tables.yaml")


@dataclass(frozen=True)
class Row:
    """A row of configs/paper/tables.yaml.

    config: name of a config, such as coco/hrnet/hrnet_w32_256x192.
    printed: percent, G and M.
    note: why a printed figure cannot be reproduced, or what to know about it.
    like_for_like: the paper lacks it.
    only_counted: a size beside the paper's rows, of no run.
    rule: how its Flops are counted: "" as in the pose literature, or "deeplab", see `flops`.
    overrides: "KEY", "value", ... in which the row differs from its config.
    """

    name: str
    config: str
    printed: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    like_for_like: bool = False
    overrides: tuple[str, ...] = ()
    only_counted: bool = False
    rule: str = ""

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


def read_rows(number: str, root: Path = Path()) -> tuple[str, list[Row]]:
    """Title and rows of a table of configs/paper, those of the paper first.

    root: what holds the folder of configs. Raises ConfigError for a table that is not there.
    """
    tables: dict[str, Any] = {}
    for path in (root / file for file in _TABLES):
        if number in tables:
            break
        try:
            tables |= yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}; install psa_pose again") from None
    if number not in tables:
        known = ", ".join(sorted(tables))
        raise ConfigError(f"table {number!r} is not one of the paper's that are built here; choose one of {known}")
    rows = [
        Row(
            name=entry["name"],
            config=entry["config"],
            printed=entry.get("printed", {}),
            note=entry.get("note", ""),
            like_for_like=kind == "like_for_like",
            overrides=tuple(map(str, entry.get("overrides", ()))),
            only_counted=kind == "sizes",
            rule=tables[number].get("rule", ""),
        )
        for kind in ("rows", "sizes", "like_for_like")
        for entry in tables[number].get(kind, [])
    ]
    return tables[number]["title"], rows


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


def row_complexity(row: Row, root: Path = Path(), overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A row's figures, recomputed from its config and overrides, beside the printed ones: see `complexity_row`."""
    return complexity_row(row, config_complexity(row.load(root, overrides)))


def complexity_row(row: Row, complexity: Complexity) -> dict[str, Any]:
    """A row as other programs read it: params and multiply-adds of one image in units, printed figures as printed.

    "overrides" is there where there are some.
    """
    return {
        "name": row.name,
        "config": str(row.file(Path())),
        **({"overrides": list(row.overrides)} if row.overrides else {}),
        "params": complexity.params,
        "macs": complexity.macs,
        "macs_reassociated": complexity.executed,
        **({"rule": row.rule, "norm_elements": complexity.norm_elements} if row.rule else {}),
        "printed": row.printed,
        "note": row.note,
    }


def mismatches(row: dict[str, Any]) -> list[str]:
    """The printed columns ("mPara", "Flops") that the recomputed figures do not round to."""
    computed = {"mPara": row["params"] / 1e6, "Flops": flops(row, "macs")}
    printed = row["printed"]
    digits = {name: len(str(value).partition(".")[2]) for name, value in printed.items()}
    return [n for n, value in computed.items() if n in printed and round(value, digits[n]) != printed[n]]


def flops(row: Mapping[str, Any], key: str) -> float:
    """The multiply-adds "macs" or "macs_reassociated" of a row as its table prints them, G.

    Pose: / 2^30. deeplab: with two for each element that a batch norm puts out, / 10^9.
    """
    return (row[key] + 2 * row["norm_elements"]) / 1e9 if row.get("rule") == "deeplab" else row[key] / GI


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Aligned text: computed beside printed, * at a printed figure that is not reproduced, the notes below."""
    measured = [key for key in ("time_ms", "memory_mib") if any(key in row for row in rows)]
    header = ["", "mPara", "printed", "Flops", "printed", "executed", *(_MEASURED[key] for key in measured), ""]
    lines: list[list[str]] = []
    notes: list[str] = []
    for row in rows:
        wrong, printed = mismatches(row), row["printed"]
        marks = {name: f"{printed[name]}{'*' if name in wrong else ' '}" for name in printed}
        if row["note"]:
            notes.append(f"({len(notes) + 1}) {row['name']}: {row['note']}")
        lines.append(
            [
                row["name"],
                f"{row['params'] / 1e6:.3f}",
                marks.get("mPara", "- "),
                f"{flops(row, 'macs'):.3f}",
                marks.get("Flops", "- "),
                f"{flops(row, 'macs_reassociated'):.3f}",
                *(f"{row[key]:.2f}" if key in row else "-" for key in measured),
                f"({len(notes)})" if row["note"] else "",
            ]
        )
    wrapped = [textwrap.fill(note, 116, subsequent_indent="    ") for note in notes]
    legend = _DEEPLAB_LEGEND if any(row.get("rule") == "deeplab" for row in rows) else _LEGEND
    return "\n".join([format_columns(header, lines, rule=False), "", legend, *wrapped])


_MEASURED = {"time_ms": "ms", "memory_mib": "MiB"}

_DEEPLAB_LEGEND = textwrap.fill(
    "mPara: millions of parameters. Flops: (multiply-adds of one image + 2 x elements that batch norms put out) / "
    "10^9, as in the README that the table's baselines are from. executed: the same with PSA re-associated. *: the "
    "printed figure is not what its network has.",
    116,
)

_LEGEND = textwrap.fill(
    "mPara: millions of parameters. Flops: multiply-adds of one image / 2^30 by the literature's rule (weights x "
    "output positions of convolutions, transposed convolutions and linear layers), PSA in the order it is written. "
    "executed: the same outside the attention; inside it every matrix product that is computed, PSA re-associated. "
    "*: the printed figure is not what its network has.",
    116,
)
