"""Kill a training run again and again, resume it each time, and compare its end with that of a run left alone.

    python scripts/stress_resume.py --kills 20 --folder output/stress

The run is small (a few synthetic persons and a network of some 50,000 parameters, on the CPU). SIGKILL comes at random
moments, every second time while a checkpoint is being written. At the end the weights, the optimiser's state and the
log must be those of the run that was left alone to the bit, and the record ids of the steps must name every person once
per epoch. Exit status 1 and a sentence say what differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from psa_pose.command_line import run_command
from psa_pose.errors import PsaPoseError


def main() -> None:
    parser = argparse.ArgumentParser(description="SIGKILL a run at random moments, resume it, compare its end.")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default 20)")
    parser.add_argument("--folder", type=Path, default=Path("output/stress"), help="where the data and the runs go")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of the run (default 6)")
    args = parser.parse_args()

    from psa_pose.synthetic.dataset import generate

    generate(args.folder / "people", {"train2017": 20, "val2017": 2}, 1, (192, 160), workers=1, progress=False)
    whole, killed = args.folder / "whole", args.folder / "killed"
    shutil.rmtree(whole, ignore_errors=True)
    started = time.monotonic()
    status = wait(start(args.folder, whole, args.epochs, workers=0))
    seconds = time.monotonic() - started
    if status:
        raise PsaPoseError(f"the run that is left alone ended with status {status}; see its messages above")
    moments = kill_and_resume(args, killed, seconds)
    print(f"{len(moments)} kills: {moments.count('writing')} while a checkpoint was being written")
    problems = differences(killed, whole)
    if problems:
        raise PsaPoseError(f"the killed run in {killed} did not end as {whole}: {'; '.join(problems)}")
    print("the killed run ended as the one left alone, to the bit; every person was trained on once in every epoch")


def kill_and_resume(args: argparse.Namespace, folder: Path, seconds: float) -> list[str]:
    """Kill the run at random moments and resume it; the answer: where each kill came, "writing" or "anywhere".

    seconds: how long the whole run takes; it sets the scale of the moments.
    """
    generator = random.Random(args.seed)
    shutil.rmtree(folder, ignore_errors=True)
    moments: list[str] = []
    complete = 0
    while len(moments) < args.kills:
        pid = start(args.folder, folder, args.epochs, workers=len(moments) // 2 % 2)
        moment = time.monotonic() + generator.uniform(0.05, 0.5) * seconds
        if killed_at(pid, moment, folder if len(moments) % 2 else None):
            moments.append("writing" if being_written(folder) else "anywhere")
            continue
        complete += 1
        if complete > args.kills:
            raise PsaPoseError("the run is over before it can be killed; give it more --epochs")
        # It came to its end between two kills: it begins anew, and the kills go on.
        shutil.rmtree(folder)
    status = wait(start(args.folder, folder, args.epochs, workers=0))
    if status:
        raise PsaPoseError(f"the killed run could not be resumed (status {status}); see {folder / 'screen.txt'}")
    return moments


def killed_at(pid: int, moment: float, writing_in: Path | None) -> bool:
    """Kill a child at a moment (time.monotonic), or at the next checkpoint after it; False if it ended before that."""
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() >= moment and (writing_in is None or being_written(writing_in)):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return True
        time.sleep(0.0003)
    return False


def being_written(folder: Path) -> bool:
    """Whether a checkpoint is half written, or was when its process was killed."""
    return any(folder.glob(".last.pt.*"))


def start(data: Path, folder: Path, epochs: int, workers: int) -> int:
    """The process id of a training run in a child of this process, which has imported torch but never computed."""
    import psa_pose.training.loop  # noqa: F401

    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        run_command(lambda: train(data, folder, epochs, workers))
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


def train(data: Path, folder: Path, epochs: int, workers: int) -> None:
    """The run itself; it goes on where it was killed."""
    import torch

    from psa_pose.config import load_config
    from psa_pose.tasks import build_task
    from psa_pose.training.loop import run_train

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "screen.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    words = {
        "DATASET.ROOT": data / "people",
        "OUTPUT_DIR": folder,
        "AUTO_RESUME": True,
        "DEVICE": "cpu",
        "INPUT.SIZE": [64, 64],
        "MODEL.WIDTH": 4,
        "MODEL.CHANNELS_LAST": False,
        "MODEL.HEAD_CHANNELS": 8,
        "CODEC.SIGMA": 0.0,
        "TRAIN.BATCH_SIZE": 3,
        "TRAIN.EPOCHS": epochs,
        "TRAIN.EVAL_EVERY": 3,
        "TRAIN.SAVE_EVERY": 2,
        "TRAIN.KEEP_EPOCHS": 2,
        "TRAIN.LOG_EVERY": 3,
        "TRAIN.LOG_RECORDS": True,
        "TRAIN.EMA": 0.95,
        "LOADER.WORKERS": workers,
    }
    pairs = [str(word) for pair in words.items() for word in pair]
    cfg = load_config(Path(__file__).parents[1] / "configs/synthetic/quickstart.yaml", pairs)
    run_train(build_task(cfg))


def wait(pid: int) -> int:
    """The exit status of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def differences(killed: Path, whole: Path) -> list[str]:
    """What is not the same in two finished runs; empty where nothing differs."""
    from psa_pose.checkpoints import load_checkpoint

    problems = []
    for name in ("last.pt", "best.pt", "final.safetensors"):
        ours, theirs = load_checkpoint(killed / name), load_checkpoint(whole / name)
        problems += [
            f"{name}: {key}" for key in ("model", "optimizer", "training", "best") if not same(ours[key], theirs[key])
        ]
    for kind in ("train", "test"):
        if _metrics(killed, kind) != _metrics(whole, kind):
            problems.append(f"metrics.jsonl: {kind}")
    records = _lines(killed / "records.0.jsonl")
    if records != _lines(whole / "records.0.jsonl"):
        problems.append("records.0.jsonl")
    persons = {i for line in records for i in line["records"]}
    for epoch in {line["epoch"] for line in records}:
        ids = [i for line in records if line["epoch"] == epoch for i in line["records"]]
        if sorted(ids) != sorted(persons):
            problems.append(f"epoch {epoch}: {len(ids)} records, {len(set(ids))} of {len(persons)} persons")
    return problems


def same(a: Any, b: Any) -> bool:
    """Equality of nested plain values and tensors, to the bit."""
    import torch

    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def _metrics(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in _lines(folder / "metrics.jsonl") if kind in line]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    run_command(main)
