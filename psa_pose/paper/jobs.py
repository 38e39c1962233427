"""Jobs one after the other: what is complete stays, what was interrupted goes on, what fails stops no other."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from psa_pose.errors import Interrupted, PsaPoseError
from psa_pose.files import write_json
from psa_pose.paper.plan import Job, Step
from psa_pose.paper.results import RUN, describe, finished_result, write_result
from psa_pose.training.interrupt import Interrupt

Write = Callable[[str], object]


def run_jobs(jobs: Sequence[Job], failures: dict[Path, str], write: Write, tidy: bool = False) -> None:
    """Run each job that has no result yet; failures is filled: folder -> why. Jobs of one folder are run once.

    write: takes pieces of text; one line per job. tidy: remove the checkpoints of a job that is complete.
    Raises Interrupted after Ctrl-C or SIGTERM, when the command that was running has written its state.
    """
    start, spent, done = time.monotonic(), 0.0, 0.0
    left = sum(job.cost for job in jobs)
    for number, job in enumerate(jobs, start=1):
        write(f"row {number} of {len(jobs)}: {job.name}, output in {job.folder}: ")
        began = time.monotonic()
        try:
            if job.folder in failures:
                write("failed above")
            elif finished_result(job) is not None:
                write("complete, kept")
            else:
                _run_job(job, write, tidy)
                write(f"in {duration(time.monotonic() - began)}")
                spent, done = spent + time.monotonic() - began, done + job.cost
        except Interrupted:
            write("stopped\n")
            raise
        except (PsaPoseError, OSError) as error:
            failures[job.folder] = str(error)
            write("FAILED")
        left -= job.cost
        ahead = f", about {duration(spent / done * left)} left" if done and left else ""
        write(f" ({duration(time.monotonic() - start)} elapsed{ahead})\n")


def _run_job(job: Job, write: Write, tidy: bool) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    write_json(job.folder / RUN, describe(job))
    began = time.monotonic()
    for step in job.steps:
        if step.done and step.done.exists():
            write(f"{step.name} is done, ")
            continue
        write(f"{step.name} ")
        _call(step, job.folder / f"{step.name}.txt")
    write_result(job, time.monotonic() - began)
    if tidy:
        for path in (*job.folder.glob("*.pt"), *job.folder.glob("*.safetensors")):
            path.unlink()
        shutil.rmtree(job.folder / "tensorboard", ignore_errors=True)


def _call(step: Step, output: Path) -> None:
    """Run one command with what it says in a file. Raises PsaPoseError with its last sentence if it fails.

    A Ctrl-C reaches the command by itself, SIGTERM is passed on; Interrupted is raised when it has ended.
    """
    with output.open("w", encoding="utf-8") as file, Interrupt() as stop:
        process = subprocess.Popen(step.command, stdout=file, stderr=subprocess.STDOUT)
        passed_on = False
        try:
            while process.poll() is None:
                try:
                    process.wait(0.2)
                except subprocess.TimeoutExpired:
                    if stop.signal == signal.SIGTERM and not passed_on:
                        process.terminate()
                        passed_on = True
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if stop.signal:
        raise Interrupted("stopped; the same command goes on where it was left", stop.signal)
    if process.returncode:
        raise PsaPoseError(f"{step.name} ended with status {process.returncode}: {_last_words(output)}")


def _last_words(output: Path) -> str:
    lines = [line.strip() for line in output.read_text(encoding="utf-8", errors="replace").splitlines()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (told or [line for line in lines if line] or ["it said nothing"])[-1]


def duration(seconds: float) -> str:
    """Seconds in words, to two units at most."""
    minutes, hours = round(seconds / 60), seconds / 3600
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{hours:.1f} h"
