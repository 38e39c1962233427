"""Figures that go to an experiment tracker: offline, with the packages themselves where they are installed."""

import importlib.util
import json
import sys

import pytest

from psa_pose.errors import ConfigError
from psa_pose.run_log import RunLog
from psa_pose.tracker import RUN_FILE, TrackerError
from tests.runs import json_lines, run_train

WORDS = ("MODEL.ATTENTION.NAME", "none", "TEST.FLIP", False, "TEST.BOXES", "ground_truth")


@pytest.fixture(params=["wandb", "mlflow"])
def offline(request, tmp_path, monkeypatch) -> str:
    """A tracker that is installed, which writes below tmp_path and asks no server."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f'{request.param} is not installed: pip install "psa_pose[{request.param}]"')
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return request.param


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_said_with_its_extra(name, tiny_config, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf'pip install "psa_pose\[{name}\]", or write TRAIN.TRACKER none'):
        run_train(tiny_config("TRAIN.TRACKER", name))


def test_a_run_that_goes_on_is_the_same_one_there(offline, tiny_config, tmp_path):
    folder = run_train(tiny_config(*WORDS, "TRAIN.TRACKER", offline, "TRAIN.EPOCHS", 1))
    first = json.loads((folder / RUN_FILE).read_text())[offline]
    run_train(tiny_config(*WORDS, "TRAIN.TRACKER", offline, "TRAIN.EPOCHS", 2), resume=True)
    assert json.loads((folder / RUN_FILE).read_text())[offline] == first
    losses = [line["train"]["loss"] for line in json_lines(folder / "metrics.jsonl") if "train" in line]
    if offline == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient()
        kept = client.get_metric_history(first, "train/loss")
        assert [entry.value for entry in sorted(kept, key=lambda e: e.step)] == losses
        run = client.get_run(first)
        assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
        assert "test/ground_truth/AP" in run.data.metrics
    else:
        written = b"".join(path.read_bytes() for path in sorted(folder.glob(f"wandb/offline-run-*-{first}/*.wandb")))
        assert all(str(loss).encode() in written for loss in losses)
        assert b"test/ground_truth/AP" in written


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(tmp_path):
    class Failing:
        def log(self, step, figures):
            raise TrackerError(f"nobody answers at step {step}")

        def close(self):
            pass

    with RunLog(tmp_path) as log:
        log._tracker = Failing()
        for step in range(3):
            log.metrics(step, train={"loss": 0.5})
    assert [line["step"] for line in json_lines(tmp_path / "metrics.jsonl")] == [0, 1, 2]
    (said,) = (tmp_path / "log.txt").read_text().splitlines()
    assert said.endswith("nobody answers at step 0; no more is sent there, metrics.jsonl has everything")
