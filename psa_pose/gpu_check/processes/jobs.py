"""Training and test runs as commands of their own, in one or several processes, watched and disturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from psa_pose.config import dump_config
from psa_pose.errors import PsaPoseError
from psa_pose.files import write_text

# Seconds that a run may take; on a GPU most of it is the start.
LONGEST = 240


@dataclass(frozen=True)
class Job:
    """A started command.

    process: the tool itself, or torchrun's agent.
    folder: OUTPUT_DIR.
    screen: the file that it writes to instead of a screen.
    """

    process: subprocess.Popen
    folder: Path
    screen: Path

    def said(self) -> str:
        """What it has written so far."""
        return self.screen.read_text(errors="replace")

    def wait(self, seconds: float = LONGEST) -> int:
        """Its exit status. Raises PsaPoseError where it takes longer."""
        try:
            return self.process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            raise PsaPoseError(f"{self.screen.stem} was not over after {seconds:.0f} s; see {self.screen}") from None

    def succeed(self) -> Path:
        """Its folder, once it has ended well. Raises PsaPoseError where it has not."""
        status = self.wait()
        if status:
            last = (self.said().strip().splitlines() or ["nothing was said"])[-1]
            raise PsaPoseError(f"{self.screen.stem} ended with status {status}: {last:.200}; see {self.screen}")
        return self.folder

    def until(self, condition: Callable[[], bool], what: str, seconds: float = LONGEST) -> None:
        """Wait for a condition. Raises PsaPoseError where the job ends, or the time is over, before it."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise PsaPoseError(f"{self.screen.stem} did not come to {what}; see {self.screen}")
            time.sleep(0.02)

    def steps(self) -> int:
        """Steps in its log so far."""
        return sum("train" in line for line in json_lines(self.folder / "metrics.jsonl"))

    def workers(self) -> list[int]:
        """Process ids of the training processes that this agent of torchrun started."""
        return [pid for pid in _children(self.process.pid) if b"psa_pose" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextmanager
def started(
    name: str, cfg: CfgNode, command: Sequence[str], launcher: Sequence[str] = (), gpus: str = ""
) -> Iterator[Job]:
    """A tool with this config, killed at the end if it still runs.

    name: of the job's files, beside OUTPUT_DIR. command: the tool and its words, but for the config's path, which is
    the last of them. launcher: torchrun's options; none: one process. gpus: CUDA_VISIBLE_DEVICES; "": as they are.
    """
    folder = Path(cfg.OUTPUT_DIR)
    config, screen = folder.with_name(f"{name}.yaml"), folder.with_name(f"{name}.txt")
    write_text(config, dump_config(cfg))
    run = ["-m", "torch.distributed.run", *launcher, "-m"] if launcher else ["-m"]
    words = [sys.executable, *run, "psa_pose", *command, str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    with screen.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            yield Job(process, folder, screen)
        finally:
            end_all(process)


def training(
    name: str, cfg: CfgNode, processes: int, restarts: int = 0, words: Sequence[str] = ()
) -> AbstractContextManager[Job]:
    """tools/train.py in processes of this machine, its BATCH_SIZE that of each. words: of its command line."""
    return started(name, cfg, ["train", *words, "--cfg"], on_one_machine(processes, restarts))


def end_all(process: subprocess.Popen) -> None:
    """Kill a process and all that it started, also what torchrun gave a session of its own."""
    doomed = [process.pid, *descendants(process.pid)] if process.poll() is None else []
    for pid in doomed:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    return [pid for child in _children(pid) for pid in (child, *descendants(child))]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def on_one_machine(processes: int, restarts: int = 0) -> list[str]:
    """torchrun's options for processes of one agent; none for a single process without restarts."""
    if processes == 1 and not restarts:
        return []
    options = ["--standalone", f"--nproc_per_node={processes}", f"--max-restarts={restarts}"]
    return [*options, "--monitor-interval=0.5"]


def agent_options(processes: int) -> list[str]:
    """torchrun's options for one of two agents, which meet at a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", f"--nproc_per_node={processes}", "--max-restarts=3", "--monitor-interval=0.5"]
    return [*options, "--rdzv-backend=c10d", f"--rdzv-endpoint={address}", "--rdzv-id=gpu_check"]


def losses(folder: Path) -> list[float]:
    """Of every step. Raises PsaPoseError where a step is missing or there twice."""
    found = [line for line in json_lines(folder / "metrics.jsonl") if "train" in line]
    if not found or [line["step"] for line in found] != list(range(len(found))):
        raise PsaPoseError(f"{folder / 'metrics.jsonl'} does not hold every step once")
    return [line["train"]["loss"] for line in found]


def relative_losses(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference; infinite where their numbers differ."""
    if len(found) != len(expected):
        return float("inf")
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may be being written; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def empty_folder(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
