"""Which weights are evaluated and saved, when, at which rate, and which checkpoint is the best."""

import pytest
import torch
from torch import nn

from psa_pose.checkpoints import load_checkpoint
from psa_pose.evaluation.predict_set import EvalResult
from psa_pose.evaluation.result import Evaluation
from psa_pose.metrics.coco_ap import STATS
from psa_pose.tasks import build_task
from psa_pose.tasks.pose import PoseTask
from psa_pose.training import step as training_step
from psa_pose.training.saver import Saver
from psa_pose.training.setup import prepared_run
from tests.runs import run_train

SMALL = [
    *("MODEL.WIDTH", 8, "MODEL.ATTENTION.NAME", "none", "TEST.FLIP", False),
    *("TRAIN.BATCH_SIZE", 16, "INPUT.SIZE", [32, 32]),
    *("TRAIN.OPTIMIZER.LR", 0.01, "TRAIN.EVAL_EVERY", 1, "TRAIN.SCHEDULE.WARMUP_STEPS", 3),
]


@pytest.fixture
def small(tiny_config, tmp_path):
    return lambda *words: tiny_config(*SMALL, "OUTPUT_DIR", tmp_path / "run", *words)


@pytest.fixture
def watched(monkeypatch):
    """Lists that fill: weights after each step (and, first, before it), rates, weights at each evaluation, files.

    scores: what the evaluations answer, one after the other.
    """
    seen = {"weights": [], "rates": [], "evaluated": [], "saved": [], "scores": [0.1] * 9}
    update, save = training_step.update_weights, Saver.save

    def updated(state, *arguments):
        if not seen["weights"]:
            seen["weights"].append(copied(state.model))
        seen["rates"].append({group["lr"] for group in state.optimizer.param_groups})
        update(state, *arguments)
        seen["weights"].append(copied(state.model))

    def evaluating(self, model, test_set, *_):
        seen["evaluated"].append(copied(model.eval()))
        stats = dict.fromkeys(STATS, -1.0) | {"AP": seen["scores"][len(seen["evaluated"]) - 1]}
        evaluation = Evaluation(test_set.protocol, test_set.split, False, 1, 1, stats)
        return EvalResult(evaluation, [], test_set, self.skeleton, [], 0.2)

    def saving(self, content, name, *others):
        for each in (*others, name):
            seen["saved"].append((each, content["epoch"], content["training"]["step"], content["best"]))
        save(self, content, name, *others)

    monkeypatch.setattr(training_step, "update_weights", updated)
    monkeypatch.setattr(PoseTask, "evaluate", evaluating)
    monkeypatch.setattr(Saver, "save", saving)
    return seen


def copied(model) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def averaged(weights, decay) -> list[dict[str, torch.Tensor]]:
    """The moving average after each step: of parameters; what is no parameter is the model's own."""
    average, answer = weights[0], []
    for step, now in enumerate(weights[1:]):
        share = min(decay, (1 + step) / (10 + step))
        average = {
            key: value if "running" in key or "num_batches" in key else share * average[key] + (1 - share) * value
            for key, value in now.items()
        }
        answer.append(average)
    return answer


def test_the_average_is_evaluated_and_saved_and_the_trained_weights_go_on(small, watched):
    words = ["TRAIN.EMA", 0.5, "TRAIN.KEEP_EPOCHS", 2]
    run_train(small(*words, "TRAIN.EPOCHS", 1))
    # A run that goes on has both, the weights and their average.
    folder = run_train(small(*words), resume=True)
    weights, steps = watched["weights"], (len(watched["weights"]) - 1) // 2
    expected = averaged(weights, 0.5)
    close = {"rtol": 1e-4, "atol": 1e-7}
    torch.testing.assert_close(watched["evaluated"][0], expected[steps - 1], **close)
    torch.testing.assert_close(watched["evaluated"][1], expected[-1], **close)
    for name in ("last.pt", "final.safetensors", "epoch_0002.pt"):
        torch.testing.assert_close(load_checkpoint(folder / name)["model"], expected[-1], **close)
    torch.testing.assert_close(load_checkpoint(folder / "epoch_0001.pt")["model"], expected[steps - 1], **close)
    trained = load_checkpoint(folder / "last.pt")["training"]["trained"]
    assert all(torch.equal(trained[key], value) for key, value in weights[-1].items())
    assert not torch.equal(weights[-1]["conv1.weight"], expected[-1]["conv1.weight"])


def test_without_an_average_the_trained_weights_are_all_there_is(small, watched):
    folder = run_train(small("TRAIN.EPOCHS", 1))
    last = load_checkpoint(folder / "last.pt")
    for found in (watched["evaluated"][0], last["model"], load_checkpoint(folder / "final.safetensors")["model"]):
        for key, value in watched["weights"][-1].items():
            assert torch.equal(found[key], value), key
    assert last["training"]["trained"] is None


