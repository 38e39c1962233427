"""What the lines of a start run in a fresh process: a training's data, read as a training reads it.

python -m psa_pose.gpu_check.start CONFIG prints the number of persons, and in MB the most memory that the process held
of its own, and the pages of libraries beside it, which all processes of a machine share.
"""

from __future__ import annotations

import math
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
    print(persons, *memory(Path("/proc/self/status").read_text()), flush=True)


def memory(status: str) -> tuple[float, float]:
    """MB of a process's own at most, and of pages of files, from what Linux says of it; NaN where that is not known.

    How many pages of a library count as read is the system's business: 0.2 GB more or less for the same torch.
    """
    kib = {name: int(number) for name, number in re.findall(r"(\w+):\s+(\d+) kB", status)}
    most, files = (kib.get(name, math.nan) * 1024 / 1e6 for name in ("VmHWM", "RssFile"))
    return most - files, files


if __name__ == "__main__":
    run_command(main)
