import copy
import json

import numpy as np
import pytest

from psa_pose.evaluation.coco_ap import STATS, Predictions, keypoint_ap, to_results
from psa_pose.evaluation.oks import instance_scores, oks_nms, pairwise_oks
from psa_pose.evaluation.report import Evaluation, format_table
from psa_pose.skeleton import COCO

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
