"""What a step does to weights, and what is restored of a run, piece by piece."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from psa_pose.data.loader import ShuffledBatches
from psa_pose.errors import CheckpointError, PsaPoseError
from psa_pose.training.ema import ModelEma
from psa_pose.training.monitor import Exchange, StepRecord, check_finite
from psa_pose.training.optimizer import load_optimizer
from psa_pose.training.output_dir import clean_output_dir, epoch_file, prune_checkpoints
from psa_pose.training.resume import Progress, restore_state, trained_weights, training_state
from psa_pose.training.step import NormCounters, TrainState, forward_and_backward, train_step, update_weights


class Squares:
    """A task: outputs against targets, a mean over samples."""

    def __init__(self, cfg):
        self.cfg = cfg

    def images(self, batch):
        return batch[0]

    def targets(self, batch):
        return (batch[1],)

    def loss_size(self, targets):
        return len(targets[0])

    def loss(self, outputs, targets, size):
        return (outputs - targets[0]).square().sum() / size


def make_state(lr_scales=(1.0, 1.0), scale=0.0, ema=0.0, lr=0.5):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    groups = [{"params": [p], "lr_scale": s} for p, s in zip(model.parameters(), lr_scales, strict=True)]
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale > 0)
    optimizer = torch.optim.SGD(groups, lr=lr)
    return TrainState(model, model, [], optimizer, scaler, ModelEma(model, ema) if ema else None)


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 3, generator=generator), torch.randn(7, 2, generator=generator)


def plain_gradients(state):
    weight, bias = (p.detach().clone().requires_grad_() for p in state.model.parameters())
    images, wanted = batch()
    loss = ((images @ weight.T + bias - wanted) ** 2).sum() / 7
    return loss.detach(), torch.autograd.grad(loss, (weight, bias))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("scale", [0.0, 1024.0])
def test_the_gradient_is_that_of_the_batch_in_any_number_of_parts_and_scale(tiny_config, parts, scale):
    state = make_state(scale=scale)
    loss, gradients = plain_gradients(state)
    got = forward_and_backward(Squares(tiny_config()), state, batch()[0], (batch()[1],), "fp32", parts)
    torch.testing.assert_close(got, loss)
    for p, gradient in zip(state.model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad / (scale or 1), gradient)


@pytest.mark.parametrize("scale", [0.0, 1024.0])
@pytest.mark.parametrize("clip", [0.0, 0.25, 1e6])
def test_a_step_follows_the_gradient_of_this_batch_alone_at_each_groups_rate(tiny_config, scale, clip):
    cfg = tiny_config("TRAIN.CLIP_GRAD_NORM", clip, "TRAIN.ACCUMULATE", 2)
    state = make_state((1.0, 0.1), scale, ema=0.9)
    average = [p.detach().clone() for p in state.model.parameters()]
    for step in range(3):
        loss, gradients = plain_gradients(state)
        norm = torch.sqrt(sum(g.square().sum() for g in gradients))
        factor = min(1.0, clip / norm.item()) if clip else 1.0
        before = [p.detach().clone() for p in state.model.parameters()]
        got, targets = train_step(Squares(cfg), state, batch(), step, lr=0.02)
        torch.testing.assert_close(got, loss)
        assert torch.equal(targets[0], batch()[1])
        decay = min(0.9, (1 + step) / (10 + step))
        for i, (p, b, gradient, rate) in enumerate(
            zip(state.model.parameters(), before, gradients, (0.02, 0.002), strict=True)
        ):
            torch.testing.assert_close(p.detach(), b - rate * factor * gradient, rtol=1e-5, atol=1e-6)
            average[i] = decay * average[i] + (1 - decay) * p.detach()
            torch.testing.assert_close(list(state.ema.model.parameters())[i], average[i])


def test_no_group_learns_at_less_than_the_least_rate(tiny_config):
    state = make_state((1.0, 0.1))
    train_step(Squares(tiny_config("TRAIN.SCHEDULE.MIN_LR", 0.005)), state, batch(), 0, lr=0.02)
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.02, 0.005]


def test_a_gradient_that_overflows_moves_nothing_and_lowers_the_scale():
    state = make_state(scale=1024.0)
    before = [p.detach().clone() for p in state.model.parameters()]
    for p in state.model.parameters():
        p.grad = torch.full_like(p, float("inf"))
    state.scaler.scale(torch.zeros(()))
    update_weights(state, 0, 1.0)
    assert all(torch.equal(p, b) for p, b in zip(state.model.parameters(), before, strict=True))
    assert state.scaler.get_scale() == 512


def test_frozen_modules_alone_stay_in_evaluation_mode():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)), nn.Dropout())
    state = TrainState(model.eval(), model, [model[1]], None, None, None)
    state.train_mode()
    assert [m.training for m in model.modules()] == [True, True, False, False, False, True]
    assert state.evaluated is model


def test_batches_are_counted_for_all_norms_at_once_but_for_frozen_ones_and_those_that_need_their_counter():
    model = nn.Sequential(*(nn.BatchNorm1d(3) for _ in range(4)), nn.BatchNorm1d(3, momentum=None))
    model.append(nn.BatchNorm1d(3, track_running_stats=False))
    model[1].eval()
    plain = copy.deepcopy(model)
    counters, launches = NormCounters(model), []
    x = torch.randn(5, 3)
    for _ in range(3):
        with Launches() as launched, counters.counted():
            model(x)
        plain(x)
        launches.append(launched.names)
    assert [name for names in launches for name in names if "add_" in name] == 3 * ["add_", "_foreach_add_"]
    for (key, value), expected in zip(model.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(value, expected), key


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_an_epochs_short_last_batch_and_the_counters_recompile_nothing(tiny_config, frozen):
    from torch._dynamo.testing import CompileCounter

    compiled = CompileCounter()
    state = make_state()
    model = nn.Sequential(state.model, nn.BatchNorm1d(2))
    network = torch.compile(model, backend=compiled, dynamic=False)
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "lr_scale": 1.0}], lr=0.1)
    norms = [model[1]] if frozen else []
    state = TrainState(model, network, norms, optimizer, state.scaler, None, NormCounters(model))
    state.train_mode()
    images, wanted = batch()
    task = Squares(tiny_config("TRAIN.BATCH_SIZE", 7))
    for step, size in enumerate((7, 7, 3, 7, 3, 7)):
        train_step(task, state, (images[:size], wanted[:size]), step, 0.01)
    assert compiled.frame_count == 1
    assert model[1].num_batches_tracked == (0 if frozen else 6)


class Launches(TorchDispatchMode):
    """The names of the operations that are launched meanwhile."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_the_average_takes_three_launches_however_deep_the_network_is():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(5)))
    average = ModelEma(model, 0.5)
    with Launches() as launched:
        average.update(100)
    assert launched.names == ["_foreach_lerp_", "_foreach_copy_", "_foreach_copy_"]


