"""What a run costs beside its steps: its start at COCO's size, and what a checkpoint takes from the loop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from psa_pose.benchmark.measure import synchronize
from psa_pose.config import dump_config, load_config
from psa_pose.errors import PsaPoseError
from psa_pose.files import write_text
from psa_pose.gpu_check.bench import Bench
from psa_pose.gpu_check.coco_size import coco_sized
from psa_pose.gpu_check.lines import Line, at_most
from psa_pose.gpu_check.steps import W48_PSA, start
from psa_pose.training.loop import prepare_saves, save_run
from psa_pose.training.output_dir import BEST, LAST
from psa_pose.training.resume import Progress

STARTS, SAVES = 3, 4


def start_lines(bench: Bench) -> Iterator[Line]:
    """Seconds and memory of a fresh process until it has read training data of train2017's size."""
    persons, seconds, own, files = fastest_start(bench)
    note = f"{persons:,} persons, from the start of Python, best of {STARTS}, files in memory"
    yield at_most("start at COCO's size", seconds, 5, "s", note)
    note = f"without a GPU's, and {files / 1e3:.2f} GB of libraries' pages, which processes share"
    yield at_most("start at COCO's size, memory of a process", own / 1e3, 0.5, "GB", note)


def fastest_start(bench: Bench) -> tuple[int, float, float, float]:
    """Persons, seconds, and MB of the process and of files, of the fastest of a few starts."""
    root = coco_sized(bench.folder / "coco_size")
    words = ["DATASET.ROOT", root, "DATASET.TRAIN_ANNOTATIONS", "annotations/train.json", "DATASET.TRAIN_IMAGES"]
    words += ["train", "DATASET.TEST_DETECTIONS", "", "DEVICE", "cpu"]
    config = bench.folder / "start.yaml"
    write_text(config, dump_config(load_config("synthetic/quickstart", [str(word) for word in words])))
    command, answers = [sys.executable, "-m", "psa_pose.gpu_check.start", str(config)], []
    for _ in range(STARTS):
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise PsaPoseError(f"the start at COCO's size failed: {done.stderr.strip()[-200:]}")
        persons, own, files = done.stdout.split()
        answers.append((int(persons), seconds, float(own), float(files)))
    return min(answers, key=lambda answer: answer[1])


def save_lines(bench: Bench) -> Iterator[Line]:
    """How long a checkpoint of W48, its moving average and Adam's state holds the loop."""
    seconds, prepared, megabytes = save_seconds(bench)
    note = (
        f"{megabytes:,.0f} MB, last.pt and best.pt, longest of {SAVES}, memory made beside the loop in {prepared:.2f} s"
    )
    yield at_most("a save holds the loop, W48 + EMA + Adam", max(seconds), 0.3, "s", note)


def save_seconds(bench: Bench) -> tuple[list[float], float, float]:
    """Seconds of each save in the loop, those in which the writer made its memory, and megabytes of a checkpoint."""
    words = ["INPUT.SIZE", [64, 64], "TRAIN.BATCH_SIZE", 2, "TRAIN.EMA", 0.999]
    seconds = []
    with ExitStack() as stack:
        started = start(bench, stack, W48_PSA, *words)
        batch = started.batch()
        started.step_on(batch)
        begun = time.perf_counter()
        prepare_saves(started.run)
        started.run.saver.wait()
        prepared = time.perf_counter() - begun
        for _ in range(SAVES):
            started.step_on(batch)
            synchronize(bench.device)
            begun = time.perf_counter()
            save_run(started.run, Progress(), LAST, BEST)
            synchronize(bench.device)
            seconds.append(time.perf_counter() - begun)
            started.run.saver.wait()
        size = (started.run.folder / LAST).stat().st_size / 1e6
    return seconds, prepared, size
