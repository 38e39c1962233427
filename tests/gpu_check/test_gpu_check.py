"""The check's lines where there is no GPU, its files and exit status; what only a GPU is asked, asked of a CPU."""

import json
import math
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from psa_pose.benchmark.launches import count_launches
from psa_pose.benchmark.train import start_run
from psa_pose.errors import PsaPoseError
from psa_pose.gpu_check import numerics, speed, steps
from psa_pose.gpu_check.bench import Bench, repeated
from psa_pose.gpu_check.lines import FAIL, LEFT_OUT, PASS, at_least, at_most, holds, left_out, markdown
from psa_pose.gpu_check.processes.agreement import persons_per_second
from psa_pose.gpu_check.processes.jobs import Job, agent_options, end_all, losses, relative_losses, started
from psa_pose.gpu_check.run import CHECKS, run_gpu_check
from psa_pose.gpu_check.start import memory
from psa_pose.losses import heatmap_mse
from tests.commands import run_here

REPOSITORY = Path(__file__).parents[2]
CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="what is left out depends on the GPUs")


def check(folder, *words):
    """The command's answer and what its JSON says."""
    answer = run_here(REPOSITORY / "tools/gpu_check.py", "--folder", folder, *words)
    return answer, json.loads((folder / "gpu_check.json").read_text())


def test_kernels_are_run_over_and_over_and_against_the_written_order(monkeypatch):
    assert 0 < numerics.block_difference("psa_p", "eq3", "channels last", CPU, "fp32", (16, 5, 4)) < 1e-5
    assert numerics.same_every_time((16, 5, 4), CPU)
    make = numerics.make_attention
    monkeypatch.setattr(numerics, "make_attention", lambda *a: nn.Sequential(make(*a), nn.Dropout(0.1)))
    assert not numerics.same_every_time((16, 5, 4), CPU)


@NO_GPU
def test_a_line_each_with_figure_limit_and_verdict_and_status_0_where_none_fails(tmp_path):
    answer, content = check(tmp_path, "--only", "machine", "attention", "kernels", "launches", "codecs")
    assert answer.returncode == content["failures"] == 0, answer.stdout
    verdicts = {line["name"]: line["verdict"] for line in content["lines"]}
    block = "PSA, every form against `direct`, forward and gradients, "
    assert [verdicts[block + p] for p in ("fp32", "tf32", "bf16")] == [PASS, LEFT_OUT, PASS]
    left_out_here = ("codec dark, CPU against GPU", "psa_p's kernels, 10 runs", "launches per step, W48, psa_p / plain")
    assert [verdicts[name] for name in left_out_here] == [LEFT_OUT] * 3
    (fp32,) = (line for line in content["lines"] if line["name"] == f"{block}fp32")
    assert 0 < fp32["value"] < 1e-5
    assert "13 forms, 2 layouts" in fp32["note"]
    table = (tmp_path / "gpu_check.md").read_text().splitlines()
    assert table[2].startswith("3 PASS, 0 FAIL, ")
    assert table[4] == "| promise | figure | limit | verdict | note |"
    assert len(table) == 6 + len(content["lines"])
    assert all(line["note"] for line in content["lines"] if line["verdict"] == LEFT_OUT)
    assert "no GPU" in answer.stdout


def test_wrong_figures_fail_and_the_status_counts_them(tmp_path, monkeypatch):
    make = numerics.make_attention

    def wrong(name, channels, direct, **options):
        block = make(name, channels, direct=direct, **options)
        # One form is off by a tenth, in one layout.
        if name == "psa_s" and options["spatial"] == "fig2" and not direct:
            block.register_forward_hook(lambda _, inputs, y: y * (1.1 if inputs[0].is_contiguous() else 1.0))
        return block

    monkeypatch.setattr(numerics, "make_attention", wrong)
    monkeypatch.setattr(numerics, "BLOCKS", [("psa_p", "eq3"), ("psa_s", "fig2")])
    answer, content = check(tmp_path, "--only", "attention")
    failed = [line for line in content["lines"] if line["verdict"] == FAIL]
    assert answer.returncode == content["failures"] == len(failed) >= 2
    assert all("worst: psa_s fig2, contiguous" in line["note"] for line in failed)
    assert failed[0]["value"] == pytest.approx(0.1, rel=0.1)


