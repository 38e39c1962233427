"""What the machine is: driver, torch, nccl, devices."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch

from psa_pose import __version__
from psa_pose.gpu_check.bench import Bench
from psa_pose.gpu_check.lines import FAIL, PASS, Line, left_out


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
