"""tools/benchmark.py with segmentation configs."""

import json

import pytest

from psa_pose.config import dump_config, load_config
from psa_pose.segmentation.data.synthetic import generate
from tests.commands import run_here
from tests.segmentation.test_task import REPOSITORY

TOOL = REPOSITORY / "tools/benchmark.py"


@pytest.fixture
def scenes_yaml(tmp_path):
    """The embedded data set, small, as a config file."""
    generate(tmp_path / "data", {"train": 3, "val": 2}, image_size=(96, 80), workers=1, progress=False)
    words = ["DATASET.ROOT", tmp_path / "data", "MODEL.WIDTH", 8, "MODEL.HEAD_CHANNELS", 8, "INPUT.CROP_SIZE", [64, 48]]
    cfg = load_config("synthetic/segmentation", [*map(str, words), "INPUT.SIZE", "[96, 80]", "DEVICE", "cpu"])
    (tmp_path / "c.yaml").write_text(dump_config(cfg))
    return tmp_path / "c.yaml"


def run(*words):
    done = run_here(TOOL, *words)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_models_data_and_ways_to_infer_are_measured(scenes_yaml, tmp_path):
    out = tmp_path / "found.json"
    run("model", scenes_yaml, "--rounds", 1, "--batch", 1, "--json", out)
    assert json.loads(out.read_text())[0]["ratio"] == 1
    run("data", "--cfg", scenes_yaml, "--rounds", 2, "--json", out)
    rows = json.loads(out.read_text())
    assert [(row["set"], row["images"]) for row in rows] == [("train", 3), ("test", 2)]
    assert all(row["floor_ms"] >= row["decode_ms"] > 0 for row in rows)
    assert all(row["ratio"] > 0.5 for row in rows)
    ways = ["folded+channels-last", "bf16"]
    run("infer", scenes_yaml, "--rounds", 1, "--batches", 1, 2, "--ways", *ways, "--json", out)
    found = json.loads(out.read_text())
    assert [(row["batch"], row["way"]) for row in found["ways"]] == [(b, w) for b in (1, 2) for w in ("eager", *ways)]
    assert [key for key in found["stages"][0] if key.endswith("_ms")] == ["decode_ms", "network_ms", "blend_ms"]


def test_what_cannot_be_measured_is_refused(scenes_yaml):
    assert "did you mean 'folded'" in run_here(TOOL, "infer", scenes_yaml, "--ways", "foldd").stderr
    both = run_here(TOOL, "infer", scenes_yaml, REPOSITORY / "configs/synthetic/quickstart.yaml")
    assert "configs of one TASK" in both.stderr
