"""The machine: what it is, and that nothing is left behind on it."""

from __future__ import annotations

import gc
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from psa_pose import __version__
from psa_pose.gpu_check.bench import Bench
from psa_pose.gpu_check.lines import FAIL, PASS, Line, at_most, left_out
from psa_pose.gpu_check.processes.jobs import descendants

# What Python and torch keep for a process's whole life.
KEPT = (b"resource_tracker", b"compile_worker", b"forkserver")


def facts() -> dict[str, Any]:
    """The machine's facts as plain values; gpus: name, GiB and compute capability of each."""
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "psa_pose": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpus else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if gpus else None,
        "driver": _driver(),
        "gpus": [{"name": g.name, "gib": g.total_memory / 2**30, "capability": f"{g.major}.{g.minor}"} for g in gpus],
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
    }


def describe(found: dict[str, Any]) -> str:
    """The facts as one line."""
    names = [f"{gpu['name']} ({gpu['gib']:.0f} GiB)" for gpu in found["gpus"]]
    gpus = f"{len(names)} x {names[0]}" if len(set(names)) == 1 else ", ".join(names) or "no GPU"
    versions = [f"{key} {found[key]}" for key in ("driver", "cuda", "cudnn", "nccl", "torch") if found[key]]
    return f"{gpus}; {', '.join(versions)}; {found['cores']} cores, {found['processor']}; psa_pose {found['psa_pose']}"


def machine_lines(bench: Bench) -> Iterator[Line]:
    """driver, torch, nccl, devices: PASS where each GPU can be computed on and bf16 is there."""
    name, found = "driver, torch, nccl, devices", facts()
    if not found["gpus"]:
        yield left_out(name, "torch sees no GPU")
        return
    for number in range(len(found["gpus"])):
        torch.ones(8, device=torch.device("cuda", number)).sum().item()
    good = torch.cuda.is_bf16_supported() and torch.distributed.is_nccl_available()
    yield Line(name, PASS if good else FAIL, figure=describe(found), limit="each computes; bf16 and nccl are there")


def _driver() -> str | None:
    """The driver's version, as nvidia-smi says it."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return answer.stdout.split("\n")[0].strip() or None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


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
