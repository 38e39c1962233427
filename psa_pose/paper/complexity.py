"""`tools/complexity.py`: parameters and multiply-adds of a config, or of the rows of a table of the PSA paper."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from psa_pose.config import load_config
from psa_pose.errors import ConfigError
from psa_pose.models.complexity import GI, Complexity, config_complexity
from psa_pose.tables import format_columns

CONFIGS = Path("configs")
TABLES = CONFIGS / "paper/tables.yaml"


def read_table(number: str, root: Path = Path()) -> dict[str, Any]:
    """A table of the paper from configs/paper/tables.yaml: title, rows, and the baseline to measure against.

    root: what holds the folder of configs. Raises ConfigError for a table that is not there.
    """
    path = root / TABLES
    try:
        tables = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; run the tool from the repository") from None
    if number not in tables:
        raise ConfigError(f"table {number!r} is not one of the paper's pose tables; choose one of {', '.join(tables)}")
    return tables[number]


def table_rows(table: dict[str, Any], overrides: Sequence[str] = (), root: Path = Path()) -> list[dict[str, Any]]:
    """Each row of a table with its figures recomputed from the row's config, beside the printed ones."""
    rows = []
    for row in table["rows"]:
        config = CONFIGS / f"{row['config']}.yaml"
        own = [str(word) for word in row.get("overrides", ())]
        complexity = config_complexity(load_config(root / config, [*own, *overrides]))
        rows.append(complexity_row(row["name"], config, complexity, row.get("printed", {}), row.get("note", ""), own))
    return rows


def complexity_row(
    name: str,
    config: Path,
    complexity: Complexity,
    printed: dict[str, float],
    note: str = "",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """A row as other programs read it: params and multiply-adds of one image in units, printed figures as printed.

    overrides: "KEY", "value", ... in which the row differs from its config; the field is there where there are some.
    """
    return {
        "name": name,
        "config": str(config),
        **({"overrides": list(overrides)} if overrides else {}),
        "params": complexity.params,
        "macs": complexity.macs,
        "macs_reassociated": complexity.executed,
        "printed": printed,
        "note": note,
    }


def mismatches(row: dict[str, Any]) -> list[str]:
    """The printed columns ("mPara", "Flops") that the recomputed figures do not round to."""
    computed = {"mPara": row["params"] / 1e6, "Flops": row["macs"] / GI}
    printed = row["printed"]
    return [name for name, value in computed.items() if name in printed and round(value, 1) != printed[name]]


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
                f"{row['macs'] / GI:.3f}",
                marks.get("Flops", "- "),
                f"{row['macs_reassociated'] / GI:.3f}",
                *(f"{row[key]:.2f}" if key in row else "-" for key in measured),
                f"({len(notes)})" if row["note"] else "",
            ]
        )
    wrapped = [textwrap.fill(note, 116, subsequent_indent="    ") for note in notes]
    return "\n".join([format_columns(header, lines, rule=False), "", LEGEND, *wrapped])


_MEASURED = {"time_ms": "ms", "memory_mib": "MiB"}

LEGEND = textwrap.fill(
    "mPara: millions of parameters. Flops: multiply-adds of one image / 2^30 by the literature's rule (weights x "
    "output positions of convolutions, transposed convolutions and linear layers), PSA in the order it is written. "
    "executed: the same outside the attention; inside it every matrix product that is computed, PSA re-associated. "
    "*: the printed figure is not what its network has.",
    116,
)
