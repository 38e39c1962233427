"""A table's content: every row with our figures beside the printed ones, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psa_pose.metrics.fingerprint import guess_protocol
from psa_pose.models.complexity import config_complexity
from psa_pose.paper.complexity import complexity_row, mismatches
from psa_pose.paper.results import changed_from_row, read_result
from psa_pose.paper.rows import Row
from psa_pose.training.output_dir import LAST

PROTOCOLS = ("ground_truth", "detector")
STATS = ("AP", "AP50", "AP75", "APM", "APL", "AR")


def table_content(
    title: str, rows: Sequence[Row], out: Path, root: Path, failures: Mapping[Path, str], smoke: bool
) -> dict[str, Any]:
    """title, smoke, and a dict per row: what is in its folder in `out`, what its config says, what is printed."""
    content = []
    for row in rows:
        cfg = row.load(root)
        counted = config_complexity(cfg)
        figures = complexity_row(row.name, row.file(Path()), counted, row.printed, row.note, row.overrides)
        folder = out / row.folder
        result = read_result(folder)
        content.append(
            {
                **figures,
                "not_reproduced": mismatches(figures),
                "like_for_like": row.like_for_like,
                "status": status(folder, failures),
                "printed_looks_like": looks_like(row.printed),
                # A trial's AP is nothing to subtract from.
                **scores(result, {} if smoke else row.printed),
                "changed": changed_from_row(result, cfg) if result and not smoke else [],
            }
        )
    return {"title": title, "smoke": smoke, "rows": content}


def status(folder: Path, failures: Mapping[Path, str]) -> str:
    """ "complete", "failed: why", "unfinished" or "not run"."""
    if folder in failures:
        return f"failed: {failures[folder]}"
    if read_result(folder):
        return "complete"
    return "unfinished" if (folder / LAST).exists() else "not run"


def looks_like(printed: Mapping[str, float]) -> str | None:
    """The box protocol that printed figures (percent) look like; None where that cannot be told."""
    if any(name not in printed for name in STATS):
        return None
    return guess_protocol({name: printed[name] / 100 for name in STATS})


def scores(result: Mapping[str, Any] | None, printed: Mapping[str, float]) -> dict[str, Any]:
    """Per protocol our evaluation, and our AP minus the printed one, percent."""
    ours = {e["protocol"]: e for e in result["evaluations"]} if result else {}
    known = {name: e["stats"]["AP"] for name, e in ours.items() if e["stats"]["AP"] >= 0 and "AP" in printed}
    difference = {name: round(100 * ap - printed["AP"], 2) for name, ap in known.items()}
    return {"ours": ours, "ours_minus_printed": difference, "seconds": result["seconds"] if result else None}