def test_an_error_is_a_failed_line_and_the_others_go_on_until_the_time_is_up(tmp_path, monkeypatch):
    def broken(bench):
        yield left_out("first", "of no use")
        raise PsaPoseError("a sentence\nand more")

    monkeypatch.setitem(CHECKS, "start", broken)
    monkeypatch.setitem(CHECKS, "save", lambda bench: [at_most("second", 1.0, 2.0)])
    said = []
    lines = run_gpu_check(tmp_path, ["start", "save"], 10, said.append)
    assert [line.verdict for line in lines[:3]] == [LEFT_OUT, FAIL, PASS]
    assert "PsaPoseError: a sentence; see" in lines[1].note
    assert "broken" in (tmp_path / "errors.txt").read_text()
    assert said[1:] == [line.text() for line in lines]
    late = run_gpu_check(tmp_path, ["save"], 0, said.append)
    assert (late[0].verdict, late[0].note) == (LEFT_OUT, "the 0 minutes are over")
    assert late[-1].verdict == PASS
    answer = run_here(REPOSITORY / "tools/gpu_check.py", "--only", "atention", folder=tmp_path)
    assert answer.returncode == 2
    assert "did you mean 'attention'?" in answer.stderr


def test_limits_hold_at_their_value_and_no_number_keeps_none():
    assert [at_most("a", v, 1.0).verdict for v in (1.0, 1.01, float("nan"), float("inf"))] == [PASS, FAIL, FAIL, FAIL]
    assert [at_least("a", v, 1.0).verdict for v in (1.0, 0.99, float("nan"))] == [PASS, FAIL, FAIL]
    line = at_most("step", 1234.5, 2.0, "ms", "here")
    assert line.text() == "FAIL      step: 1,234 ms (limit: at most 2 ms); here"
    assert "| step | 1,234 ms | at most 2 ms | FAIL | here |" in markdown([line, holds("b", True, "x", "y")], "m", 1)


def test_what_a_gpu_is_asked_is_answered_by_a_cpu(tiny_config):
    for codec in ("standard", "dark", "udp_gaussian", "udp_offset"):
        assert numerics.codec_difference(codec, CPU) == 0
    with ExitStack() as stack:
        started = start_run(tiny_config("TRAIN.BATCH_SIZE", 4), stack)
        model, batch = started.run.state.model, started.batch()
        images = torch.randn(2, 3, 64, 64)
        steady = numerics.steady_network(model, images)
        assert numerics.forward_difference(steady, images, CPU, "fp32") < 1e-6
        assert 1e-4 < numerics.forward_difference(steady, images, CPU, "bf16") < numerics.NETWORK_LIMITS["bf16"]
        model.train()
        started.run = replace(started.run, state=replace(started.run.state, scaler=torch.amp.GradScaler("cpu")))
        assert steps.after_infinity(started, batch) == "skipped"
        started.run = replace(started.run, state=replace(started.run.state, scaler=torch.amp.GradScaler(enabled=False)))
        assert steps.after_infinity(started, batch) == "weights were changed"
        assert steps.graph_breaks(started) == (0, "")


def test_launches_are_operators_that_compute():
    x = torch.ones(4, 4, requires_grad=True)
    # A product, its sum, and in the backward pass the filled gradient and another product; no view counts.
    assert count_launches(lambda: (x.view(16) * 2).detach().t(), CPU) == 1
    assert count_launches(lambda: (x * 2).reshape(2, 8).sum(), CPU) == 2


