"""Runs that survive what happens to them: a kill, SIGTERM, a broken image."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from psa_pose.checkpoints import load_checkpoint
from psa_pose.gpu_check.bench import SHARED_BATCH, Bench
from psa_pose.gpu_check.lines import Line, at_most, holds
from psa_pose.gpu_check.processes.jobs import (
    Job,
    agent_options,
    empty_folder,
    losses,
    relative_losses,
    started,
    training,
)

# Losses after a resume: a CPU's are the same to the bit, a GPU's kernels do not add up in the same order twice.
RESUME_LIMIT = {"cpu": 0.0, "cuda": 1e-3}


def survival_lines(bench: Bench) -> Iterator[Line]:
    """A process killed under two agents, SIGTERM and a resume, a broken image on one process."""
    folder = empty_folder(bench.folder / "survival")
    words = ["TRAIN.EPOCHS", 30, "TRAIN.BATCH_SIZE", SHARED_BATCH // bench.processes, "TRAIN.SAVE_EVERY", 3]
    with training("whole", bench.tiny_config(*words, "OUTPUT_DIR", folder / "whole"), bench.processes) as job:
        whole = losses(job.succeed())
    yield from _killed(bench, folder, words, whole)
    yield from _stopped(bench, folder, words, whole)
    yield _broken_image(bench, folder)


def _killed(bench: Bench, folder: Path, words: Sequence[object], whole: Sequence[float]) -> Iterator[Line]:
    """Two agents, as on two machines, each with half of the processes; one process is killed."""
    cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / "killed", "AUTO_RESUME", True)
    each = bench.processes // 2
    options = agent_options(each)
    gpus = _halves(bench.processes) if bench.job_device == "cuda" else ["", ""]
    with ExitStack() as stack:
        agents: list[Job] = [
            stack.enter_context(started(f"agent_{n}", cfg, ["train", "--cfg"], options, gpus[n])) for n in (0, 1)
        ]
        agents[0].until(lambda: agents[0].steps() > 8 and (agents[0].folder / "last.pt").exists(), "its ninth step")
        os.kill(agents[1].workers()[0], signal.SIGKILL)
        killed, log = time.monotonic(), agents[0].folder / "log.txt"
        agents[0].until(lambda: "going on after" in log.read_text(), "going on after a process was killed")
        seconds = time.monotonic() - killed
        ends = [agent.succeed() for agent in agents]
    yield at_most("kill -9 of a process, two agents: training again", seconds, 60, "s", bench.where)
    difference, limit = relative_losses(losses(ends[0]), whole), RESUME_LIMIT[bench.job_device]
    yield at_most("kill -9 of a process: losses against an undisturbed run", difference, limit, note=bench.where)


def _halves(processes: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each agent: those that this process sees, shared out."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = seen.split(",") if seen else list(map(str, range(processes)))
    half = processes // 2
    return [",".join(devices[:half]), ",".join(devices[half:processes])]


def _stopped(bench: Bench, folder: Path, words: Sequence[object], whole: Sequence[float]) -> Iterator[Line]:
    """SIGTERM to every process of a run, and its resume."""
    cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / "stopped")
    with training("stopped", cfg, bench.processes) as job:
        job.until(lambda: job.steps() > 8, "its ninth step")
        job.process.send_signal(signal.SIGTERM)
        job.wait(60)
        text = job.said()
    said = "go on with the same command and --resume" in text
    yield holds("SIGTERM leaves a checkpoint and says how to go on", said, "it does" if said else "it does not", "both")
    with training("resumed", cfg, bench.processes, words=["--resume"]) as job:
        found = losses(job.succeed())
    exact = _same_weights(folder / "stopped", folder / "whole")
    note = f"{bench.where}; weights {'equal to the bit' if exact else 'not equal to the bit'}"
    difference, limit = relative_losses(found, whole), RESUME_LIMIT[bench.job_device]
    yield at_most("resume after SIGTERM: losses against an undisturbed run", difference, limit, note=note)


def _same_weights(one: Path, other: Path) -> bool:
    a, b = (load_checkpoint(folder / "last.pt")["model"] for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _broken_image(bench: Bench, folder: Path) -> Line:
    """A truncated picture, which one process meets: all end with one sentence, and a restart trains no more."""
    name = "a broken image on one process: all end"
    root = folder / "broken_people"
    shutil.copytree(bench.few_people(), root)
    victim = sorted((root / "train2017").iterdir())[7]
    victim.write_bytes(victim.read_bytes()[:700])
    words = ["DATASET.ROOT", root, "TRAIN.EPOCHS", 50, "TRAIN.BATCH_SIZE", SHARED_BATCH // bench.processes]
    cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / "broken", "AUTO_RESUME", True)
    with training("broken", cfg, bench.processes, 1) as job:
        job.until(lambda: "is truncated" in job.said(), "the broken image")
        met = time.monotonic()
        status = job.wait(60)
        seconds = time.monotonic() - met
    starts = job.said().count("training on")
    note = f"torchrun too, after a restart; exit status {status}, trained {starts} times; {bench.where}"
    return at_most(name, seconds if status and starts == 1 else float("inf"), 10, "s", note)
