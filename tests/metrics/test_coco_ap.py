import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from psa_pose.benchmark.eval import fake_val2017
from psa_pose.errors import DataError
from psa_pose.evaluation.result import Evaluation, format_table
from psa_pose.files import json_bytes
from psa_pose.metrics.coco_ap import STATS, Predictions, keypoint_ap, to_results
from psa_pose.metrics.oks import instance_scores, oks_nms, pairwise_oks
from psa_pose.metrics.pycocotools_check import pycocotools_ap
from psa_pose.skeleton import COCO
from tests.metrics.cases import adversarial_case

SIGMAS = np.array(COCO.sigmas)


def truth_of(people) -> dict:
    return json.loads((people / "annotations/person_keypoints_val2017.json").read_text())


def test_the_truth_scores_one_and_nothing_scores_zero(people):
    truth = truth_of(people)
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in truth["annotations"]
        if a["num_keypoints"] and not a["iscrowd"]
    ]
    before = copy.deepcopy(truth)
    stats = keypoint_ap(truth, results, SIGMAS)
    assert tuple(stats) == STATS
    assert {stats[name] for name in ("AP", "AP50", "AP75", "AR")} == {1.0}
    assert truth == before
    assert keypoint_ap(truth, [], SIGMAS)["AP"] == 0.0
    shifted = copy.deepcopy(results)
    for result in shifted:
        result["keypoints"] = [v + 40 if i % 3 == 0 else v for i, v in enumerate(result["keypoints"])]
    assert keypoint_ap(truth, shifted, SIGMAS)["AP"] < 0.2


def test_oks_of_two_persons_by_hand():
    joints = np.zeros((2, 17, 2))
    joints[1, :, 0] = 3
    by_hand = np.mean(np.exp(-9 / (2 * (2 * SIGMAS) ** 2 * (100 + 300) / 2)))
    oks = pairwise_oks(joints, np.array([100.0, 300.0]), SIGMAS)
    assert oks[0, 1] == pytest.approx(by_hand, rel=1e-12)
    assert oks[1, 0] == oks[0, 1]
    assert oks[0, 0] == 1


def test_nms_keeps_the_better_of_two_alike_and_all_that_differ():
    joints = np.zeros((4, 17, 2))
    joints[1] += 0.5
    joints[2] += 500
    joints[3] += 0.2
    kept = oks_nms(joints, np.array([0.3, 0.9, 0.1, 0.9]), np.full(4, 1e4), SIGMAS, 0.9)
    assert kept.tolist() == [1, 2]
    assert oks_nms(joints[:0], np.zeros(0), np.zeros(0), SIGMAS, 0.9).tolist() == []


def test_instance_score_is_box_score_times_the_mean_of_the_certain_keypoints():
    keypoints = np.array([[0.9, 0.5, 0.2, 0.1], [0.1, 0.1, 0.0, 0.2]])
    assert instance_scores(np.array([0.5, 1.0]), keypoints, 0.2).tolist() == pytest.approx([0.35, 0.0])


def test_results_hold_every_image_and_suppress_only_within_one():
    joints = np.zeros((3, 17, 2))
    predictions = Predictions(np.array([5, 2, 5]), np.array([0.4, 0.6, 0.8]), np.full(3, 1e4), joints, np.ones((3, 17)))
    results = to_results(predictions, SIGMAS, 0.2, 0.9)
    assert [(r["image_id"], r["score"]) for r in results] == [(2, 0.6), (5, 0.8)]
    assert all(len(r["keypoints"]) == 51 for r in results)
    empty = Predictions(*(a[:0] for a in (predictions.image_ids, predictions.box_scores, predictions.areas, joints)),
                        np.ones((0, 17)))  # fmt: skip
    assert to_results(empty, SIGMAS, 0.2, 0.9) == []


def test_the_table_names_its_protocol_and_aligns():
    stats = dict.fromkeys(STATS, 0.5) | {"APM": -1.0, "AP": 1.0}
    rows = [Evaluation(p, "val2017", True, 6352, 5000, stats) for p in ("ground_truth", "detector")]
    lines = format_table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == [
        "ground",
        "truth",
        "val2017",
        "yes",
        "6,352",
        "100.0",
        "50.0",
        "50.0",
        "-",
        "50.0",
        "50.0",
    ]
    assert lines[3].startswith("detector ")
    recalled = [rows[0], replace(rows[1], box_recall=0.977)]
    lines = format_table(recalled).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[-7] for line in lines[2:]] == ["-", "97.7"]
    assert [row.as_dict().get("box_recall") for row in recalled] == [None, 0.977]
    assert "box_recall" not in rows[0].as_dict()


