"""The state is saved as it was at its step, while the loop goes on; what goes wrong is raised in the loop."""

import gc
import os
import threading

import pytest
import torch

from psa_pose import files
from psa_pose.checkpoints import load_checkpoint
from psa_pose.checkpoints.snapshot import Snapshot
from psa_pose.errors import CheckpointError
from psa_pose.run_log import RunLog
from psa_pose.training import saver as saver_module
from psa_pose.training.saver import Saver
from scripts.stress_resume import same
from tests.runs import run_train


@pytest.fixture
def log(tmp_path):
    with RunLog(tmp_path) as log:
        yield log


def content(value: float) -> dict:
    weight = torch.full((4, 3, 2, 2), value).to(memory_format=torch.channels_last)
    return {"model": {"weight": weight, "count": torch.tensor(7)}, "optimizer": {"state": [torch.ones(3), (value,)]}}


def test_what_is_written_is_the_state_of_its_step(tmp_path, log, monkeypatch):
    go_on, write = threading.Event(), saver_module.save_checkpoint
    monkeypatch.setattr(saver_module, "save_checkpoint", lambda *a, **k: (go_on.wait(9), write(*a, **k)))
    state = content(1.0)
    with Saver(tmp_path, 0, log) as saver:
        saver.save(state, "last.pt")
        # The loop is not held: the file is not there, and the weights move on.
        assert not (tmp_path / "last.pt").exists()
        state["model"]["weight"].fill_(9)
        go_on.set()
        saver.wait()
        assert same(load_checkpoint(tmp_path / "last.pt")["model"], content(1.0)["model"])
        saver.save(state, "last.pt")
    assert same(load_checkpoint(tmp_path / "last.pt")["model"], content(9.0)["model"])


def test_further_names_are_links_and_are_there_first(tmp_path, log, monkeypatch):
    placed, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (placed.append(b.name), replace(a, b)))
    with Saver(tmp_path, 1, log) as saver:
        for epoch in (1, 2):
            saver.save(content(epoch), "last.pt", "best.pt", f"epoch_000{epoch}.pt")
        saver.save(content(3.0), "last.pt")
    assert placed == ["best.pt", "epoch_0001.pt", "last.pt", "best.pt", "epoch_0002.pt", "last.pt", "last.pt"]
    assert (tmp_path / "best.pt").samefile(tmp_path / "epoch_0002.pt")
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == ["best.pt", "epoch_0002.pt", "last.pt"]
    assert load_checkpoint(tmp_path / "best.pt")["model"]["weight"].unique() == 2
    assert load_checkpoint(tmp_path / "last.pt")["model"]["weight"].unique() == 3


def test_without_links_further_names_are_copies(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for text in (b"old", b"new and longer"):
        files.atomic_write(tmp_path / "a", lambda file, text=text: file.write(text), [tmp_path / "b"])
        assert [(tmp_path / name).read_bytes() for name in "ab"] == [text, text]
    assert not (tmp_path / "a").samefile(tmp_path / "b")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_the_log_is_on_the_disk_before_the_checkpoint(tmp_path, log, monkeypatch):
    monkeypatch.setattr(log, "flush", lambda: flushed.append((tmp_path / "last.pt").exists()))
    flushed: list[bool] = []
    with Saver(tmp_path, 0, log) as saver:
        saver.save(content(1.0), "last.pt")
    assert flushed == [False]


def test_an_error_is_raised_in_the_loop_once_and_the_run_may_go_on(tmp_path, log):
    (tmp_path / "full").write_text("no folder")
    with Saver(tmp_path, 0, log) as saver:
        saver.save(content(1.0), "full/last.pt")
        with pytest.raises(CheckpointError, match=r"full/last\.pt cannot be written: .* free some space"):
            saver.save(content(2.0), "last.pt")
        saver.save(content(3.0), "last.pt")
    assert load_checkpoint(tmp_path / "last.pt")["model"]["weight"].unique() == 3
    with pytest.raises(CheckpointError, match="cannot be written"), Saver(tmp_path, 0, log) as saver:
        saver.save(content(1.0), "full/last.pt")
    # Another error that ends the run is not hidden by it; it is said.
    with pytest.raises(ZeroDivisionError), Saver(tmp_path, 0, log) as saver:
        raise ZeroDivisionError(saver.save(content(1.0), "full/last.pt"))
    assert "full/last.pt cannot be written" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_training_makes_its_memory_beside_the_loop(tiny_config, tmp_path, monkeypatch, average):
    made, allocate = [], Snapshot._allocate

    def allocated(snapshot, *arguments, **options):
        made.append(threading.current_thread().name)
        allocate(snapshot, *arguments, **options)

    monkeypatch.setattr(Snapshot, "_allocate", allocated)
    words = ["MODEL.ATTENTION.NAME", "none", "TRAIN.EPOCHS", 1, "TEST.FLIP", False, "TRAIN.EMA", average]
    run_train(tiny_config(*words, "OUTPUT_DIR", tmp_path / "run"))
    # Once, for all that is in the first checkpoint: by no save.
    assert made == ["saver_0"]


def test_what_was_built_before_a_run_is_not_collected_in_it(tmp_path, log):
    counts = [gc.get_freeze_count()]
    with Saver(tmp_path, 0, log):
        counts.append(gc.get_freeze_count())
    # Also after an error.
    with pytest.raises(ZeroDivisionError), Saver(tmp_path, 0, log):
        raise ZeroDivisionError
    counts.append(gc.get_freeze_count())
    assert counts[0] == counts[2] == 0
    assert counts[1] > 1000
