"""Several processes: the losses of one, an exact resume, and a job that survives the kill of a process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from psa_pose.checkpoints import load_checkpoint
from psa_pose.config import dump_config
from tests.jobs import REPOSITORY, launch, lines, losses, wait_until, workers_of
from tests.processes import in_processes
from tests.runs import run_train

SMALL = [
    *("MODEL.WIDTH", 8, "MODEL.ATTENTION.NAME", "none", "TEST.FLIP", False, "TRAIN.LOG_RECORDS", True),
    *("TRAIN.EVAL_EVERY", 100, "TRAIN.SCHEDULE.WARMUP_STEPS", 0, "TRAIN.OPTIMIZER.LR", 1e-3),
]


@pytest.fixture
def start(tiny_config, tmp_path):
    """A function: (name, processes, *config words) -> the started training tool and its output folder."""
    started: list[subprocess.Popen] = []

    def make(name: str, processes: int, *words: object) -> tuple[subprocess.Popen, Path]:
        cfg = tiny_config(*SMALL, "OUTPUT_DIR", tmp_path / name, *words)
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump_config(cfg))
        process = launch(path, processes, tmp_path / f"{name}.txt")
        started.append(process)
        return process, tmp_path / name

    yield make
    for process in started:
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize(("optimizer", "tolerance"), [("sgd", 1e-6), ("adam", 1e-4)])
def test_two_processes_have_the_losses_of_one(tiny_config, people, tmp_path, optimizer, tolerance):
    # 24 persons: an epoch whose persons cannot be shared out equally ends with one that counts twice.
    content = json.loads((people / "annotations/person_keypoints_train2017.json").read_text())
    content["annotations"] = content["annotations"][:24]
    annotations = tmp_path / "even.json"
    annotations.write_text(json.dumps(content))
    words = ["TRAIN.FREEZE_BATCHNORM", True, "TRAIN.EPOCHS", 5, "TRAIN.OPTIMIZER.NAME", optimizer]
    words += ["DATASET.TRAIN_ANNOTATIONS", annotations]
    one = tiny_config(*SMALL, *words, "TRAIN.BATCH_SIZE", 6, "OUTPUT_DIR", tmp_path / "one")
    two = tiny_config(*SMALL, *words, "TRAIN.BATCH_SIZE", 3, "OUTPUT_DIR", tmp_path / "two")
    in_processes(lambda: run_train(two), tmp_path)
    a, b = torch.tensor(losses(run_train(one))), torch.tensor(losses(tmp_path / "two"))
    assert len(a) == len(b) == 20
    print(f"{optimizer}: greatest relative difference {((a - b) / a).abs().max():.1e}")
    torch.testing.assert_close(b, a, rtol=tolerance, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_survives_the_loss_of_a_process_and_ends_as_if_nothing_had_happened(start, tmp_path, number):
    words = ["TRAIN.EPOCHS", 12, "TRAIN.BATCH_SIZE", 2, "TRAIN.SAVE_EVERY", 3, "AUTO_RESUME", True]
    left_alone, whole = start("whole", 2, *words)
    assert left_alone.wait(250) == 0
    job, folder = start("job", 2, *words)
    for step in (8, 30):
        wait_until(lambda step=step: len(lines(folder / "metrics.jsonl")) > step and (folder / "last.pt").exists(), job)
        os.kill(workers_of(job)[-1], number)
        wait_until(lambda: "going on after" in (tmp_path / "job.txt").read_text(), job)
    assert job.wait(250) == 0
    assert (folder / "log.txt").read_text().count("going on after") == 2
    a, b = load_checkpoint(whole / "last.pt"), load_checkpoint(folder / "last.pt")
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert losses(folder) == losses(whole)
    for rank in (0, 1):
        assert lines(folder / f"records.{rank}.jsonl") == lines(whole / f"records.{rank}.jsonl")


@pytest.mark.slow
def test_an_image_that_breaks_ends_both_processes_with_one_sentence_and_no_restart_is_tried_for_long(
    start, people, tmp_path
):
    root = tmp_path / "people"
    shutil.copytree(people, root)
    words = ["DATASET.ROOT", root, "TRAIN.EPOCHS", 1000, "TRAIN.BATCH_SIZE", 2, "AUTO_RESUME", True]
    job, folder = start("job", 2, *words)
    wait_until(lambda: len(lines(folder / "metrics.jsonl")) > 8 and (folder / "last.pt").exists(), job)
    broken = sorted((root / "train2017").iterdir())[3]
    broken.write_bytes(b"no picture")
    since = time.monotonic()
    wait_until(lambda: not workers_of(job) or job.poll() is not None, job)
    both, status = time.monotonic() - since, job.wait(60)
    print(f"both processes ended after {both:.1f} s, torchrun after {time.monotonic() - since:.1f} s")
    assert both < 10
    assert status == 1
    said = (tmp_path / "job.txt").read_text()
    sentence = next(line for line in said.splitlines() if line.startswith("error: "))
    assert broken.name in sentence
    # By the first start, and by each of the two that torchrun tries, which end before they have imported torch.
    assert said.count(sentence) == 3
    assert sentence.removeprefix("error: ") in said.split("Root Cause")[1]
    assert "Traceback" not in said.split(sentence)[0]
    assert "going on after" not in (folder / "log.txt").read_text()


def test_a_signal_to_the_tool_and_its_workers_leaves_a_checkpoint_and_a_sentence(start, tmp_path):
    words = ["TRAIN.EPOCHS", 1000, "TRAIN.BATCH_SIZE", 2, "LOADER.WORKERS", 2]
    runs = {number: start(number.name, 1, *words) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, (process, folder) in runs.items():
        wait_until(lambda folder=folder: len(lines(folder / "metrics.jsonl")) > 3, process)
        # As Ctrl-C in a terminal and scancel do it: every process of the group is told.
        os.killpg(process.pid, number)
    for number, (process, folder) in runs.items():
        assert process.wait(60) == 128 + number
        said = (tmp_path / f"{number.name}.txt").read_text()
        assert "finishing the step" in said
        assert "go on with the same command and --resume" in said
        assert "Traceback" not in said
        content = load_checkpoint(folder / "last.pt")
        assert len(losses(folder)) == content["epoch"] * 13 + content["training"]["step"]


@pytest.mark.slow
def test_two_agents_meet_again_after_one_of_their_workers_is_killed(tiny_config, start, tmp_path):
    """As on two machines: each torchrun counts the restarts of its own workers."""
    words = ["TRAIN.EPOCHS", 12, "TRAIN.BATCH_SIZE", 2, "TRAIN.SAVE_EVERY", 3, "AUTO_RESUME", True]
    left_alone, whole = start("whole", 2, *words)
    assert left_alone.wait(250) == 0
    folder, config = tmp_path / "job", tmp_path / "job.yaml"
    config.write_text(dump_config(tiny_config(*SMALL, "OUTPUT_DIR", folder, *words)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", "--nproc_per_node=1", "--max-restarts=3", "--monitor-interval=0.5"]
    options += ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}", "--rdzv-id=job"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "tools/train.py", "--cfg", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outputs = [(tmp_path / f"agent{number}.txt").open("w") for number in (0, 1)]
    agents = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=out, stderr=subprocess.STDOUT, env=environment)
        for out in outputs
    ]
    try:
        wait_until(lambda: len(lines(folder / "metrics.jsonl")) > 8 and (folder / "last.pt").exists(), agents[0])
        os.kill(workers_of(agents[1])[0], signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: "going on after" in (folder / "log.txt").read_text(), agents[0])
        print(f"training again after {time.monotonic() - killed:.0f} s")
        assert time.monotonic() - killed < 60
        assert [agent.wait(250) for agent in agents] == [0, 0]
    finally:
        for agent in agents:
            agent.kill()
    a, b = load_checkpoint(whole / "last.pt"), load_checkpoint(folder / "last.pt")
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert losses(folder) == losses(whole)