@pytest.mark.parametrize("hundred", range(10))
def test_statistics_are_pycocotools_to_the_last_bit_on_adversarial_cases(hundred):
    for seed in range(100 * hundred, 100 * hundred + 100):
        truth, results = adversarial_case(seed)
        assert keypoint_ap(truth, results, SIGMAS) == pycocotools_ap(truth, results, SIGMAS), f"case {seed}"


def test_other_numbers_of_keypoints_are_scored_as_pycocotools_does():
    for K in (1, 5, 9, 133):
        sigmas = np.linspace(0.02, 0.1, K)
        for seed in range(10):
            truth, results = adversarial_case(seed, sigmas)
            assert keypoint_ap(truth, results, sigmas) == pycocotools_ap(truth, results, sigmas), f"{K}, case {seed}"


def test_statistics_are_pycocotools_on_synthetic_people(people):
    check_with_noise(people / "annotations/person_keypoints_val2017.json")


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_statistics_are_pycocotools_on_photographs(coco_mini, split):
    check_with_noise(coco_mini / f"annotations/person_keypoints_{split}.json")


def check_with_noise(file):
    truth = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    results = [
        {
            "image_id": a["image_id"],
            "category_id": 1,
            "keypoints": (np.array(a["keypoints"]) + rng.normal(size=51) * spread).tolist(),
            "score": round(rng.random(), 1),
        }
        for a in truth["annotations"]
        for spread in (1, 4, 12)
    ]
    stats = keypoint_ap(truth, results, SIGMAS)
    assert stats == pycocotools_ap(truth, results, SIGMAS)
    assert 0 < stats["AP"] < 1


def test_a_large_evaluation_written_and_read_back_is_the_same():
    truth, predictions = fake_val2017(COCO, share=0.02)
    results = to_results(predictions, SIGMAS, 0.2, 0.9)
    stats = keypoint_ap(truth, results, SIGMAS)
    assert stats == pycocotools_ap(truth, results, SIGMAS)
    assert 0.5 < stats["AP"] < 0.8
    assert keypoint_ap(truth, json.loads(json_bytes(results)), SIGMAS) == stats
    exact = [
        r | {"keypoints": np.concatenate([j, s[:, None]], 1).ravel().tolist()}
        for r, j, s in _unrounded(predictions, results)
    ]
    assert keypoint_ap(truth, exact, SIGMAS)["AP"] == pytest.approx(stats["AP"], abs=2e-4)


def _unrounded(predictions, results):
    row_of = {(i, tuple(j.round(2).ravel())): n for n, (i, j) in enumerate(
        zip(predictions.image_ids.tolist(), predictions.joints, strict=True))}  # fmt: skip
    for result in results:
        joints = np.array(result["keypoints"]).reshape(-1, 3)[:, :2]
        row = row_of[result["image_id"], tuple(joints.ravel())]
        yield result, predictions.joints[row], predictions.keypoint_scores[row]


def test_suppression_of_all_images_at_once_is_that_of_each_by_itself():
    rng = np.random.default_rng(0)
    images = rng.integers(12, size=300)
    centres = rng.uniform(0, 400, (300, 1, 2))
    centres[100:] = centres[rng.integers(100, size=200)]
    joints = centres + rng.normal(size=(300, 17, 2)) * rng.choice([0.5, 3, 9], (300, 1, 1))
    scores, areas = rng.choice(np.linspace(0, 1, 20), 300), rng.uniform(1e3, 5e4, 300)
    kept = []
    for image in range(12):
        rows = np.flatnonzero(images == image)
        kept += rows[_greedy(joints[rows], scores[rows], areas[rows])].tolist()
    assert oks_nms(joints, scores, areas, SIGMAS, 0.8, images).tolist() == kept
    assert 150 < len(kept) < 290


def _greedy(joints, scores, areas):
    similar = pairwise_oks(joints, areas, SIGMAS) > 0.8
    kept = []
    for row in np.argsort(-scores, kind="stable"):
        if not similar[row, kept].any():
            kept.append(row)
    return kept


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, r: t["annotations"][0].update(id=0), "number them from 1"),
        (lambda t, r: t["annotations"][0].update(id=t["annotations"][1]["id"]), "repeat"),
        (lambda t, r: t["annotations"][0].update(category_id=2), "several categories"),
        (lambda t, r: r[0].update(category_id=3), "category 3, annotations of category 1"),
        (lambda t, r: r[0].update(image_id=-5), "different splits"),
        (lambda t, r: r[0].update(keypoints=[1.0] * 50), "51 numbers"),
        (lambda t, r: r[0].update(score=float("nan")), "not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(people, change, words):
    truth = truth_of(people)
    results = [{"image_id": truth["images"][0]["id"], "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}]
    change(truth, results)
    with pytest.raises(DataError, match=words):
        keypoint_ap(truth, results, SIGMAS)
