"""Several processes: the figures of one, and runs that survive what happens to them.

With several GPUs each process has one and they talk over nccl; else two processes share the CPU and talk over gloo.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from psa_pose.checkpoints import load_checkpoint
from psa_pose.files import read_json
from psa_pose.gpu_check.bench import FASTEST, NETWORKS, Bench
from psa_pose.gpu_check.jobs import Job, agent_options, losses, on_one_machine, started
from psa_pose.gpu_check.lines import Line, at_least, at_most, holds, left_out

# Relative difference of losses over 20 steps: 2e-7 on a CPU; a GPU's sums are in another order for another batch.
LOSS_LIMIT = {"cpu": 1e-6, "cuda": 1e-4}
# Losses after a resume: a CPU's are the same to the bit, a GPU's kernels do not add up in the same order twice.
RESUME_LIMIT = {"cpu": 0.0, "cuda": 1e-3}
BATCH = 16


def sharing_lines(bench: Bench) -> Iterator[Line]:
    """N processes with batch B / N against one with B: losses, the AP of a test, and BatchNorm over all processes."""
    folder, processes = _empty(bench.folder / "sharing"), bench.processes
    words = ["TRAIN.FREEZE_BATCHNORM", True, "TRAIN.EPOCHS", 5, "TRAIN.OPTIMIZER.NAME", "sgd"]
    with ExitStack() as stack:
        pair = _pair(bench, stack, folder, "frozen", words)
        yield _losses_agree(bench, "frozen BatchNorm", pair, LOSS_LIMIT[bench.job_device])
    yield from _equal_tests(bench, folder, folder / "frozen_1")
    name = f"SyncBN, {processes} processes against one"
    if bench.gpus < 2:
        yield left_out(name, f"BatchNorm over all processes needs two GPUs; there are {bench.gpus}")
        return
    words = ["TRAIN.SYNC_BATCHNORM", True, "TRAIN.EPOCHS", 5, "TRAIN.OPTIMIZER.NAME", "sgd"]
    with ExitStack() as stack:
        pair = _pair(bench, stack, folder, "synchronised", words)
        yield _losses_agree(bench, "SyncBN", pair, 1e-3)


def _pair(bench: Bench, stack: ExitStack, folder: Path, name: str, words: Sequence[object]) -> tuple[Path, Path]:
    """The folders of a run of one process and of one of several, in which each has its share of the batch."""
    jobs = []
    for processes in (1, bench.processes):
        own = f"{name}_{processes}"
        cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / own, "TRAIN.BATCH_SIZE", BATCH // processes)
        jobs.append(stack.enter_context(_training(own, cfg, processes)))
    one, several = (job.succeed() for job in jobs)
    return one, several


def _training(
    name: str, cfg: CfgNode, processes: int, restarts: int = 0, words: Sequence[str] = ()
) -> AbstractContextManager[Job]:
    return started(name, cfg, ["train", *words, "--cfg"], on_one_machine(processes, restarts))


def _losses_agree(bench: Bench, what: str, pair: tuple[Path, Path], limit: float) -> Line:
    one, several = map(losses, pair)
    name = f"{bench.processes} processes with B/N against one with B, {what}, {len(one)} steps"
    return at_most(name, relative_losses(several, one), limit, note=f"losses, relative; {_where(bench)}")


def relative_losses(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference; infinite where their numbers differ."""
    if len(found) != len(expected):
        return float("inf")
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def _equal_tests(bench: Bench, folder: Path, trained: Path) -> Iterator[Line]:
    """One checkpoint, tested by one process and by several at the same time: AP, and where each keypoint is found."""
    with ExitStack() as stack:
        jobs = []
        for processes in (1, bench.processes):
            cfg = bench.tiny_config("OUTPUT_DIR", folder / f"test_{processes}", "TEST.BATCH_SIZE", 4)
            command = ["test", "--checkpoint", str(trained / "last.pt"), "--cfg"]
            jobs.append(stack.enter_context(started(f"test_{processes}", cfg, command, on_one_machine(processes))))
        one, several = (job.succeed() / "test" for job in jobs)
    what = f"{bench.processes} processes against one"
    aps = [100 * read_json(test / "metrics.json", "metrics")[0]["stats"]["AP"] for test in (one, several)]
    yield at_most(f"AP, {what}", abs(aps[0] - aps[1]), 0.01, "points", f"of {aps[0]:.2f}; {_where(bench)}")
    joints = [_keypoints(test) for test in (one, several)]
    apart = np.abs(joints[0] - joints[1]).max().item() if joints[0].shape == joints[1].shape else float("inf")
    yield at_most(f"keypoints of a test, {what}", apart, 1e-3, "px", f"{len(joints[0])} persons; {_where(bench)}")


