"""tools/train.py in processes of its own, as from a shell, and what it leaves while it runs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def launch(config: Path, processes: int, output: Path) -> subprocess.Popen:
    """The training of a config file, under torchrun if processes > 1, in a session of its own; output: its words."""
    launcher = [sys.executable]
    if processes > 1:
        options = ["--standalone", f"--nproc_per_node={processes}", "--max-restarts=2", "--monitor-interval=0.5"]
        launcher += ["-m", "torch.distributed.run", *options]
    command = [*launcher, "tools/train.py", "--cfg", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with output.open("w") as words:
        return subprocess.Popen(
            command, cwd=REPOSITORY, stdout=words, stderr=words, env=environment, start_new_session=True
        )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def losses(folder: Path) -> list[float]:
    found = [line for line in lines(folder / "metrics.jsonl") if "train" in line]
    assert [line["step"] for line in found] == list(range(len(found)))
    return [line["train"]["loss"] for line in found]


def wait_until(condition, process: subprocess.Popen, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < until
        time.sleep(0.02)


def workers_of(launcher: subprocess.Popen) -> list[int]:
    """The training processes that torchrun started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"tools/train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
