"""The launchers and the stress test, as a shell runs them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_run_survives_kills_while_it_computes_and_while_it_writes(tmp_path):
    command = [sys.executable, "scripts/stress_resume.py", "--kills", "2", "--epochs", "3", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills: " in done.stdout
    assert "0 while" not in done.stdout
    assert "to the bit" in done.stdout


@pytest.fixture
def cluster(tmp_path):
    """A folder with the script and a cluster's commands, which write down how they were called; its environment."""
    commands = tmp_path / "bin"
    commands.mkdir()
    texts = {
        "srun": 'echo "srun $*" >>calls; trap "exit 143" TERM; for _ in $(seq ${STEPS:-0}); do sleep 0.1; done',
        "scontrol": 'echo "scontrol $*" >>calls; [ "$1" != show ] || printf "node7\\nnode8\\n"',
        "scancel": 'echo "scancel $*" >>calls; kill -TERM "$(pgrep -f "$PWD/bin/srun" | head -n 1)"',
    }
    for name, text in texts.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (commands / name).chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    variables = {"SLURM_JOB_ID": "123", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[7-8]", "GPUS": "4"}
    return {**os.environ, **variables, "SLURM_SUBMIT_DIR": str(tmp_path), "PATH": f"{commands}:{os.environ['PATH']}"}


def launch(environment, *words):
    command = ["bash", str(REPOSITORY / "scripts/train_slurm.sh"), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_cluster_script_starts_one_launcher_per_node(cluster, tmp_path):
    process = launch(cluster, "--cfg", "a.yaml")
    assert process.wait(30) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "scontrol show hostnames node[7-8]"
    for part in ("--nnodes=2 --nproc_per_node=4 --max-restarts=10", "--rdzv-endpoint=node7:20123", "AUTO_RESUME true"):
        assert part in calls[1]


def test_the_cluster_script_puts_the_job_back_when_its_time_is_nearly_up(cluster, tmp_path):
    process = launch({**cluster, "STEPS": "100"}, "--cfg", "a.yaml")
    until = time.monotonic() + 20
    while "srun" not in (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else True:
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-2:] == ["scancel --signal=TERM 123", "scontrol requeue 123"]


def test_the_cluster_script_says_what_it_is(tmp_path):
    process = launch({"PATH": os.environ["PATH"]})
    assert process.wait(20) == 2
    assert "submit it: sbatch" in process.stderr.read()
