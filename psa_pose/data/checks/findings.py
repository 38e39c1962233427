"""What is found in a user's data: errors that end a run, warnings that it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from psa_pose.errors import DataError

# A fact that fewer of the persons share is worth a warning, and one that fewer than half share an error.
WARN_BELOW, ERROR_BELOW = 0.9, 0.5


@dataclass(frozen=True)
class Finding:
    """level: "error" (a run fails, or its AP means nothing) or "warning". text: what, where, and what to do."""

    level: str
    text: str


def tell(findings: Sequence[Finding], path: Path, what: str, info: Callable[[str], object]) -> None:
    """Say the warnings about a file and raise the first error: DataError. what: "annotation file"."""
    errors = [finding.text for finding in findings if finding.level == "error"]
    for finding in findings:
        if finding.level == "warning":
            info(f"warning: {what} {path}: {finding.text}")
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if errors[1:] else ""
        raise DataError(f"{what} {path}: {errors[0]}{more}; tools/check_dataset.py looks at all of the data")


def of_share(held: np.ndarray, ids: np.ndarray, fact: str, remedy: str) -> list[Finding]:
    """A finding where too few persons share a fact. held (N,) bool. ids (N,): of annotations, the worst first."""
    share = float(held.mean()) if len(held) else 1.0
    if share >= WARN_BELOW:
        return []
    level = "error" if share < ERROR_BELOW else "warning"
    worst = ids[~held]
    text = f"{held.sum():,} of {len(held):,} persons {fact} ({100 * share:.0f} %; not {some(worst)}); {remedy}"
    return [Finding(level, text)]


def some(ids: Sequence[object] | np.ndarray, what: str = "annotations") -> str:
    """The first of many ids, for a sentence."""
    return f"{what} {', '.join(map(str, ids[:5]))}{', ...' if len(ids) > 5 else ''}"