def test_the_published_step_has_our_loss_and_counts_near_maxima():
    maps, targets = torch.rand(2, 3, 8, 6), torch.rand(2, 3, 8, 6)
    weights = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    model = torch.nn.Conv2d(3, 3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = heatmap_mse(model(maps), targets, weights).item()
    before = model.weight.detach().clone()
    loss, accuracy = speed.train_published(model, optimizer, maps, targets, weights)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert 0 <= accuracy <= 1
    assert not torch.equal(model.weight, before)
    peaks = np.zeros((1, 2, 20, 20), np.float32)
    peaks[0, :, 9, 9] = 1
    moved = np.zeros_like(peaks)
    moved[0, 0, 9, 9] = moved[0, 1, 9, 12] = 1
    assert speed.heatmap_accuracy(moved, peaks) == 0.5


def test_memory_of_a_process_is_without_the_pages_of_files():
    own, files = memory("Name:\tpython\nVmHWM:\t  900000 kB\nVmRSS:\t  800000 kB\nRssFile:\t  300000 kB\n")
    assert (own, files) == pytest.approx((600_000 * 1.024e-3, 300_000 * 1.024e-3))
    assert all(map(math.isnan, memory("Name:\tpython\n")))


def test_a_long_list_repeats_pictures_under_numbers_of_their_own():
    content = {"images": [{"id": 7, "file_name": "a"}], "annotations": [{"id": 3, "image_id": 7}], "categories": [1]}
    long = repeated(content, 3)
    assert len({image["id"] for image in long["images"]}) == len({person["id"] for person in long["annotations"]}) == 3
    assert [person["image_id"] for person in long["annotations"]] == [image["id"] for image in long["images"]]
    assert {image["file_name"] for image in long["images"]} == {"a"}


def test_jobs_are_watched_and_ended_with_all_that_they_started(tiny_config, tmp_path):
    cfg = tiny_config("OUTPUT_DIR", tmp_path / "job")
    with (
        started("job", cfg, ["nonsense"]) as job,
        pytest.raises(PsaPoseError, match=r"ended with status 2: .*nonsense"),
    ):
        job.succeed()
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"
    screen = tmp_path / "screen.txt"
    with screen.open("w") as out:
        sleeper = Job(subprocess.Popen([sys.executable, "-c", code], stdout=out), tmp_path, screen)
    sleeper.until(lambda: sleeper.said().endswith("\n"), "its child", 20)
    with pytest.raises(PsaPoseError, match="screen did not come to a wonder"):
        sleeper.until(lambda: False, "a wonder", 0.05)
    with pytest.raises(PsaPoseError, match="screen was not over after 0 s"):
        sleeper.wait(0)
    child = int(sleeper.said())
    end_all(sleeper.process)
    state, until = Path(f"/proc/{child}/stat"), time.monotonic() + 20
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < until, "a child of the job lives on"
        time.sleep(0.02)
    assert agent_options(4)[:2] == ["--nnodes=2", "--nproc_per_node=4"]


def test_losses_are_compared_step_by_step(tmp_path):
    assert relative_losses([1.0, 2.0], [1.0, 1.0]) == 1
    assert relative_losses([1.0], [1.0, 1.0]) == float("inf")
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "train": {"loss": 2}}\n{"step": 2, "train": {"loss": 2}}\n')
    with pytest.raises(PsaPoseError, match="every step once"):
        losses(tmp_path)


@pytest.mark.parametrize(
    ("gpus", "processes_", "device"), [(0, 2, "cpu"), (1, 2, "cpu"), (3, 2, "cuda"), (8, 8, "cuda")]
)
def test_several_processes_are_as_many_as_gpus_allow(gpus, processes_, device):
    bench = Bench(CPU, gpus, Path())
    assert (bench.processes, bench.job_device) == (processes_, device)


@pytest.mark.slow
def test_measurements_of_speed_on_a_cpu(tmp_path):
    """What the check leaves out where there is no GPU, so that its code has been run."""
    bench = Bench(CPU, 0, tmp_path)
    slower, milliseconds = speed.psa_ratio(bench, "synthetic/quickstart", "INPUT.SIZE", [64, 64])
    assert 0.9 < slower < 4
    assert milliseconds > 1
    faster, ours, theirs = speed.persons_per_second(bench, "synthetic/quickstart", "INPUT.SIZE", [64, 64])
    assert faster == pytest.approx(ours / theirs, rel=0.5)
    assert numerics.decode_difference(bench)[0] < 0.01
    words = ["INPUT.SIZE", [64, 64], "LOADER.WORKERS", 1]
    one, two = (persons_per_second(bench, tmp_path, n, "synthetic/quickstart", *words) for n in (1, 2))
    assert 0.3 < two / one < 3


@pytest.mark.slow
@NO_GPU
def test_the_whole_check_on_a_cpu(tmp_path):
    command = [sys.executable, "tools/gpu_check.py", "--folder", str(tmp_path), "--minutes", "60"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1500)
    print(done.stdout)
    content = json.loads((tmp_path / "gpu_check.json").read_text())
    failed = [line["name"] for line in content["lines"] if line["verdict"] == FAIL]
    assert done.returncode == len(failed) == content["failures"], done.stderr
    assert not (tmp_path / "errors.txt").exists(), (tmp_path / "errors.txt").read_text()
    passed = {line["name"] for line in content["lines"] if line["verdict"] == PASS}
    for start in ("2 processes with B/N", "AP, 2 processes", "kill -9 of a process: losses", "resume after SIGTERM"):
        assert any(name.startswith(start) for name in passed), start
    assert "processes and shared memory left at the end" in passed
