"""Files of an earlier version are still read: they answer as they did, and a run goes on from its last.pt."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from psa_pose import PoseEstimator
from psa_pose.checkpoints import load_checkpoint
from psa_pose.checkpoints.spec import ModelSpec, load_network
from psa_pose.evaluation.test import run_test
from psa_pose.skeleton import COCO
from psa_pose.tasks import build_task
from psa_pose.training.loop import run_train

OLD = Path(__file__).parent / "old"
# What the network was trained with.
CONFIG = (
    *("MODEL.HEAD_CHANNELS", 2, "MODEL.WIDTH", 1, "MODEL.ATTENTION.NAME", "none", "MODEL.CHANNELS_LAST", False),
    *("TRAIN.EPOCHS", 1, "TRAIN.LOG_EVERY", 2),
)


def unpacked(name: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(lzma.decompress((OLD / f"{name}.xz").read_bytes()))
    return path


@pytest.mark.parametrize("name", ["last.pt", "final.safetensors", "flip_keypoints.onnx"])
def test_an_old_file_answers_as_it_did(name, tmp_path):
    path = unpacked(name, tmp_path)
    if path.suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        estimator = PoseEstimator.from_onnx(path, threads=1)
    else:
        estimator = PoseEstimator.from_checkpoint(path, "cpu", fold=False)
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    people = estimator(picture, [[0, 0, 60, 80], [30, 10, 70, 70]], heatmaps=True)
    found, expected = np.stack([person.heatmaps[:, ::4, ::4] for person in people]), np.load(OLD / "heatmaps.npy")
    assert np.abs(expected).max() > 100
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_an_old_checkpoint_says_what_it_did(tiny_config, tmp_path):
    cfg = tiny_config(*CONFIG)
    stated = load_network(unpacked("last.pt", tmp_path))[1]
    assert stated == load_network(unpacked("final.safetensors", tmp_path))[1] == ModelSpec.of_config(cfg)
    assert (stated.skeleton, stated.input_size, stated.oks_nms) == (COCO, (64, 64), cfg.TEST.OKS_NMS)


def test_an_old_run_goes_on_and_is_evaluated(tiny_config, tmp_path):
    last = unpacked("last.pt", tmp_path / "run")
    before = load_checkpoint(last)
    cfg = tiny_config(*CONFIG, "TRAIN.EPOCHS", 2, "TEST.BOXES", "ground_truth")
    run_test(build_task(cfg), last)
    run_train(build_task(cfg), resume=True)
    after = load_checkpoint(last)
    assert (before["epoch"], after["epoch"]) == (1, 2)
    steps = {key: int(state["step"]) for key, state in after["optimizer"]["state"].items()}
    assert all(steps[key] == 2 * int(state["step"]) for key, state in before["optimizer"]["state"].items())
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train" in line] == [4, 5, 6, 7]
