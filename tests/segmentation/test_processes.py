"""Segmentation on several processes: the losses of one, and a job that is killed and ends as if it had not been."""

import os
import signal
import subprocess

import pytest
import torch

from psa_pose.checkpoints import load_checkpoint
from psa_pose.config import dump_config
from tests.jobs import launch, lines, losses, wait_until, workers_of

pytestmark = pytest.mark.slow


@pytest.fixture
def start(scene_config, tmp_path):
    """A function: (name, processes, *config words) -> the started training tool and its output folder."""
    started: list[subprocess.Popen] = []

    def make(name, processes, *words):
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump_config(scene_config("OUTPUT_DIR", tmp_path / name, "TRAIN.EVAL_EVERY", 100, *words)))
        process = launch(path, processes, tmp_path / f"{name}.txt")
        started.append(process)
        return process, tmp_path / name

    yield make
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("loss", ["cross_entropy", "rmi"])
def test_two_processes_have_the_losses_of_one(start, loss):
    """The mean is over the labelled pixels of both, of which each has another number. HRNetV2 has no dropout.

    RMI adds one to their number: to that of both.
    """
    words = ["MODEL.NAME", "hrnetv2", "TRAIN.FREEZE_BATCHNORM", True, "TRAIN.OPTIMIZER.NAME", "sgd", "LOSS.NAME", loss]
    if loss == "cross_entropy":
        words += ["LOSS.CLASS_WEIGHTS", [0.8, 0.8, 1.2, 1.6, 1.0]]
    found = []
    for processes in (1, 2):
        job, folder = start(str(processes), processes, *words, "TRAIN.BATCH_SIZE", 4 // processes)
        assert job.wait(250) == 0
        found.append(torch.tensor(losses(folder)))
    assert len(found[0]) == 6
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=0)


def test_a_job_of_two_processes_is_killed_and_goes_on_to_the_bit(start, tmp_path):
    words = ["TRAIN.EPOCHS", 8, "TRAIN.BATCH_SIZE", 2, "TRAIN.SAVE_EVERY", 2, "AUTO_RESUME", True, "TRAIN.EMA", 0.9]
    left_alone, whole = start("whole", 2, *words)
    assert left_alone.wait(250) == 0
    job, folder = start("job", 2, *words)
    wait_until(lambda: len(lines(folder / "metrics.jsonl")) > 5 and (folder / "last.pt").exists(), job)
    os.kill(workers_of(job)[-1], signal.SIGKILL)
    assert job.wait(250) == 0
    assert (folder / "log.txt").read_text().count("going on after") == 1
    a, b = (load_checkpoint(f / "last.pt") for f in (whole, folder))
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert losses(folder) == losses(whole)
