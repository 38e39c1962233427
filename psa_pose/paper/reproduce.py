"""`tools/reproduce.py`: a table's rows trained and tested, listed as commands, or only written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from psa_pose.dataset_tools.check_dataset import checked_files
from psa_pose.errors import DataError, PsaPoseError
from psa_pose.paper import segmentation
from psa_pose.paper.complexity import Row, chosen_rows, read_rows
from psa_pose.paper.format import table_page, write_page
from psa_pose.paper.jobs import Write, run_jobs
from psa_pose.paper.plan import PUBLISHED_GPUS, TRAIN_PERSONS, Job, Plan, gpu_hours, row_job
from psa_pose.paper.results import table_content
from psa_pose.synthetic.dataset import generate
from psa_pose.visualization.noted_table import NotedTable

SEGMENTATION_TABLES = ("3", "5")

# Of a trial: no file to download, and a batch of two: BatchNorm needs more than one person.
_SMOKE_KEYS = (
    *("MODEL.PRETRAINED", "", "TRAIN.EPOCHS", "1", "TRAIN.BATCH_SIZE", "2", "TEST.BATCH_SIZE", "2"),
    *("TEST.FLIP", "false", "LOADER.WORKERS", "0", "TRAIN.LOG_EVERY", "1"),
    *("DATASET.TEST_DETECTIONS", "person_detection_results/val2017_person_detections.json"),
)


@dataclass(frozen=True)
class Options:
    """What of a table is asked for.

    names: of rows; empty: all.
    like_for_like: also the rows that the paper lacks.
    smoke: a trial on three synthetic people, with each row's real network and input.
    tflops: assumed for the estimate of `dry_run`.
    """

    table: str
    names: Sequence[str] = ()
    like_for_like: bool = False
    smoke: bool = False
    tflops: float = 15.0


def reproduce_table(plan: Plan, options: Options, write: Write) -> None:
    """Run the rows that have no result yet, and write the table.

    Raises PsaPoseError at the end where rows failed, and Interrupted where it was stopped; the table is written then
    too.
    """
    plan = _prepared(plan, options)
    title, shown, wanted = _rows_of(plan, options)
    segments = options.table in SEGMENTATION_TABLES
    if options.smoke and segments:
        segmentation.make_smoke_data(plan.out / "data")
    elif options.smoke:
        # Two people to train on and one to test on, each in a picture, with a detector's boxes.
        generate(plan.out / "data", {"train2017": 2, "val2017": 1}, people=(1, 1), workers=1, progress=False)
    jobs = [row_job(plan, row) for row in wanted]
    (segmentation.check_pictures if segments else check_data)(jobs[0].cfg, info=lambda line: write(f"{line}\n"))
    write("".join(f"{line}\n" for line in _missing_weights(jobs)))
    failures: dict[Path, str] = {}
    try:
        run_jobs(jobs, failures, write, tidy=options.smoke)
    finally:
        content = table_content(title, shown, plan.out, plan.root, failures, options.smoke)
        files = write_page(plan.out / f"table_{options.table}", _page(options, content), content)
    compare = "tools/compare.py on the result lists in two rows' test folders says whether they differ"
    follow = "the same command without --smoke, on the real data" if options.smoke else compare
    finish(jobs, failures, files, follow, write)


def _prepared(plan: Plan, options: Options) -> Plan:
    """The plan; for a trial with its keys below those of the user, its data, and no pages."""
    if not options.smoke:
        return plan
    keys = segmentation.SMOKE_KEYS if options.table in SEGMENTATION_TABLES else _SMOKE_KEYS
    return replace(plan, data=plan.out / "data", overrides=(*keys, *plan.overrides), page=False)


def _page(options: Options, content: Mapping[str, Any]) -> NotedTable:
    return (segmentation.segmentation_page if options.table in SEGMENTATION_TABLES else table_page)(content)


def _rows_of(plan: Plan, options: Options) -> tuple[str, list[Row], list[Row]]:
    """Title, the rows to show and those to run: the paper's, the like-for-like ones where they are asked for."""
    title, rows = read_rows(options.table, plan.root)
    named = chosen_rows(rows, options.names)
    rows = [row for row in rows if not row.only_counted]
    shown = [row for row in rows if not row.like_for_like or options.like_for_like or row in named]
    return title, shown, named or shown


def dry_run(plan: Plan, options: Options, write: Write) -> None:
    """The commands in order, and for the pose tables the GPU hours that they may take."""
    segments = options.table in SEGMENTATION_TABLES
    plan = _prepared(plan, options)
    _, _, wanted = _rows_of(plan, options)
    total, seen = 0.0, set[Path]()
    for number, row in enumerate(wanted, start=1):
        job = row_job(plan, row)
        hours = gpu_hours(job, options.tflops)
        if job.folder in seen:
            write(f"# row {number} of {len(wanted)}: {job.name}: the run in {job.folder}, above\n")
            continue
        seen.add(job.folder)
        total += hours
        cost = "" if segments else f": about {hours:,.1f} GPU hours"
        write(f"# row {number} of {len(wanted)}: {job.name}{cost}\n")
        for step in job.steps:
            write(f"{shlex.join(step.command)}\n")
    if segments:
        return
    write(
        f"# estimate: {total:,.0f} GPU hours in all, from multiply-adds x {TRAIN_PERSONS:,} persons x epochs x 3 "
        f"(forward and backward), plus the evaluations, at an assumed {options.tflops:g} TFLOP/s sustained by each GPU "
        "(--tflops); nothing of this was measured\n"
    )
    if plan.gpus != PUBLISHED_GPUS and "TRAIN.BATCH_SIZE" not in plan.overrides:
        write(f"# the published batch, for {PUBLISHED_GPUS} GPUs, is kept on {plan.gpus}\n")


def print_markdown(plan: Plan, options: Options, write: Write) -> None:
    """The table as it stands, as Markdown, and nothing else: nothing is run, no file is written."""
    title, shown, wanted = _rows_of(plan, options)
    rows = wanted if options.names else shown
    write(_page(options, table_content(title, rows, plan.out, plan.root, {}, options.smoke)).as_markdown())


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


def check_data(cfg: CfgNode, info: Callable[[str], object], train: bool = True) -> None:
    """Check annotations, images and detections; train: those of training too. Raises DataError for what spoils an AP.

    Without a detection file only one of the two protocols could be told: DATASET.TEST_DETECTIONS '' accepts that.
    """
    errors = []
    for path, findings, counts in checked_files(cfg, train):
        errors += [f"{path}: {f.text}" for f in findings if f.level == "error"]
        info(f"{path}: {', '.join(counts)}")
    if errors:
        more = f" (and {len(errors) - 1} more: tools/check_dataset.py lists them)" if errors[1:] else ""
        raise DataError(f"{errors[0]}{more}; mend the data, see data/README.md")


def _missing_weights(jobs: Sequence[Job]) -> list[str]:
    """One line per file of MODEL.PRETRAINED that is not there: the rows that name it will fail."""
    waiting: dict[str, list[str]] = {}
    for job in jobs:
        path = job.cfg.MODEL.PRETRAINED
        if path and path != "imagenet" and not Path(path).exists():
            waiting.setdefault(path, []).append(job.name)
    return [
        f"missing: {path}, without which these rows will fail: {', '.join(names)}; data/README.md says where it is "
        "published, MODEL.PRETRAINED '' trains without"
        for path, names in waiting.items()
    ]