def test_the_best_is_the_first_of_equals_and_a_resumed_run_knows_it(small, watched):
    watched["scores"] = [0.3, 0.5, 0.5, 0.2, 0.4, 0.6]
    one_step = ["TRAIN.BATCH_SIZE", 32]
    folder = run_train(small("TRAIN.EPOCHS", 4, *one_step))
    best = load_checkpoint(folder / "best.pt")
    assert (best["epoch"], best["best"]) == (2, 0.5)
    assert (load_checkpoint(folder / "last.pt")["epoch"], load_checkpoint(folder / "last.pt")["best"]) == (4, 0.5)
    run_train(small("TRAIN.EPOCHS", 5, *one_step), resume=True)
    assert load_checkpoint(folder / "best.pt")["epoch"] == 2
    run_train(small("TRAIN.EPOCHS", 6, *one_step), resume=True)
    best = load_checkpoint(folder / "best.pt")
    assert (best["epoch"], best["best"]) == (6, 0.6)


def test_rates_evaluations_and_files_come_when_the_config_says(small, watched):
    watched["scores"] = [0.1, 0.2]
    words = ["TRAIN.EPOCHS", 3, "TRAIN.EVAL_EVERY", 2, "TRAIN.SAVE_EVERY", 3, "TRAIN.BATCH_SIZE", 7]
    run_train(small(*words, "TRAIN.SCHEDULE.MILESTONES", [1, 2], "TRAIN.SCHEDULE.GAMMA", 0.5))
    per_epoch = (len(watched["weights"]) - 1) // 3
    assert per_epoch == 4
    for step, rates in enumerate(watched["rates"]):
        factor = 0.5 ** (step // per_epoch) * min(1, (step + 1) / 4)
        assert list(rates) == pytest.approx([0.01 * factor])
    expected = []
    best = -1.0
    for epoch in range(3):
        for step in range(per_epoch - 1):
            if (epoch * per_epoch + step + 1) % 3 == 0:
                expected.append(("last.pt", epoch, step + 1, best))
        if epoch + 1 in (2, 3):
            expected.append(("last.pt", epoch, per_epoch, best))
            best = 0.1 * epoch
            expected.append(("best.pt", epoch + 1, 0, best))
        expected.append(("last.pt", epoch + 1, 0, best))
    assert [row[:3] for row in watched["saved"]] == [row[:3] for row in expected]
    assert [row[3] for row in watched["saved"]] == pytest.approx([row[3] for row in expected])


def test_what_the_config_asks_for_is_what_a_run_is_made_of(small):
    words = ["TRAIN.EMA", 0.7, "TRAIN.FREEZE_BATCHNORM", True, "LOADER.GROUP_IMAGES", True, "SEED", 5]
    words += ["TRAIN.OPTIMIZER.NAME", "sgd", "TRAIN.OPTIMIZER.MOMENTUM", 0.3, "TRAIN.OPTIMIZER.WEIGHT_DECAY", 0.02]
    cfg = small(*words, "TRAIN.STEPS", 11, "TRAIN.EPOCHS", 210, "TRAIN.BATCH_SIZE", 5)
    with prepared_run(build_task(cfg), None) as run:
        assert run.state.ema.decay == 0.7
        assert run.batches.groups.tolist() == run.dataset.persons.image.tolist()
        assert (run.batches.batch_size, run.batches.seed, run.dataset.seed) == (5, 5, 5)
        assert (run.total_steps, run.steps_per_epoch, run.epochs, run.steps_of(2)) == (11, 5, 3, 1)
        groups = run.state.optimizer.param_groups
        assert {group["momentum"] for group in groups} == {0.3}
        assert [group["weight_decay"] for group in groups] == [0.02, 0.0]
        assert {p.ndim >= 2 for p in groups[0]["params"]} == {True}
        assert {p.ndim >= 2 for p in groups[1]["params"]} == {False}
        run.state.train_mode()
        norms = [m for m in run.state.model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert not any(norm.training for norm in norms)
        assert all(norm.weight.requires_grad for norm in norms)
        assert run.state.model.training
    with prepared_run(
        build_task(small("TRAIN.OPTIMIZER.NAME", "adamw", "OUTPUT_DIR", cfg.OUTPUT_DIR + "2")), None
    ) as run:
        assert type(run.state.optimizer) is torch.optim.AdamW
        assert run.batches.groups is None
        assert run.state.ema is None
        run.state.train_mode()
        assert all(m.training for m in run.state.model.modules())
