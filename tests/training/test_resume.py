"""A run that is stopped, killed or restarted ends as the one that was left alone: to the bit, each person once."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from psa_pose.checkpoints import load_checkpoint, save_checkpoint
from psa_pose.errors import CheckpointError, ConfigError, Interrupted, PsaPoseError
from psa_pose.tasks import pose
from psa_pose.training import loop
from psa_pose.training import step as training_step
from psa_pose.training.interrupt import Interrupt
from scripts.stress_resume import same
from tests.runs import run_test, run_train

SMALL = [
    *("MODEL.WIDTH", 8, "MODEL.ATTENTION.NAME", "none", "TRAIN.BATCH_SIZE", 4, "TRAIN.LOG_EVERY", 3),
    *("TRAIN.LOG_RECORDS", True, "TRAIN.EMA", 0.9, "TRAIN.OPTIMIZER.LR", 1e-2, "TEST.FLIP", False),
]


class Killed(Exception):
    """Stands for a kill: nothing between the step and the caller knows it."""


@pytest.fixture
def small(tiny_config, tmp_path):
    return lambda name, *words: tiny_config(*SMALL, "OUTPUT_DIR", tmp_path / name, *words)


@pytest.fixture
def after_step(monkeypatch):
    """A function: (step, action) -> the action runs once, right after the weights of that step were updated."""
    update = training_step.update_weights

    def arrange(step, action):
        def updated(state, number, *options):
            update(state, number, *options)
            if number == step:
                monkeypatch.setattr(training_step, "update_weights", update)
                action(state)

        monkeypatch.setattr(training_step, "update_weights", updated)

    return arrange


def kill(*_):
    raise Killed


def terminate(*_):
    os.kill(os.getpid(), signal.SIGTERM)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_of(folder: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["train"]["loss"]) for line in lines(folder / "metrics.jsonl") if "train" in line]


def assert_same_end(folder: Path, whole: Path):
    ours, theirs = load_checkpoint(folder / "last.pt"), load_checkpoint(whole / "last.pt")
    for key in ("model", "optimizer", "training", "epoch", "best"):
        assert same(ours[key], theirs[key]), key
    assert steps_of(folder) == steps_of(whole)
    tests = [[line for line in lines(f / "metrics.jsonl") if "test" in line] for f in (folder, whole)]
    assert tests[0] == tests[1]
    records = [lines(f / "records.0.jsonl") for f in (folder, whole)]
    assert records[0] == records[1]
    for epoch in {line["epoch"] for line in records[0]}:
        ids = [i for line in records[0] if line["epoch"] == epoch for i in line["records"]]
        assert len(ids) == len(set(ids)) == ours["training"]["persons"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, people):
    """The folder of an uninterrupted run; made by the first test that asks for it with a config."""
    made = {}

    def folder(cfg):
        if not made:
            made["folder"] = run_train(cfg)
        return made["folder"]

    return folder


@pytest.fixture
def uninterrupted(small, whole, tmp_path_factory):
    return whole(small("", "OUTPUT_DIR", tmp_path_factory.mktemp("whole") / "run"))


def test_asked_to_stop_it_finishes_the_step_and_goes_on_exactly_with_other_workers(uninterrupted, small, after_step):
    after_step(2, terminate)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after 3 steps.*--resume") as stopped:
        run_train(small("part"))
    assert stopped.value.status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    progress = load_checkpoint(Path(small("part").OUTPUT_DIR) / "last.pt")
    assert (progress["epoch"], progress["training"]["step"]) == (0, 3)
    assert_same_end(run_train(small("part", "LOADER.WORKERS", 2), resume=True), uninterrupted)


@pytest.mark.parametrize("steps", [[4], [1, 6, 9]])
def test_killed_it_goes_on_from_the_last_checkpoint(uninterrupted, small, after_step, steps):
    cfg = small("part", "TRAIN.SAVE_EVERY", 2, "AUTO_RESUME", True)
    for step in steps:
        after_step(step, kill)
        with pytest.raises(Killed):
            run_train(cfg)
        # A process that is killed while it writes leaves half a line and half a file.
        with open(f"{cfg.OUTPUT_DIR}/metrics.jsonl", "a") as file:
            file.write('{"step": 99, "tr')
        Path(cfg.OUTPUT_DIR, ".last.pt.123").write_bytes(b"half")
    folder = run_train(cfg)
    assert_same_end(folder, uninterrupted)
    assert not list(folder.glob(".last*"))
    assert "going on after" in (folder / "log.txt").read_text()


def test_stopped_while_it_evaluates_it_evaluates_again(uninterrupted, small, monkeypatch):
    evaluate = pose.evaluate

    def interrupted(*arguments):
        terminate()
        return evaluate(*arguments)

    monkeypatch.setattr(pose, "evaluate", interrupted)
    with pytest.raises(Interrupted, match="in an evaluation"):
        run_train(small("part"))
    monkeypatch.setattr(pose, "evaluate", evaluate)
    assert_same_end(run_train(small("part"), resume=True), uninterrupted)


def test_killed_between_evaluation_and_checkpoint_nothing_is_logged_twice(uninterrupted, small, monkeypatch):
    evaluate = loop._evaluate
    monkeypatch.setattr(loop, "_evaluate", lambda *a, **k: (evaluate(*a, **k), kill()))
    with pytest.raises(Killed):
        run_train(small("part"))
    monkeypatch.setattr(loop, "_evaluate", evaluate)
    assert_same_end(run_train(small("part"), resume=True), uninterrupted)


def test_a_second_signal_ends_at_once():
    with Interrupt() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_cannot_go_on_exactly_is_refused_and_what_changed_is_said(small, after_step):
    after_step(1, terminate)
    with pytest.raises(Interrupted):
        run_train(small("part"))
    with pytest.raises(CheckpointError, match="effective batch 4, this run has 5"):
        run_train(small("part", "TRAIN.BATCH_SIZE", 5), resume=True)
    with pytest.raises(CheckpointError, match="another optimiser"):
        run_train(small("part", "TRAIN.OPTIMIZER.NAME", "sgd"), resume=True)
    with pytest.raises(CheckpointError, match="frozen layers"):
        run_train(small("part", "TRAIN.FREEZE", "conv1"), resume=True)
    with pytest.raises(ConfigError, match="--overwrite contradicts"):
        run_train(small("part"), resume=True, overwrite=True)
    words = ["TRAIN.OPTIMIZER.WEIGHT_DECAY", 0.5, "TRAIN.EPOCHS", 1, "TRAIN.KEEP_EPOCHS", 1, "TRAIN.EMA", 0.0]
    folder = run_train(small("part", *words), resume=True)
    assert "TRAIN.OPTIMIZER.WEIGHT_DECAY: 0.0 -> 0.5" in (folder / "log.txt").read_text()
    content = load_checkpoint(folder / "last.pt")
    assert content["optimizer"]["param_groups"][0]["weight_decay"] == 0.5
    assert content["training"]["trained"] is None


def test_the_last_checkpoints_are_kept_and_a_new_run_forgets_the_old_one(small):
    folder = run_train(small("run", "TRAIN.EPOCHS", 3, "TRAIN.KEEP_EPOCHS", 2, "TRAIN.EVAL_EVERY", 9))
    assert sorted(p.name for p in folder.glob("epoch_*")) == ["epoch_0002.pt", "epoch_0003.pt"]
    kept, last = load_checkpoint(folder / "epoch_0003.pt"), load_checkpoint(folder / "last.pt")
    assert same(kept, last)
    final = load_checkpoint(folder / "final.safetensors")
    assert same(final["model"], last["model"])
    assert final["input"] == last["input"]
    found = [run_test(small("run"), folder / name)[0].stats for name in ("final.safetensors", "last.pt")]
    assert found[0] == found[1]
    (folder / "final.safetensors").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(folder / "final.safetensors")
    run_train(small("run", "TRAIN.EPOCHS", 1), overwrite=True)
    assert not list(folder.glob("epoch_*"))
    assert {line["epoch"] for line in lines(folder / "records.0.jsonl")} == {0}


def test_numbers_that_are_not_finite_leave_the_persons_behind(small, after_step):
    def spoil(state):
        with torch.no_grad():
            next(state.model.parameters()).fill_(float("nan"))

    after_step(1, spoil)
    cfg = small("run", "TRAIN.SAVE_EVERY", 2)
    with pytest.raises(PsaPoseError, match=r"a weight is not finite after step 1.*not_finite\.json"):
        run_train(cfg)
    folder = Path(cfg.OUTPUT_DIR)
    assert not (folder / "last.pt").exists()
    found = [(line["step"], line["records"]) for line in json.loads((folder / "not_finite.json").read_text())]
    assert found == [(line["step"], line["records"]) for line in lines(folder / "records.0.jsonl")]


def test_a_checkpoint_of_an_earlier_version_goes_on_at_its_epoch(small):
    folder = run_train(small("run", "TRAIN.EPOCHS", 1, "TRAIN.EMA", 0.0))
    content = load_checkpoint(folder / "last.pt")
    del content["training"]
    save_checkpoint(folder / "last.pt", content)
    run_train(small("run", "TRAIN.EMA", 0.0), resume=True)
    assert load_checkpoint(folder / "last.pt")["epoch"] == 2


def test_a_length_in_steps_ends_within_an_epoch_and_goes_on_exactly(small, after_step):
    words = ["TRAIN.STEPS", 8, "TRAIN.SCHEDULE.NAME", "poly", "TRAIN.SCHEDULE.MILESTONES", [], "TRAIN.EPOCHS", 210]
    folder = run_train(small("whole", *words))
    assert [step for step, _ in steps_of(folder)] == list(range(8))
    assert load_checkpoint(folder / "last.pt")["epoch"] == 2
    tests = [line["step"] for line in lines(folder / "metrics.jsonl") if "test" in line]
    assert tests[-1] == 7
    after_step(6, terminate)
    with pytest.raises(Interrupted):
        run_train(small("part", *words))
    again = run_train(small("part", *words), resume=True)
    assert steps_of(again) == steps_of(folder)
    assert same(load_checkpoint(again / "last.pt")["model"], load_checkpoint(folder / "last.pt")["model"])


def test_a_folder_with_a_best_but_no_last_checkpoint_is_left_alone(small):
    folder = run_train(small("run", "TRAIN.EPOCHS", 1))
    (folder / "last.pt").unlink()
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"holds best\.pt but no last\.pt"):
            run_train(small("run"), resume=resume)
    assert (folder / "best.pt").exists()
