"""How a CPU's threads wait and share work, each way alone and as the commands do; quiet, and with a busy core.

The OpenMP runtime reads its variables once: so each way is a process of its own, and these take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from yacs.config import CfgNode

from psa_pose.benchmark.model import random_images
from psa_pose.codecs import build_codec
from psa_pose.command_line import keep_freed_memory
from psa_pose.config import load_config
from psa_pose.distributed import progress_bar
from psa_pose.models import build_model
from psa_pose.parallel import batches_at_once, parallel_map
from psa_pose.threads import PREFIXES, ThreadWaiting

CPU = torch.device("cpu")

# Name of a way -> what its process is given beside the environment without OpenMP's variables. Threads share a batch,
# but in the last, where they wait as chosen while the work goes on, and a prediction's have batches of their own.
WAYS = {
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spinning": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "chosen": {},
}
WORKS = ("train", "predict")


def benchmark_threads(config: str, batch: int, rounds: int, seconds: float, works: list[str]) -> list[dict[str, Any]]:
    """Rows of persons per second (medians over rounds): a work, quiet or with a busy core, each way to wait, and how
    many times as fast the chosen one is as the best.

    seconds: that a way runs for in a round. The processes stay, so that the choice is seen to follow what changes.
    """
    rows = []
    for work in works:
        with ExitStack() as stack:
            ways = {name: stack.enter_context(_process(work, config, batch, WAYS[name])) for name in WAYS}
            for busy in (False, True):
                with _busy_core() if busy else nullcontext():
                    row = {"work": work, "a busy core": "yes" if busy else "no"}
                    rows.append(row | _measure(ways, rounds, seconds))
    return rows


def _measure(ways: dict[str, Callable[[float], float]], rounds: int, seconds: float) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in progress_bar(range(rounds), "rounds", leave=False):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            found[name].append(ways[name](seconds))
    speeds = {name: statistics.median(values) for name, values in found.items()}
    return speeds | {"of the best": speeds["chosen"] / max(speed for name, speed in speeds.items() if name != "chosen")}


@contextmanager
def _process(work: str, config: str, batch: int, variables: dict[str, str]) -> Iterator[Callable[[float], float]]:
    """A process that is asked for the persons per second in so many seconds of the work."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)} | variables
    at_once = batches_at_once(CPU) if work == "predict" and not variables else 1
    command = [sys.executable, "-m", "psa_pose.benchmark.threads", work, config, str(batch), str(at_once)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def ask(seconds: float) -> float:
            asked.write(f"{seconds}\n")
            asked.flush()
            return float(answers.readline())

        ask(0.0)
        yield ask
        asked.close()


@contextmanager
def _busy_core() -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


def _serve(work: Callable[[], object], batch: int, at_once: int) -> None:
    """Persons per second in so many seconds, for each line of stdin."""
    with ThreadWaiting(CPU, lambda _: None) as waiting:
        for line in sys.stdin:
            waiting.start()
            started, count = time.perf_counter(), 0
            for _ in parallel_map(lambda _: work(), _until(started + float(line)), at_once):
                waiting.lap()
                count += 1
            print(batch * count / (time.perf_counter() - started), flush=True)


def _until(end: float) -> Iterator[None]:
    """One, and more until that time."""
    yield
    while time.perf_counter() < end:
        yield


def training_work(cfg: CfgNode, batch: int) -> Callable[[], torch.Tensor]:
    """One step on a batch of noise: the loss."""
    crops, joints, visible = _noise(cfg, batch)
    codec, model = build_codec(cfg), build_model(cfg).train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def work() -> torch.Tensor:
        targets, weights = codec.encode(joints, visible)
        optimizer.zero_grad()
        loss = codec.loss(model(crops), targets, weights)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return work


def prediction_work(cfg: CfgNode, batch: int) -> Callable[[], torch.Tensor]:
    """The keypoints of a batch of noise."""
    crops, _, _ = _noise(cfg, batch)
    codec, model = build_codec(cfg), build_model(cfg).eval().requires_grad_(False)
    return lambda: codec.decode(model(crops))[0]


def _noise(cfg: CfgNode, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    crops = random_images(cfg, batch, CPU)
    return crops, torch.rand(batch, 17, 2) * min(cfg.INPUT.SIZE), torch.ones(batch, 17)


def _main() -> None:
    keep_freed_memory()
    work, config, batch, at_once = sys.argv[1:]
    make = {"train": training_work, "predict": prediction_work}[work]
    _serve(make(load_config(config, []), int(batch)), int(batch), int(at_once))


if __name__ == "__main__":
    _main()
