"""What recipes add: each by what it does to weights, gradients and losses."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from psa_pose.checkpoints import load_checkpoint
from psa_pose.data.loader import DataTimer
from psa_pose.device import autocast, check_device
from psa_pose.errors import ConfigError
from psa_pose.models import build_model
from psa_pose.training import step as training_step
from psa_pose.training.ema import ModelEma
from psa_pose.training.optimizer import base_lr, build_schedule
from psa_pose.training.setup import freeze
from tests.runs import run_train

SMALL = [
    *("MODEL.WIDTH", 8, "MODEL.ATTENTION.NAME", "none", "TRAIN.EPOCHS", 1, "TEST.FLIP", False),
    *("TRAIN.OPTIMIZER.NAME", "sgd", "TRAIN.SCHEDULE.WARMUP_STEPS", 0, "TRAIN.OPTIMIZER.LR", 1e-2),
]


@pytest.fixture
def small(tiny_config, tmp_path):
    return lambda name, *words: tiny_config(*SMALL, "OUTPUT_DIR", tmp_path / name, *words)


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["train"]["loss"] for line in lines if "train" in line]


def test_parts_of_a_batch_give_the_gradient_of_the_whole(small):
    frozen = ["TRAIN.FREEZE_BATCHNORM", True]
    whole = run_train(small("whole", *frozen))
    # 8 persons in 3 parts are not equally many.
    parts = run_train(small("parts", *frozen, "TRAIN.ACCUMULATE", 3))
    torch.testing.assert_close(losses(parts), losses(whole), rtol=1e-5, atol=0)
    a, b = (load_checkpoint(folder / "last.pt")["model"] for folder in (whole, parts))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_long_gradient_is_cut(small, monkeypatch):
    update, moved = training_step.update_weights, []

    def watched(state, *arguments):
        before = [p.detach().clone() for p in state.model.parameters()]
        update(state, *arguments)
        steps = [(p.detach() - b).flatten() for p, b in zip(state.model.parameters(), before, strict=True)]
        moved.append(torch.cat(steps).norm().item())

    monkeypatch.setattr(training_step, "update_weights", watched)
    run_train(small("cut", "TRAIN.CLIP_GRAD_NORM", 1e-3, "TRAIN.OPTIMIZER.MOMENTUM", 0.0))
    assert moved == pytest.approx([1e-5] * len(moved), rel=0.05)


def test_frozen_modules_stay_as_they_are_with_their_statistics(small):
    cfg = small("frozen", "TRAIN.FREEZE", "conv1, bn1,layer1", "TRAIN.OPTIMIZER.NAME", "adam")
    torch.manual_seed(cfg.SEED)
    before = build_model(cfg).state_dict()
    after = load_checkpoint(run_train(cfg) / "last.pt")["model"]
    for key in before:
        frozen = key.startswith(("conv1.", "bn1.", "layer1."))
        assert torch.equal(before[key], after[key]) == frozen, key


def test_a_wrong_prefix_is_named_with_the_nearest(small):
    cfg = small("x", "TRAIN.FREEZE", "layer1.0.conv3")
    with pytest.raises(ConfigError, match=r"'layer1.0.conv3'.*did you mean 'layer1.0.conv\d'"):
        freeze(cfg, build_model(cfg))
    everything = ",".join(name for name, _ in build_model(cfg).named_children())
    cfg = small("x", "TRAIN.FREEZE", everything)
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        freeze(cfg, build_model(cfg))


def test_the_average_follows_the_weights_slower_and_slower():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = ModelEma(model, 0.5)
    value = model[0].weight.item()
    for step in range(20):
        with torch.no_grad():
            model[0].weight.add_(1)
            model[1].running_mean.add_(1)
        decay = min(0.5, (1 + step) / (10 + step))
        value = decay * value + (1 - decay) * model[0].weight.item()
        average.update(step)
    assert average.model[0].weight.item() == pytest.approx(value)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)


def test_the_cosine_falls_from_the_rate_to_nothing(small):
    cfg = small("x", "TRAIN.SCHEDULE.NAME", "cosine", "TRAIN.EPOCHS", 4, "TRAIN.OPTIMIZER.LR", 0.5)
    rates = list(map(build_schedule(cfg, 0.5, steps_per_epoch=10), (0, 10, 20, 40)))
    assert rates == pytest.approx([0.5, 0.25 + 0.125 * 2**0.5, 0.25, 0], abs=1e-12)


def test_the_rate_is_scaled_only_where_that_is_asked_for(small):
    assert base_lr(small("x"), 256) == 1e-2
    assert base_lr(small("x", "TRAIN.OPTIMIZER.SCALE_LR_FROM", 32), 256) == pytest.approx(8e-2)


def test_bf16_trains_and_evaluates_close_to_fp32(small):
    full = run_train(small("fp32"))
    half = run_train(small("bf16", "TRAIN.PRECISION", "bf16", "TEST.PRECISION", "bf16"))
    assert losses(half) != losses(full)
    torch.testing.assert_close(losses(half), losses(full), rtol=0.02, atol=0)
    dtypes = {value.dtype for value in load_checkpoint(half / "last.pt")["model"].values()}
    assert dtypes == {torch.float32, torch.int64}
    assert "computing on 1 CPU thread: bf16, channels-last" in (half / "log.txt").read_text()


def test_precision_is_a_context_or_nothing():
    a = torch.ones(2, 2)
    with autocast("fp32", torch.device("cpu")):
        assert (a @ a).dtype == torch.float32
    with autocast("bf16", torch.device("cpu")):
        assert (a @ a).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["TRAIN.SYNC_BATCHNORM", True], "TRAIN.SYNC_BATCHNORM needs GPUs"),
        (["TEST.PRECISION", "fp16", "DEVICE", "auto"], "TEST.PRECISION is 'fp16' but the device is a cpu"),
    ],
)
def test_what_a_cpu_cannot_do_is_said(small, words, says):
    with pytest.raises(ConfigError, match=says):
        check_device(small("x", *words), torch.device("cpu"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["TRAIN.PRECISION", "fp16"], "fp16 needs a GPU"),
        (["TRAIN.ACCUMULATE", 9], "no more parts than samples"),
        (["TRAIN.EMA", 1.0], "TRAIN.EMA is 1.0"),
    ],
)
def test_contradictions_are_found_in_the_config(small, words, says):
    with pytest.raises(ConfigError, match=says):
        small("x", *words)


def test_the_clock_counts_the_time_of_the_loader(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("psa_pose.data.loader.time.perf_counter", lambda: now[0])

    def batches():
        for number in range(3):
            now[0] += 1
            yield number

    clock = DataTimer()
    for _ in clock.wrap(batches()):
        now[0] += 3
    assert (clock.seconds, clock.share) == (12, 0.25)


def test_gates_of_attention_are_logged_at_an_evaluation(small):
    folder = run_train(small("psa", "MODEL.ATTENTION.NAME", "psa_p"))
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    gates = next(line["gates"] for line in found if "gates" in line)
    assert len(gates) == 8
    assert all(value >= 0 for value in gates.values())
    speed = next(line["speed"] for line in found if "speed" in line)
    assert 0 <= speed["loading_share"] <= 1


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_eager_one(small, monkeypatch):
    # The whole way but for the code generation, which takes minutes on a CPU.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    eager, compiled = run_train(small("eager")), run_train(small("compiled", "TRAIN.COMPILE", True))
    torch.testing.assert_close(losses(compiled), losses(eager), rtol=1e-4, atol=0)
    keys = [load_checkpoint(folder / "last.pt")["model"].keys() for folder in (eager, compiled)]
    assert keys[0] == keys[1]


def test_a_width_that_crashes_is_refused(small):
    words = ["MODEL.CHANNELS_LAST", True, "MODEL.WIDTH", 8]
    check_device(small("x", *words), torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^MODEL\.WIDTH 7 with"):
        check_device(small("x", *words[:3], 7), torch.device("cpu"))
    torch.set_num_threads(2)
    try:
        with pytest.raises(ConfigError, match="CHANNELS_LAST false, or a width from 16"):
            check_device(small("x", *words), torch.device("cpu"))
        check_device(small("x", *words[:3], 16), torch.device("cpu"))
        check_device(small("x", "MODEL.CHANNELS_LAST", False, *words[2:]), torch.device("cpu"))
    finally:
        torch.set_num_threads(1)
