"""Whole runs of the networks with intermediate supervision on a few synthetic people."""

import json

import pytest

from tests.runs import run_test, run_train


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.NAME", "hourglass", "MODEL.STACKS", 2, "MODEL.WIDTH", 16),
        ("MODEL.NAME", "cpn", "MODEL.WIDTH", 8, "TRAIN.OHKM_TOPK", 8),
    ],
    ids=["hourglass", "cpn"],
)
def test_a_run_trains_saves_and_tests(tiny_config, overrides):
    cfg = tiny_config("TRAIN.EPOCHS", 1, "TRAIN.BATCH_SIZE", 16, *overrides)
    folder = run_train(cfg)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "train" in line]) >= 2
    evaluations = run_test(cfg, folder / "last.pt")
    assert [e.protocol for e in evaluations] == ["ground_truth", "detector"]
