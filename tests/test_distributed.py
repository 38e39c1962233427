"""What processes tell each other: who says what, in which order, and whose statistics are everybody's."""

import numpy as np
import pytest
import torch
from torch import nn

from psa_pose import distributed
from psa_pose.checkpoints import load_checkpoint
from psa_pose.data.build import build_test_sets
from psa_pose.evaluation.predict_set import predict_persons
from psa_pose.geometry import invert, transform_points
from psa_pose.skeleton import COCO
from psa_pose.tasks.pose import PoseTask
from psa_pose.training import step as training_step
from tests.processes import in_processes
from tests.runs import run_train

CPU = torch.device("cpu")


def talk():
    rank = distributed.rank()
    own = torch.tensor([float(rank), 10.0])
    mean = distributed.all_reduce_mean(own)
    norm = nn.BatchNorm1d(2)
    norm.running_mean.fill_(rank + 1.0)
    norm.num_batches_tracked.fill_(rank + 5)
    distributed.broadcast_buffers(norm)
    return {
        "rank": rank,
        "world": distributed.world_size(),
        "main": distributed.is_main(),
        "gathered": distributed.all_gather({"of": rank}),
        "told": distributed.broadcast("word" if rank == 0 else None),
        "mean": mean.tolist(),
        "own": own.tolist(),
        "greatest": distributed.all_reduce_max(7 - 3 * rank, CPU),
        "last": distributed.all_reduce_max(rank, CPU),
        "statistics": norm.running_mean.tolist(),
        "steps": int(norm.num_batches_tracked),
    }


def test_three_processes_agree(tmp_path):
    answers = in_processes(talk, tmp_path, 3)
    for rank, said in enumerate(answers):
        assert (said["rank"], said["world"], said["main"]) == (rank, 3, rank == 0)
        assert said["gathered"] == [{"of": 0}, {"of": 1}, {"of": 2}]
        assert said["told"] == "word"
        assert said["mean"] == [1.0, 10.0]
        assert said["own"] == [float(rank), 10.0]
        assert (said["greatest"], said["last"]) == (7, 2)
        assert (said["statistics"], said["steps"]) == ([1.0, 1.0], 5)


def test_alone_everything_is_its_own():
    values = torch.tensor([1.0, 2.0])
    assert distributed.all_gather("a") == ["a"]
    assert distributed.broadcast(3) == 3
    assert distributed.all_reduce_mean(values) is values
    assert distributed.all_reduce_max(4, CPU) == 4
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)


@pytest.fixture
def two_runs(tiny_config, tmp_path):
    """A config of a short training, and a function that trains it in two processes."""
    words = ["MODEL.WIDTH", 8, "MODEL.ATTENTION.NAME", "none", "TEST.FLIP", False, "TRAIN.EPOCHS", 1]
    words += ["TRAIN.BATCH_SIZE", 4, "TRAIN.OPTIMIZER.LR", 0.02, "TRAIN.SCHEDULE.WARMUP_STEPS", 0]
    words += ["TRAIN.OPTIMIZER.NAME", "sgd", "TEST.BATCH_SIZE", 3]

    def train(name, *more):
        cfg = tiny_config(*words, "OUTPUT_DIR", tmp_path / name, *more)
        folder = tmp_path / f"{name}_talk"
        folder.mkdir()
        return cfg, in_processes(lambda: _watched(cfg), folder)

    return train


def _watched(cfg):
    """A training in this process: each step's learning rate, and the statistics that are evaluated."""
    rates, evaluated = [], []
    update, evaluate = training_step.update_weights, PoseTask.evaluate

    def updated(state, *arguments):
        rates.append([group["lr"] for group in state.optimizer.param_groups])
        update(state, *arguments)

    def evaluating(self, model, *arguments):
        evaluated.append({k: v.clone() for k, v in model.state_dict().items()})
        result = evaluate(self, model, *arguments)
        evaluated[-1]["results"] = result.results
        return result

    training_step.update_weights, PoseTask.evaluate = updated, evaluating
    run_train(cfg)
    return {"rates": rates, "evaluated": evaluated}


def test_two_processes_evaluate_and_save_one_network(two_runs):
    cfg, (first, second) = two_runs("run", "TRAIN.OPTIMIZER.SCALE_LR_FROM", 16)
    # Linear scaling: two processes with 4 persons each are half of 16.
    assert {rate for rates in first["rates"] + second["rates"] for rate in rates} == {0.01}
    (one,), (other,) = first["evaluated"], second["evaluated"]
    assert one.pop("results") == other.pop("results")
    saved = load_checkpoint(f"{cfg.OUTPUT_DIR}/last.pt")["model"]
    for key, value in saved.items():
        # Running statistics of BatchNorm too, which each process collects from its own persons.
        assert torch.equal(one[key], value), key
        assert torch.equal(other[key], value), key
    assert len(load_checkpoint(f"{cfg.OUTPUT_DIR}/last.pt")["training"]["generators"]) == 2


class ByRow:
    """Answers that tell the row: a crop's joints are its row's number, and so are scores."""

    def __call__(self, batch):
        K = batch.joints.shape[1]
        rows = batch.rows.float()[:, None]
        joints = torch.stack([rows.expand(-1, K) * 0.5, torch.arange(K).expand(len(rows), -1) * 1.0], 2)
        return joints, (rows.expand(-1, K) + 1) / 100, torch.zeros(len(rows), K, 4, 4)


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0), (3, 2)])
def test_answers_are_put_to_their_persons_whoever_gave_them(tiny_config, tmp_path, processes, workers):
    cfg = tiny_config("TEST.BATCH_SIZE", 2, "LOADER.WORKERS", workers)
    (test_set,) = build_test_sets(cfg, COCO, "unbiased", lambda _: None, "detector")
    dataset = test_set.dataset

    def predict():
        predictions, _ = predict_persons(cfg, test_set, ByRow(), COCO, lambda _: None)
        return None if predictions is None else predictions.__dict__

    answers = in_processes(predict, tmp_path, processes) if processes > 1 else [predict()]
    assert answers[1:] == [None] * (processes - 1)
    found, persons = answers[0], dataset.persons
    rows = np.arange(len(dataset))
    assert found["image_ids"].tolist() == persons.image_ids[persons.image].tolist()
    assert found["box_scores"].tolist() == persons.scores.tolist()
    # Areas are of the padded boxes, as published.
    np.testing.assert_allclose(found["areas"], np.prod(dataset.regions, axis=1))
    np.testing.assert_allclose(found["keypoint_scores"], (rows[:, None] + 1) / 100 + np.zeros((1, 17)), rtol=1e-6)
    matrices = np.array([dataset[(0, row)].matrix for row in rows])
    crop = np.stack([0.5 * rows[:, None] + np.zeros((1, 17)), np.arange(17.0) + np.zeros((len(rows), 1))], 2)
    np.testing.assert_allclose(found["joints"], transform_points(crop, invert(matrices)), atol=1e-6)
