"""Several processes against one: losses, tests, speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from psa_pose.files import read_json
from psa_pose.gpu_check.bench import FASTEST, NETWORKS, SHARED_BATCH, Bench
from psa_pose.gpu_check.lines import Line, at_least, at_most, left_out
from psa_pose.gpu_check.processes.jobs import (
    Job,
    empty_folder,
    losses,
    on_one_machine,
    relative_losses,
    started,
    training,
)

# Relative difference of losses over 20 steps: 2e-7 on a CPU; a GPU's sums are in another order for another batch.
LOSS_LIMIT = {"cpu": 1e-6, "cuda": 1e-4}


def sharing_lines(bench: Bench) -> Iterator[Line]:
    """N processes with batch B / N against one with B: losses, the AP of a test, and BatchNorm over all processes."""
    folder, processes = empty_folder(bench.folder / "sharing"), bench.processes
    words = ["TRAIN.FREEZE_BATCHNORM", True, "TRAIN.EPOCHS", 5, "TRAIN.OPTIMIZER.NAME", "sgd"]
    pair = _trained(bench, folder, "frozen", words)
    yield _losses_agree(bench, "frozen BatchNorm", pair, LOSS_LIMIT[bench.job_device])
    yield from _equal_tests(bench, folder, folder / "frozen_1")
    name = f"SyncBN, {processes} processes against one"
    if bench.gpus < 2:
        yield left_out(name, f"BatchNorm over all processes needs two GPUs; there are {bench.gpus}")
        return
    words = ["TRAIN.SYNC_BATCHNORM", True, "TRAIN.EPOCHS", 5, "TRAIN.OPTIMIZER.NAME", "sgd"]
    yield _losses_agree(bench, "SyncBN", _trained(bench, folder, "synchronised", words), 1e-3)


def _trained(bench: Bench, folder: Path, name: str, words: Sequence[object]) -> tuple[Path, Path]:
    """The folders of a run of one process and of one of several, in which each has its share of the batch."""

    def start(processes: int) -> AbstractContextManager[Job]:
        own = f"{name}_{processes}"
        cfg = bench.tiny_config(*words, "OUTPUT_DIR", folder / own, "TRAIN.BATCH_SIZE", SHARED_BATCH // processes)
        return training(own, cfg, processes)

    return _one_and_several(bench, start)


def _one_and_several(bench: Bench, start: Callable[[int], AbstractContextManager[Job]]) -> tuple[Path, Path]:
    """The folders of a job of one process and of the same of several, which run at the same time."""
    with ExitStack() as stack:
        jobs = [stack.enter_context(start(processes)) for processes in (1, bench.processes)]
        one, several = (job.succeed() for job in jobs)
    return one, several


def _losses_agree(bench: Bench, what: str, pair: tuple[Path, Path], limit: float) -> Line:
    one, several = map(losses, pair)
    name = f"{bench.processes} processes with B/N against one with B, {what}, {len(one)} steps"
    return at_most(name, relative_losses(several, one), limit, note=f"losses, relative; {bench.where}")


def _equal_tests(bench: Bench, folder: Path, trained: Path) -> Iterator[Line]:
    """One checkpoint, tested by one process and by several at the same time: AP, and where each keypoint is found."""

    def start(processes: int) -> AbstractContextManager[Job]:
        cfg = bench.tiny_config("OUTPUT_DIR", folder / f"test_{processes}", "TEST.BATCH_SIZE", 4)
        command = ["test", "--checkpoint", str(trained / "last.pt"), "--cfg"]
        return started(f"test_{processes}", cfg, command, on_one_machine(processes))

    one, several = (tested / "test" for tested in _one_and_several(bench, start))
    what = f"{bench.processes} processes against one"
    aps = [100 * read_json(test / "metrics.json", "metrics")[0]["stats"]["AP"] for test in (one, several)]
    yield at_most(f"AP, {what}", abs(aps[0] - aps[1]), 0.01, "points", f"of {aps[0]:.2f}; {bench.where}")
    joints = [_keypoints(test) for test in (one, several)]
    apart = np.abs(joints[0] - joints[1]).max().item() if joints[0].shape == joints[1].shape else float("inf")
    yield at_most(f"keypoints of a test, {what}", apart, 1e-3, "px", f"{len(joints[0])} persons; {bench.where}")


def _keypoints(test: Path) -> np.ndarray:
    """(N, K * 3) of the result file in a test's folder, in the order of its entries."""
    (file,) = test.glob("*_results.json")
    return np.array([entry["keypoints"] for entry in read_json(file, "result file")])


def scaling_lines(bench: Bench) -> Iterator[Line]:
    """Persons per second of all GPUs together in units of one, each with its own loader."""
    name = "scaling: speed of N GPUs / speed of one"
    if bench.gpus < 2:
        yield left_out(name, f"needs two GPUs; there are {bench.gpus}")
        return
    folder = empty_folder(bench.folder / "scaling")
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
