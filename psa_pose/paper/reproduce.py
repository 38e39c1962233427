"""What `tools/reproduce.py` does: a table trained and tested, foretold, or only written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psa_pose.errors import PsaPoseError
from psa_pose.files import atomic_write, write_json
from psa_pose.paper.data import check_data, missing_weights
from psa_pose.paper.format import table_sheet
from psa_pose.paper.jobs import run_jobs
from psa_pose.paper.plan import PUBLISHED_GPUS, TRAIN_PERSONS, Job, Plan, gpu_hours, row_job
from psa_pose.paper.rows import Row, chosen_rows, read_rows
from psa_pose.paper.sheet import Sheet, markdown, page
from psa_pose.paper.smoke import SMOKE_KEYS, smoke_data
from psa_pose.paper.table import table_content

# Takes a piece of text, with a line break where it ends a line.
Write = Callable[[str], object]


@dataclass(frozen=True)
class Options:
    """What of a table is asked for. names: of rows; empty: all. tflops: assumed for the estimate of `dry_run`."""

    table: str
    names: Sequence[str] = ()
    like_for_like: bool = False
    smoke: bool = False
    tflops: float = 15.0


def reproduce_table(plan: Plan, request: Options, write: Write) -> None:
    """Run the rows that have no result yet, and write the table.

    Raises PsaPoseError at the end where rows failed, and Interrupted where it was stopped; the table is written then
    too.
    """
    plan = prepared(plan, request)
    title, shown, wanted = rows_of(plan, request)
    if request.smoke:
        smoke_data(plan.out / "data")
    jobs = [row_job(plan, row) for row in wanted]
    check_data(jobs[0].cfg, True, lambda line: write(f"{line}\n"))
    for line in missing_weights(jobs):
        write(f"{line}\n")
    failures: dict[Path, str] = {}
    try:
        run_jobs(jobs, failures, write, tidy=request.smoke)
    finally:
        content = table_content(title, shown, plan.out, plan.root, failures, request.smoke)
        files = write_sheet(plan.out / f"table_{request.table}", table_sheet(content), content)
    compare = "tools/compare.py on the result lists in two rows' test folders says whether they differ"
    follow = "the same command without --smoke, on COCO" if request.smoke else compare
    finish(jobs, failures, files, follow, write)


def prepared(plan: Plan, request: Options) -> Plan:
    """The plan; for a trial with its keys below those of the user, its data, and no pages."""
    if not request.smoke:
        return plan
    return replace(plan, data=plan.out / "data", overrides=(*SMOKE_KEYS, *plan.overrides), page=False)


def rows_of(plan: Plan, request: Options) -> tuple[str, list[Row], list[Row]]:
    """Title, the rows to show and those to run: the paper's, the like-for-like ones where they are asked for."""
    title, rows = read_rows(request.table, plan.root)
    named = chosen_rows(rows, request.names)
    shown = [row for row in rows if not row.like_for_like or request.like_for_like or row in named]
    return title, shown, named or shown


def dry_run(plan: Plan, request: Options, write: Write) -> None:
    """The commands in order, and the GPU hours that they may take."""
    plan = prepared(plan, request)
    _, _, wanted = rows_of(plan, request)
    total, seen = 0.0, set[Path]()
    for number, row in enumerate(wanted, start=1):
        job = row_job(plan, row)
        hours = gpu_hours(job, request.tflops)
        if job.folder in seen:
            write(f"# row {number} of {len(wanted)}: {job.name}: the run in {job.folder}, above\n")
            continue
        seen.add(job.folder)
        total += hours
        write(f"# row {number} of {len(wanted)}: {job.name}: about {hours:,.1f} GPU hours\n")
        for step in job.steps:
            write(f"{shlex.join(step.command)}\n")
    write(
        f"# estimate: {total:,.0f} GPU hours in all, from multiply-adds x {TRAIN_PERSONS:,} persons x epochs x 3 "
        f"(forward and backward), plus the evaluations, at an assumed {request.tflops:g} TFLOP/s sustained by each GPU "
        "(--tflops); nothing of this was measured\n"
    )
    if plan.gpus != PUBLISHED_GPUS and "TRAIN.BATCH_SIZE" not in plan.overrides:
        write(f"# the published batch, for {PUBLISHED_GPUS} GPUs, is kept on {plan.gpus}\n")


def print_markdown(plan: Plan, request: Options, write: Write) -> None:
    """The table as it stands, as Markdown, and nothing else: nothing is run, no file is written."""
    title, shown, wanted = rows_of(plan, request)
    rows = wanted if request.names else shown
    write(markdown(table_sheet(table_content(title, rows, plan.out, plan.root, {}, request.smoke))))


def write_sheet(stem: Path, sheet: Sheet, content: Mapping[str, Any]) -> str:
    """Write a table in three forms; the answer says where."""
    atomic_write(stem.with_suffix(".md"), lambda file: file.write(markdown(sheet).encode()))
    atomic_write(stem.with_suffix(".html"), lambda file: file.write(page(sheet).encode()))
    write_json(stem.with_suffix(".json"), content)
    return f"{stem}.md, .json and .html"


def finish(jobs: Sequence[Job], failures: Mapping[Path, str], files: str, follow: str, write: Write) -> None:
    """The last lines. Raises PsaPoseError that names the jobs that failed."""
    failed = {job.name: failures[job.folder] for job in jobs if job.folder in failures}
    for name, reason in failed.items():
        write(f"failed: {name}: {reason}\n")
    if failed:
        raise PsaPoseError(
            f"{len(failed)} of {len(jobs)} rows failed; the others are in {files}; mend it and give the same command "
            "again, which keeps what is complete"
        )
    write(f"the table is in {files}; next: {follow}\n")
