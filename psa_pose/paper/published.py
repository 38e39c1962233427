"""Checkpoints that other projects published: converted, tested, and set beside their published figures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from psa_pose.config import load_config
from psa_pose.errors import DataError
from psa_pose.paper.complexity import CONFIGS
from psa_pose.paper.format import our_ap, write_page
from psa_pose.paper.jobs import Write, run_jobs
from psa_pose.paper.plan import Job, Plan, Step, common_keys, test_step
from psa_pose.paper.reproduce import check_data, finish
from psa_pose.paper.results import read_result, scores, status
from psa_pose.visualization.noted_table import NotedTable

_LIST = CONFIGS / "paper/published.yaml"
_HEADER = (
    "file", "published by", "AP, detector boxes", "published", "ours - published", "AP, ground-truth boxes",
    "published", "ours - published", "expected",
)  # fmt: skip
_LEGEND = (
    "AP on val2017, percent, flip test, with the 95 % interval of a bootstrap over images. expected: the difference to "
    "the published AP that is known beforehand; '?': none is."
)


@dataclass(frozen=True)
class Published:
    """A file of the list.

    title, where: of what publishes it.
    config, keys: of the same network and input.
    printed: per protocol what its project states, percent.
    expected: difference of AP, percent, or None; reason: why.
    path: where it was found; None where it was not.
    """

    file: str
    title: str
    where: str
    config: str
    keys: tuple[str, ...]
    printed: dict[str, dict[str, float]]
    expected: float | None
    reason: str
    path: Path | None

    @property
    def folder(self) -> str:
        """Name of the folder of its results."""
        return self.file.removesuffix(".tar").removesuffix(".pth") + ("_tar" if self.file.endswith(".tar") else "")


def read_published(root: Path, folder: Path) -> list[Published]:
    """The list of configs/paper/published.yaml, each file looked for in a folder and the folders in it."""
    if not folder.is_dir():
        raise DataError(f"--published {folder} is not a folder; give the one that the checkpoints were downloaded to")
    content = yaml.safe_load((root / _LIST).read_text())
    there = {path.name: path for path in sorted(folder.rglob("*.pth*"), reverse=True)}
    entries = []
    for entry in content["files"]:
        source, expect = content["sources"][entry["source"]], content["expectations"][entry["expect"]]
        entries.append(
            Published(
                file=entry["file"],
                title=source["title"],
                where=source["where"],
                config=entry["config"],
                keys=tuple(entry.get("keys", ())),
                printed={name: entry[name] for name in ("detector", "ground_truth") if name in entry},
                expected=expect["difference"],
                reason=expect["reason"],
                path=there.get(entry["file"]),
            )
        )
    return entries


def reproduce_published(plan: Plan, folder: Path, write: Write, dry_run: bool, markdown_only: bool) -> None:
    """Convert and test every file of the list that is in a folder, write the table, and name what is not there.

    Raises DataError where none is, and PsaPoseError at the end where some failed.
    """
    entries = read_published(plan.root, folder)
    if markdown_only:
        write(_published_table(_published_content(entries, plan.out, {})).as_markdown())
        return
    write("".join(f"{line}\n" for line in _missing_files(entries)))
    jobs = [_published_job(plan, entry) for entry in entries if entry.path]
    if not jobs:
        raise DataError(f"{folder} holds none of the {len(entries)} files of {_LIST}; download some, named as above")
    if dry_run:
        for job in jobs:
            write(f"# {job.name}\n" + "".join(f"{shlex.join(step.command)}\n" for step in job.steps))
        return
    check_data(jobs[0].cfg, lambda line: write(f"{line}\n"), train=False)
    failures: dict[Path, str] = {}
    try:
        run_jobs(jobs, failures, write)
    finally:
        content = _published_content(entries, plan.out, failures)
        files = write_page(plan.out / "published", _published_table(content), content)
    finish(jobs, failures, files, "train from one of them: MODEL.PRETRAINED", write)


def _published_job(plan: Plan, entry: Published) -> Job:
    """The commands of a file that is there."""
    assert entry.path is not None
    file, folder = plan.root / CONFIGS / f"{entry.config}.yaml", plan.out / entry.folder
    keys = [*entry.keys, *common_keys(plan, folder)]
    cfg = load_config(file, keys)
    out = folder / "converted.pt"
    convert = [sys.executable, "-m", "psa_pose", "convert", "--cfg", str(file)]
    convert += ["--weights", str(entry.path), "--out", str(out), *keys]
    steps = [Step("convert", convert, out), test_step(plan, file, out, keys)]
    width, height = cfg.INPUT.SIZE
    weights = {"weights": f"{entry.path.stat().st_size} bytes"}
    return Job(entry.file, folder, cfg, plan.gpus, steps, float(width * height), extra=weights)


def _missing_files(entries: Sequence[Published]) -> list[str]:
    """One line per place of publication with the names of what was not found."""
    waiting: dict[str, list[str]] = {}
    for entry in entries:
        if entry.path is None:
            waiting.setdefault(entry.where, []).append(entry.file)
    return [f"not there: {', '.join(files)}; published at {where}" for where, files in waiting.items()]


def _published_content(
    entries: Sequence[Published], out: Path, failures: Mapping[Path, str]
) -> dict[str, list[dict[str, Any]]]:
    """A dict per file: where it is published, its figures there and here."""
    rows = []
    for entry in entries:
        folder = out / entry.folder
        result = read_result(folder)
        ours = {name: scores(result, entry.printed.get(name, {})) for name in ("detector", "ground_truth")}
        rows.append(
            {
                "name": entry.file,
                "published_by": entry.title,
                "where": entry.where,
                "config": str(CONFIGS / f"{entry.config}.yaml"),
                "keys": entry.keys,
                "status": "not there" if not entry.path and not result else status(folder, failures),
                "printed": entry.printed,
                "ours": ours["detector"]["ours"],
                "ours_minus_published": {n: o["ours_minus_printed"].get(n) for n, o in ours.items()},
                "expected": entry.expected,
                "reason": entry.reason,
            }
        )
    return {"rows": rows}


def _published_table(content: Mapping[str, Any]) -> NotedTable:
    """The table of `_published_content`."""
    rows, reasons, notes = [], dict[str, int](), []
    for row in content["rows"]:
        number = reasons.setdefault(row["reason"], len(reasons) + 1)
        if row["status"].startswith("failed"):
            notes.append(f"{row['name']}: {row['status']}")
        figures = []
        for protocol in ("detector", "ground_truth"):
            printed, gap = row["printed"].get(protocol), row["ours_minus_published"][protocol]
            figures += [our_ap(row, protocol), f"{printed['AP']:.1f}" if printed else "-"]
            figures.append("-" if gap is None else f"{gap:+.1f}")
        expected = "?" if row["expected"] is None else f"{row['expected']:+.1f}"
        rows.append([row["name"], row["published_by"], *figures, f"{expected} ({number})"])
    notes = [f"({number}) {reason}" for reason, number in reasons.items()] + notes
    return NotedTable("Published checkpoints, tested here", "", _HEADER, rows, _LEGEND, notes)
