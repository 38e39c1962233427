"""Samples that cannot be used: the end of a run, or lines in its log."""

from __future__ import annotations

from psa_pose.errors import DataError
from psa_pose.run_log import Info


def report_problems(problems: list[str], on_error: str, info: Info) -> None:
    """Raise the first problem, or say each of them, as DATASET.ON_ERROR wants it."""
    if not problems:
        return
    if on_error == "raise":
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{others}; mend the data, or leave such persons out with DATASET.ON_ERROR skip")
    for problem in problems:
        info(f"skipped: {problem}")
    info(f"skipped {len(problems)} unusable images or annotations (DATASET.ON_ERROR is skip)")
