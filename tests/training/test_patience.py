"""Early stopping, and the figures of a run as a table for a spreadsheet."""

import csv
from pathlib import Path

import pytest

from psa_pose.checkpoints import load_checkpoint
from psa_pose.run_log import RunLog, write_metrics_csv
from psa_pose.training import loop
from psa_pose.training import step as training_step
from tests.runs import json_lines, run_train

WORDS = ("TRAIN.EVAL_EVERY", 1, "TRAIN.EPOCHS", 7, "MODEL.ATTENTION.NAME", "none", "TEST.FLIP", False)


@pytest.fixture
def scores(monkeypatch):
    """A function: the scores that the epochs are to have, whatever their network answers."""
    evaluate = loop._evaluate

    def arrange(*wanted):
        def scored(run, step):
            evaluate(run, step)
            return wanted[step // run.steps_per_epoch]

        monkeypatch.setattr(loop, "_evaluate", scored)

    return arrange


class Killed(Exception):
    """Stands for a kill."""


def epochs_of(folder: Path) -> list[int]:
    return sorted({line["train"]["epoch"] for line in json_lines(folder / "metrics.jsonl") if "train" in line})


@pytest.mark.slow
def test_it_stops_after_so_many_evaluations_without_a_better_score(tiny_config, scores, monkeypatch):
    # An equal score is no better one; the second record begins the count anew.
    scores(0.1, 0.1, 0.3, 0.2, 0.3, 0.2, 0.4)
    cfg = tiny_config(*WORDS, "TRAIN.PATIENCE", 2)
    update = training_step.update_weights

    def killed(state, step, *options):
        update(state, step, *options)
        if step == 17:
            raise Killed

    # Killed in the fifth epoch, with one evaluation counted.
    monkeypatch.setattr(training_step, "update_weights", killed)
    with pytest.raises(Killed):
        run_train(cfg)
    monkeypatch.setattr(training_step, "update_weights", update)
    folder = run_train(cfg, resume=True)
    last, best = load_checkpoint(folder / "last.pt"), load_checkpoint(folder / "best.pt")
    assert (last["epoch"], last["best"], last["training"]["stale"]) == (5, 0.3, 2)
    assert (best["epoch"], best["training"]["stale"]) == (3, 0)
    assert epochs_of(folder) == [0, 1, 2, 3, 4]
    said = "stopped after 5 of 7 epochs: 2 evaluations without a better score than 30.0 (TRAIN.PATIENCE is 2)"
    assert said in (folder / "log.txt").read_text()
    assert (folder / "final.safetensors").exists()
    # It has ended; with more patience it goes on.
    run_train(cfg, resume=True)
    assert epochs_of(folder) == [0, 1, 2, 3, 4]
    run_train(tiny_config(*WORDS, "TRAIN.PATIENCE", 4), resume=True)
    assert epochs_of(folder) == [0, 1, 2, 3, 4, 5, 6]
    assert load_checkpoint(folder / "best.pt")["epoch"] == 7


def test_a_run_out_of_patience_ends_and_leaves_a_table_of_its_epochs(tiny_config, scores):
    scores(0.2, 0.1)
    folder = run_train(tiny_config(*WORDS, "TRAIN.PATIENCE", 1))
    lines = json_lines(folder / "metrics.jsonl")
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for number, row in enumerate(rows):
        steps = [line for line in lines if line.get("train", {}).get("epoch") == number]
        losses = [line["train"]["loss"] for line in steps]
        assert float(row["loss"]) == pytest.approx(sum(losses) / len(losses), rel=1e-12)
        assert (float(row["lr"]), int(row["step"])) == (steps[-1]["train"]["lr"], steps[-1]["step"])
    tests = [str(line["test"]["ground_truth"]["AP"]) for line in lines if "test" in line]
    assert [row["test/ground_truth/AP"] for row in rows] == tests
    assert all(float(row["speed/persons_per_second"]) > 0 for row in rows)


def test_an_epoch_without_an_evaluation_has_a_row_too(tmp_path):
    with RunLog(tmp_path) as log:
        for step in range(4):
            log.metrics(step, train={"loss": 4.0 - step, "lr": 0.1, "epoch": step // 2})
        log.metrics(3, test={"ground_truth": {"AP": 0.5}})
    write_metrics_csv(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == (
        "epoch,step,loss,lr,test/ground_truth/AP\n1,1,3.5,0.1,\n2,3,1.5,0.1,0.5\n"
    )


def test_steps_without_a_loss_do_not_count_in_the_mean(tmp_path):
    with RunLog(tmp_path) as log:
        for step, loss in enumerate([None, 3.0, None, None]):
            log.metrics(step, train={"loss": loss, "lr": 0.1, "epoch": step // 2})
    write_metrics_csv(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step,loss,lr\n1,1,3.0,0.1\n2,3,,0.1\n"