def _keypoints(test: Path) -> np.ndarray:
    """(N, K * 3) of the result file in a test's folder, in the order of its entries."""
    (file,) = test.glob("*_results.json")
    return np.array([entry["keypoints"] for entry in read_json(file, "result file")])


def survival_lines(bench: Bench) -> Iterator[Line]:
    """A process killed under two agents, SIGTERM and a resume, a broken image on one process."""
    folder = _empty(bench.folder / "survival")
    words = ["TRAIN.EPOCHS", 30, "TRAIN.BATCH_SIZE", BATCH // bench.processes, "TRAIN.SAVE_EVERY", 3]
    with _training("whole", bench.tiny_config(*words, "OUTPUT_DIR", folder / "whole"), bench.processes) as job:
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
    yield at_most("kill -9 of a process, two agents: training again", seconds, 60, "s", _where(bench))
    difference, limit = relative_losses(losses(ends[0]), whole), RESUME_LIMIT[bench.job_device]
    yield at_most("kill -9 of a process: losses against an undisturbed run", difference, limit, note=_where(bench))


def _halves(processes: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each agent: those that this process sees, shared out."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = seen.split(",") if seen else list(map(str, range(processes)))
    half = processes // 2
    return [",".join(devices[:half]), ",".join(devices[half:processes])]


def _stopped(bench: Bench, folder: Path, words: Sequence[object], whole: Sequence[float]) -> Iterator[Line]:
    """SIGTERM to every process of a run, and its resume."""
    cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / "stopped")
    with _training("stopped", cfg, bench.processes) as job:
        job.until(lambda: job.steps() > 8, "its ninth step")
        job.process.send_signal(signal.SIGTERM)
        job.wait(60)
        text = job.said()
    said = "go on with the same command and --resume" in text
    yield holds("SIGTERM leaves a checkpoint and says how to go on", said, "it does" if said else "it does not", "both")
    with _training("resumed", cfg, bench.processes, words=["--resume"]) as job:
        found = losses(job.succeed())
    exact = _same_weights(folder / "stopped", folder / "whole")
    note = f"{_where(bench)}; weights {'equal to the bit' if exact else 'not equal to the bit'}"
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
    words = ["DATASET.ROOT", root, "TRAIN.EPOCHS", 50, "TRAIN.BATCH_SIZE", BATCH // bench.processes]
    cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / "broken", "AUTO_RESUME", True)
    with _training("broken", cfg, bench.processes, 1) as job:
        job.until(lambda: "is truncated" in job.said(), "the broken image")
        met = time.monotonic()
        status = job.wait(60)
        seconds = time.monotonic() - met
    starts = job.said().count("training on")
    note = f"torchrun too, after a restart; exit status {status}, trained {starts} times; {_where(bench)}"
    return at_most(name, seconds if status and starts == 1 else float("inf"), 10, "s", note)


def scaling_lines(bench: Bench) -> Iterator[Line]:
    """Persons per second of all GPUs together in units of one, each with its own loader."""
    name = "scaling: speed of N GPUs / speed of one"
    if bench.gpus < 2:
        yield left_out(name, f"needs two GPUs; there are {bench.gpus}")
        return
    folder = _empty(bench.folder / "scaling")
    config = NETWORKS["W32"][0]
    one, all_of_them = (persons_per_second(bench, folder, n, config, *FASTEST) for n in (1, bench.processes))
    note = f"W32, bf16, {bench.batch} persons of each: {one:,.0f} and {all_of_them:,.0f} persons/s"
    yield at_least(name, all_of_them / one, 0.9 * bench.processes, note=note)


def persons_per_second(bench: Bench, folder: Path, processes: int, config: str, *words: object) -> float:
    """Of training steps of so many processes together, as the benchmark measures them."""
    cfg = bench.config(config, *words, "OUTPUT_DIR", folder / f"speed_{processes}")
    answer = folder / f"speed_{processes}.json"
    rounds = str(4 * bench.rounds)
    command = ["benchmark", "train", "--rounds", rounds, "--batch", str(bench.batch), "--json", str(answer)]
    with started(f"speed_{processes}", cfg, command, on_one_machine(processes)) as job:
        job.succeed()
    return read_json(answer, "benchmark")[0]["images_per_s"]


def _where(bench: Bench) -> str:
    return f"{bench.processes} GPUs, nccl" if bench.job_device == "cuda" else f"{bench.processes} processes, CPU, gloo"


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