def test_scaler_generators_best_and_place_are_restored(tmp_path):
    batches = ShuffledBatches(20, 4, 0)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scaler.scale(torch.zeros(()))
    torch.manual_seed(5)
    torch.rand(3)
    training = training_state(Progress(3, 2, 0.4), batches, None, scaler)
    expected = torch.rand(4)
    torch.manual_seed(9)
    fresh = torch.amp.GradScaler("cpu", init_scale=2.0)
    fresh.scale(torch.zeros(()))
    progress = restore_state({"epoch": 3, "best": 0.4, "training": training}, batches, fresh, tmp_path)
    assert torch.equal(torch.rand(4), expected)
    assert fresh.get_scale() == 64.0
    assert progress == Progress(3, 2, 0.4)
    # In the middle of an epoch data and effective batch must be the same, at its start they need not.
    for other in (ShuffledBatches(20, 2, 0), ShuffledBatches(21, 4, 0)):
        with pytest.raises(CheckpointError, match="go on with the same data"):
            restore_state({"epoch": 3, "best": 0.4, "training": training}, other, fresh, tmp_path)
        restore_state({"epoch": 3, "best": 0.4, "training": {**training, "step": 0}}, other, fresh, tmp_path)
    same = ShuffledBatches(20, 2, 0, 1, 2)
    assert restore_state({"epoch": 3, "best": 0.4, "training": training}, same, fresh, tmp_path).step == 2
    for step in (-1, 6):
        with pytest.raises(CheckpointError):
            restore_state({"epoch": 3, "best": 0.4, "training": {**training, "step": step}}, batches, fresh, tmp_path)


