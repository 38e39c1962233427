"""Nothing is left behind: memory of the GPU, processes, shared memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from psa_pose.gpu_check.bench import Bench
from psa_pose.gpu_check.jobs import descendants
from psa_pose.gpu_check.lines import Line, at_most, left_out

# What Python and torch keep for a process's whole life.
KEPT = (b"resource_tracker", b"compile_worker", b"forkserver")


def free_memory(device: torch.device) -> None:
    """Give back what no tensor needs."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()


def shared_memory() -> set[str]:
    """Names of torch's files of shared memory on this machine."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("torch_*")} if folder.is_dir() else set()


def memory_lines(bench: Bench, before: set[str]) -> Iterator[Line]:
    """before: shared memory that was there when the check began."""
    free_memory(bench.device)
    name = "memory of the GPU left at the end"
    if bench.gpu:
        yield at_most(name, torch.cuda.memory_allocated(bench.device) / 2**20, 64, "MiB")
    else:
        yield left_out(name, "no GPU")
    processes = [pid for pid in descendants(os.getpid()) if not _kept(pid)]
    files = shared_memory() - before
    note = f"processes {processes[:5]}, shared memory {sorted(files)[:5]}" if processes or files else ""
    yield at_most("processes and shared memory left at the end", len(processes) + len(files), 0, note=note)


def _kept(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return any(word in command for word in KEPT)
