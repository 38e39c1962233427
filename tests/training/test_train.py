"""Whole runs of the training and test tools on a few synthetic people."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.checkpoints import load_checkpoint, save_checkpoint
from psa_pose.config import dump_config, load_config
from psa_pose.errors import CheckpointError, ConfigError, DataError, PsaPoseError
from tests.processes import in_processes
from tests.runs import run_test, run_train

REPOSITORY = Path(__file__).parents[2]


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["train"]["loss"] for line in lines if "train" in line]


def run(tool: str, *arguments: object, processes: int = 1, **environment: str) -> subprocess.CompletedProcess:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [*launcher, f"tools/{tool}.py", *map(str, arguments)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, env=variables)


def dumped(cfg, folder: Path) -> Path:
    path = folder / "given.yaml"
    path.write_text(dump_config(cfg))
    return path


def test_a_run_leaves_everything_it_promises(tiny_config):
    folder = run_train(tiny_config())
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts}
    assert files == {
        *("last.pt", "best.pt", "final.safetensors", "config.yaml", "log.txt", "metrics.jsonl", "metrics.csv"),
        *("pictures/train_crops.png", "pictures/predictions.png"),
    }
    assert list((folder / "tensorboard").iterdir())
    log = (folder / "log.txt").read_text()
    assert "computing on 1 CPU thread: fp32, channels-last\n" in log
    assert "0 loader workers per process\n" in log
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines() if "loss" in line]
    assert steps == list(range(len(steps)))
    assert len(steps) > 4
    content = load_checkpoint(folder / "best.pt")
    assert content["input"]["CHANNEL_ORDER"] == "rgb"
    assert content["epoch"] == 2


def test_the_loss_curve_does_not_depend_on_workers_and_reloads_from_the_dump(tiny_config, tmp_path):
    first = run_train(tiny_config("OUTPUT_DIR", tmp_path / "a", "LOADER.WORKERS", 0))
    second = run_train(tiny_config("OUTPUT_DIR", tmp_path / "b", "LOADER.WORKERS", 3))
    dumped = ["OUTPUT_DIR", str(tmp_path / "c"), "LOADER.WORKERS", "1"]
    third = run_train(load_config(first / "config.yaml", dumped))
    assert losses(first) == losses(second) == losses(third)
    other = run_train(tiny_config("OUTPUT_DIR", tmp_path / "d", "SEED", 7))
    assert losses(other) != losses(first)


def test_a_resumed_run_ends_as_the_uninterrupted_one(tiny_config, tmp_path):
    whole = run_train(
        tiny_config("OUTPUT_DIR", tmp_path / "whole", "TRAIN.EPOCHS", 3, "TRAIN.SCHEDULE.MILESTONES", [2])
    )
    part = tiny_config("OUTPUT_DIR", tmp_path / "part", "TRAIN.EPOCHS", 1, "TRAIN.SCHEDULE.MILESTONES", [2])
    run_train(part)
    rest = tiny_config("OUTPUT_DIR", tmp_path / "part", "TRAIN.EPOCHS", 3, "TRAIN.SCHEDULE.MILESTONES", [2])
    resumed = run_train(rest, resume=True)
    a, b = load_checkpoint(whole / "last.pt"), load_checkpoint(resumed / "last.pt")
    assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    assert a["best"] == b["best"]
    assert losses(resumed) == losses(whole)


def test_a_run_that_is_there_is_not_lost(tiny_config):
    run_train(tiny_config("TRAIN.EPOCHS", 1))
    with pytest.raises(ConfigError, match="--resume"):
        run_train(tiny_config("TRAIN.EPOCHS", 1))
    run_train(tiny_config("TRAIN.EPOCHS", 1), overwrite=True)


@pytest.mark.parametrize("codec", ["standard", "dark", "udp_offset"])
def test_every_codec_trains_and_tests(tiny_config, codec):
    cfg = tiny_config("CODEC.NAME", codec, "TRAIN.EPOCHS", 1, "MODEL.ATTENTION.NAME", "none")
    folder = run_train(cfg)
    evaluations = run_test(cfg, folder / "last.pt")
    assert [e.protocol for e in evaluations] == ["ground_truth", "detector"]


def test_the_truth_as_prediction_scores_one(tiny_config):
    (evaluation,) = run_test(tiny_config(), None, "keypoints")
    assert evaluation.stats["AP"] == 1.0
    assert evaluation.stats["AR"] == 1.0


@pytest.mark.parametrize(
    ("codec", "least"), [("standard", 0.8), ("dark", 0.99), ("udp_gaussian", 0.99), ("udp_offset", 0.99)]
)
def test_decoded_targets_score_what_the_codec_allows(tiny_config, codec, least):
    cfg = tiny_config("CODEC.NAME", codec, "INPUT.SIZE", [192, 256])
    (evaluation,) = run_test(cfg, None, "targets")
    assert evaluation.stats["AP"] >= least


@pytest.mark.parametrize(("oracle", "least"), [("keypoints", 1.0), ("targets", 0.98)])
def test_the_oracles_on_photographs(coco_mini, tmp_path, oracle, least):
    words = [*("DATASET.ROOT", str(coco_mini)), *("OUTPUT_DIR", str(tmp_path)), *("LOADER.WORKERS", "0")]
    cfg = load_config(REPOSITORY / "configs/coco/hrnet/hrnet_w32_256x192.yaml", [*words, "CODEC.NAME", "udp_gaussian"])
    (evaluation,) = run_test(cfg, None, oracle)
    assert evaluation.persons == 68
    assert evaluation.stats["AP"] >= least


def test_bad_numbers_end_the_run_with_a_sentence(tiny_config):
    with pytest.raises(PsaPoseError, match="not finite"):
        run_train(tiny_config("TRAIN.OPTIMIZER.NAME", "sgd", "TRAIN.OPTIMIZER.LR", 1e3, "TRAIN.EPOCHS", 20))


def test_a_truncated_image_ends_the_run_or_is_skipped_and_counted(tiny_config, people, tmp_path):
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(people, root)
    victim = sorted((root / "train2017").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:700])
    with pytest.raises(DataError, match=rf"{victim.name} is truncated.*ON_ERROR skip"):
        run_train(tiny_config("DATASET.ROOT", root, "LOADER.WORKERS", 1))
    folder = run_train(tiny_config("DATASET.ROOT", root, "DATASET.ON_ERROR", "skip"), overwrite=True)
    assert f"{victim.name} is truncated" in (folder / "log.txt").read_text()


def test_a_checkpoint_of_another_input_is_refused(tiny_config):
    folder = run_train(tiny_config("TRAIN.EPOCHS", 1))
    with pytest.raises(CheckpointError, match=r"INPUT\.CHANNEL_ORDER rgb"):
        run_test(tiny_config("INPUT.CHANNEL_ORDER", "bgr"), folder / "last.pt")
    with pytest.raises(CheckpointError, match="missing"):
        run_test(tiny_config("MODEL.DEPTH", 34), folder / "last.pt")
    content = load_checkpoint(folder / "last.pt")
    content["skeleton"]["names"] = ["head"]
    save_checkpoint(folder / "other.pt", content)
    with pytest.raises(CheckpointError, match="other keypoints"):
        run_test(tiny_config(), folder / "other.pt")


def test_two_processes_evaluate_to_the_digits_of_one(tiny_config, tmp_path):
    folder = run_train(tiny_config("TEST.BATCH_SIZE", 4))
    path = folder / "config.yaml"
    words = [path, "--checkpoint", folder / "last.pt", "OUTPUT_DIR", tmp_path / "of2"]
    done = run("test", "--cfg", *words, processes=2)
    assert done.returncode == 0, done.stderr
    run_test(load_config(path, ["OUTPUT_DIR", str(tmp_path / "of1")]), folder / "last.pt")
    one, two = (
        [p.read_text() for p in (out / "test/metrics.json", *sorted((out / "test").glob("keypoints_*.json")))]
        for out in (tmp_path / "of1", tmp_path / "of2")
    )
    assert len(one) > 1
    assert one == two


def test_two_processes_train_reproducibly(tiny_config, tmp_path):
    cfg = tiny_config("TRAIN.BATCH_SIZE", 4)
    done = run("train", "--cfg", dumped(cfg, tmp_path), processes=2)
    assert done.returncode == 0, done.stderr
    folder = Path(cfg.OUTPUT_DIR)
    log = (folder / "log.txt").read_text()
    assert "effective batch 8 (4 persons x 2 processes)" in log
    options = r"(forward_sync|broadcast)_buffers False, gradient_as_bucket_view True, static_graph True"
    assert re.search(f"DistributedDataParallel: {options}\n", log)
    assert "deprecated" not in done.stderr
    first = losses(folder)
    assert np.isfinite(first).all()
    in_processes(lambda: run_train(cfg, overwrite=True), tmp_path)
    assert losses(folder) == first


# Words of a command line -> what they are answered with.
MISTAKES = {
    "train --cfg nowhere.yaml": "error: config nowhere.yaml is neither a file nor the name of one",
    "train --cfg synthetic/quickstart TRAIN.EPOCH 3": "did you mean TRAIN.EPOCHS?",
    "train --cfg synthetic/quickstart DATASET.ROOT nowhere": "annotation file nowhere",
    "train --cfg synthetic/quickstart DEVICE cuda": "DEVICE is 'cuda' but torch sees no GPU",
    "test --cfg synthetic/quickstart --checkpoint nowhere.pt": "error: checkpoint nowhere.pt cannot be read",
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """What each of the commands answers; they run at the same time."""
    out = tmp_path_factory.mktemp("mistakes")
    with ThreadPoolExecutor() as pool:
        done = pool.map(lambda words: run(*words.split(), "OUTPUT_DIR", out), MISTAKES)
        return dict(zip(MISTAKES, done, strict=True))


@pytest.mark.parametrize(("words", "says"), MISTAKES.items())
def test_a_users_mistake_is_one_sentence_without_a_traceback(answered, words, says):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = answered[words]
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