def test_the_optimiser_works_on_the_trained_weights_not_on_their_average():
    trained, average = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    assert trained_weights({"model": average, "training": {"trained": trained}}) is trained
    assert trained_weights({"model": average, "training": {"trained": None}}) is average
    assert trained_weights({"model": average, "training": None}) is average


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_an_optimisers_state_is_restored_and_its_options_are_the_configs(tiny_config, tmp_path, name):
    cfg = tiny_config("TRAIN.OPTIMIZER.NAME", name)

    def make(decay, scale):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.rand(2, 2))
        kind = torch.optim.Adam if name == "adam" else torch.optim.SGD
        more = {} if name == "adam" else {"momentum": 10 * decay}
        return parameter, kind([{"params": [parameter], "weight_decay": decay, "lr_scale": scale}], lr=0.1, **more)

    parameter, optimizer = make(0.01, 1.0)
    parameter.square().sum().backward()
    optimizer.step()
    other, again = make(0.02, 0.5)
    load_optimizer(cfg, again, optimizer.state_dict(), tmp_path)
    held, wanted = again.state[other], optimizer.state[parameter]
    assert held.keys() == wanted.keys()
    assert all(torch.equal(held[key], wanted[key]) for key in held)
    assert (again.param_groups[0]["weight_decay"], again.param_groups[0]["lr_scale"]) == (0.02, 0.5)
    if name == "sgd":
        assert again.param_groups[0]["momentum"] == 0.2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 14))
def test_the_newest_checkpoints_of_epochs_are_kept(tmp_path_factory, epochs, keep):
    folder = tmp_path_factory.mktemp("epochs")
    for epoch in range(9_995, 9_995 + epochs):
        (folder / epoch_file(epoch)).touch()
    (folder / "last.pt").touch()
    prune_checkpoints(folder, keep)
    newest = list(range(9_995, 9_995 + epochs))[max(0, epochs - keep) :]
    assert {p.name for p in folder.iterdir()} == {"last.pt", *map(epoch_file, newest)}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2), st.integers(0, 4))
def test_what_was_logged_after_the_checkpoint_is_forgotten(tmp_path_factory, epoch, step):
    """Epochs of 4 steps; the losses of a step, and what is said of a whole epoch under its last step."""
    folder = tmp_path_factory.mktemp("log")
    lines = []
    for number in range(12):
        lines.append({"step": number, "train": {"loss": 0.5}})
        if number % 4 == 3:
            lines += [{"step": number, "speed": {}}, {"step": number, "test": {}}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3')
    records = "".join(json.dumps({"step": n, "records": []}) + "\n" for n in range(12))
    for rank in (0, 1):
        (folder / f"records.{rank}.jsonl").write_text(records)
    (folder / ".last.pt.123").touch()
    (folder / ".config.yaml.77").touch()
    clean_output_dir(folder, Progress(epoch, step, 0.1), 4)
    done = 4 * epoch + step
    kept = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in kept if "train" in line] == list(range(done))
    # An epoch that is not counted as complete is still to be evaluated.
    assert [line["step"] for line in kept if "test" in line] == [4 * e + 3 for e in range(epoch)]
    assert [line["step"] for line in kept if "speed" in line] == [4 * e + 3 for e in range(epoch)]
    for rank in (0, 1):
        assert len((folder / f"records.{rank}.jsonl").read_text().splitlines()) == done
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("spoiled", ["loss", "weight", "nothing"])
def test_losses_and_weights_that_are_not_finite_end_the_run_and_name_their_samples(tmp_path, spoiled):
    model = nn.Linear(2, 2)
    records = [StepRecord(n, 0.1, torch.tensor(1.0), torch.tensor([n, n + 1])) for n in range(3)]
    if spoiled == "loss":
        records[1] = records[1]._replace(loss=torch.tensor(float("inf")))
    if spoiled == "weight":
        with torch.no_grad():
            model.bias[1] = float("nan")
    ids = np.arange(100, 110)
    exchange = Exchange(model, torch.device("cpu"))
    exchange.send(records, [], 0)
    told = exchange.receive()
    assert exchange.receive() is None
    assert (told.finite, told.signal, told.any_problem) == (spoiled != "weight", 0, False)
    # A loss that overflows in fp16 is the gradient scaler's business; a weight is nobody's.
    if spoiled != "weight":
        check_finite(told, ids, tmp_path / "out.json", scaled=True)
    if spoiled == "nothing":
        check_finite(told, ids, tmp_path / "out.json")
        assert not list(tmp_path.iterdir())
        return
    with pytest.raises(PsaPoseError, match="not finite"):
        check_finite(told, ids, tmp_path / "out.json", scaled=spoiled == "weight")
    told = json.loads((tmp_path / "out.json").read_text())
    wanted = [1] if spoiled == "loss" else [0, 1, 2]
    assert [(row["step"], row["records"]) for row in told] == [(n, [100 + n, 101 + n]) for n in wanted]
