"""What the lines of a start run in a fresh process: a training's data, read as a training reads it.

python -m psa_pose.gpu_check.start CONFIG prints the number of persons and the process's highest memory in MiB.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from psa_pose.command_line import run_command
from psa_pose.config import load_config


def main() -> None:
    """Read the training set of the config in the first word; say its size and the memory that it took."""
    cfg = load_config(sys.argv[1])

    from psa_pose.tasks import build_task

    persons = len(build_task(cfg).train_set(lambda _: None))
    print(persons, peak_memory_mib(), flush=True)


def peak_memory_mib() -> float:
    """The most that this process has held; getrusage would count its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) / 1024 if found else float("nan")


if __name__ == "__main__":
    run_command(main)
