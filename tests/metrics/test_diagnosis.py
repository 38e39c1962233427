import numpy as np
import pytest

from psa_pose.evaluation.examples import choose_examples
from psa_pose.evaluation.result import PUBLISHED, format_table, published_rows
from psa_pose.metrics.coco_ap import STATS
from psa_pose.metrics.diagnosis import _neighbours, _subsets, keypoint_rows, locate, subset_ap
from psa_pose.metrics.error_types import error_types
from psa_pose.metrics.matching import read_pairs
from psa_pose.metrics.protocol import guess_protocol, mixed_protocols
from psa_pose.skeleton import COCO
from tests.metrics.cases import adversarial_case, scene

SIGMAS = np.array(COCO.sigmas)
AREA = 10_000.0
# Distance at which a joint of a person of this area has the given similarity.


def away(similarity, sigma, area=AREA):
    return 2 * sigma * np.sqrt(-2 * area * np.log(similarity))


def body(seed, corner=(0, 0)):
    return np.random.default_rng(seed).uniform(0, 100, (17, 2)).round() + corner


def prepared(truth, results):
    return read_pairs(truth, results, SIGMAS)


def test_errors_of_joints_by_hand():
    truth, results = scene([(1, body(0), AREA), (2, body(1), AREA)], [(1, body(0) + np.array([3, 4]), 0.9)])
    truth["annotations"][0]["keypoints"][2] = 0
    located = locate(prepared(truth, results))
    rows = {row["keypoint"]: row for row in keypoint_rows(located, COCO.names)}
    assert located.rows.tolist() == [0, -1]
    expected = np.exp(-25 / (2 * AREA * (2 * SIGMAS) ** 2))
    assert located.oks[0] == pytest.approx(expected[1:].mean(), rel=1e-12)
    assert rows["left_hip"]["labelled"] == 2
    assert rows["left_hip"]["oks"] == pytest.approx(expected[11] / 2, rel=1e-12)
    assert rows["left_hip"]["median_px"] == 5
    assert rows["left_hip"]["median_of_size"] == 0.05
    side = np.ptp(body(0), axis=0).max()
    assert rows["left_hip"]["pck@0.05"] == (0.5 if side * 0.05 >= 5 else 0.0)
    assert rows["left_hip"]["pck@0.2"] == 0.5
    assert rows["nose"]["labelled"] == 1
    assert (rows["nose"]["oks"], rows["nose"]["median_px"]) == (0, None)


def test_crowding_counts_the_boxes_that_overlap():
    joints = np.array([[0, 0], [100, 100]] + [[50, 50]] * 15, float)
    people = [(1, joints, AREA), (1, joints + 20, AREA), (1, joints + 300, AREA), (2, joints, AREA)]
    pairs = prepared(*scene(people, []))
    assert _neighbours(pairs.truth).tolist() == [1, 1, 0, 0]
    rows = subset_ap(pairs)
    crowd = {row["group"]: row["persons"] for row in rows if row["by"].startswith("others")}
    assert crowd == {"0": 2, "1": 2, "2": 0, "3 or more": 0}
    assert {row["AP"] for row in rows if row["persons"]} == {0.0}
    assert {row["AP"] for row in rows if not row["persons"]} == {None}


def test_each_person_is_in_one_group_of_every_kind():
    for seed in range(30):
        pairs = prepared(*adversarial_case(seed))
        annotated = pairs.truth
        for groups in _subsets(pairs.truth, pairs.predicted).values():
            counted = sum((~group.left_out).astype(int) for group in groups)
            assert (counted == (~annotated.ignored & (counted > 0))).all()
            assert (counted[~annotated.ignored & (annotated.keypoints[..., 2] > 0).any(1)] == 1).all()


def test_every_kind_of_error_is_called_by_its_name_and_priced():
    nose, wrist, hip, knee, elbow = 0, 9, 11, 13, 7
    first, second = body(3), body(4, (150, 150))
    answer = first.copy()
    answer[nose] += [away(0.7, SIGMAS[nose]), 0]
    answer[wrist] = first[10]
    answer[hip] = second[hip]
    answer[knee] = [1000, 1000]
    answer[elbow] += [away(0.9, SIGMAS[elbow]), 0]
    people = [(1, first, AREA), (1, second, AREA), (2, body(5), AREA)]
    truth, results = scene(people, [(1, answer, 0.5), (1, second, 0.9), (1, body(6, (3000, 0)), 0.95)])
    located = locate(prepared(truth, results))
    taxonomy = error_types(located, COCO.flip_order)
    assert taxonomy.counts == {"good": 17 + 13, "jitter": 1, "inversion": 1, "swap": 1, "miss": 1}
    assert taxonomy.background.sum() == 1
    assert taxonomy.missed.tolist() == [False, False, True]
    assert all(gain >= 0 for gain in taxonomy.gains.values())
    assert taxonomy.gains["background"] > 0.2
    assert taxonomy.gains["missed persons"] > 0.1
    assert taxonomy.gains["miss"] > 0
    examples = choose_examples(located, taxonomy, 2, 4)
    assert [e.truth for e in examples.pop("Worst persons")] == [2, 0]
    examples.pop("Examples: score")
    assert {heading.removeprefix("Examples: "): len(rows) for heading, rows in examples.items()} == dict.fromkeys(
        ["jitter", "inversion", "swap", "miss", "background", "missed persons"], 1
    )


def test_an_order_of_the_scores_that_is_wrong_is_shown():
    people = [(i, body(i), AREA) for i in (1, 2, 3)]
    answers = [(1, body(1) + 9.0, 0.9), (2, body(2) + 1.0, 0.5), (3, body(3), 0.4), (3, body(3, (9000, 0)), 0.95)]
    located = locate(prepared(*scene(people, answers)))
    taxonomy = error_types(located, COCO.flip_order)
    examples = choose_examples(located, taxonomy, 1, 2)["Examples: score"]
    assert {e.truth for e in examples} == {0, 2}
    assert all("place" in e.caption and "of 3" in e.caption for e in examples)
    assert taxonomy.gains["score"] > 0


def test_a_perfect_answer_has_no_errors_and_nothing_to_gain():
    truth, results = scene([(i, body(i), AREA) for i in range(1, 5)], [(i, body(i), i / 10) for i in range(1, 5)])
    taxonomy = error_types(locate(prepared(truth, results)), COCO.flip_order)
    assert taxonomy.ap == 1
    assert set(taxonomy.gains.values()) == {0.0}
    assert taxonomy.counts == {"good": 68, "jitter": 0, "inversion": 0, "swap": 0, "miss": 0}


def test_diagnosis_survives_adversarial_cases():
    for seed in range(60):
        pairs = prepared(*adversarial_case(seed))
        taxonomy = error_types(locate(pairs), COCO.flip_order)
        annotated = pairs.truth
        labelled = (annotated.keypoints[..., 2] > 0) & ~annotated.ignored[:, None]
        assert sum(taxonomy.counts.values()) == labelled[~taxonomy.missed].sum()
        subset_ap(pairs)


def test_the_fingerprint_tells_the_published_rows_apart():
    complete = [(p, v) for _, p, v in PUBLISHED if None not in v]
    assert len(complete) == 8
    for protocol, values in complete:
        stats = dict.fromkeys(STATS, -1.0) | {n: v / 100 for n, v in zip(STATS[:6], values, strict=True)}
        assert guess_protocol(stats) == protocol
    stats = dict.fromkeys(STATS, 0.7)
    assert guess_protocol(stats | {"AR": 0.74}) is None
    assert guess_protocol(stats | {"APM": -1.0}) is None
    truth_like = stats | {"AR": 0.73, "APL": 0.78}
    detector_like = stats | {"AR": 0.75, "APL": 0.81}
    assert "first looks like ground truth" in mixed_protocols(truth_like, detector_like)
    assert mixed_protocols(truth_like, truth_like) is None
    assert mixed_protocols(truth_like, stats | {"AR": 0.74}) is None


# AP, APM, APL, AR of the PSA paper's Table 2 (384x288) with PSA, and of the baselines printed beside them.
WITH_PSA = ((76.5, 73.2, 81.0, 79.0), (78.0, 75.2, 82.3, 80.5), (78.7, 75.6, 83.5, 81.1), (78.9, 75.8, 83.8, 81.4))
BESIDE = ((72.2, 68.1, 79.7, 77.6), (74.3, 70.5, 81.6, 79.7), (75.8, 72.0, 82.7, 80.9), (76.3, 72.3, 83.4, 81.2))


def test_the_rows_of_the_paper_look_like_mixed_protocols():
    for with_psa, beside in zip(WITH_PSA, BESIDE, strict=True):
        sides = [
            {name: v / 100 for name, v in zip(("AP", "APM", "APL", "AR"), values, strict=True)}
            for values in (beside, with_psa)
        ]
        assert "the first looks like detector boxes" in mixed_protocols(*sides)


def test_published_rows_name_their_protocol():
    names, rows = published_rows()
    lines = format_table(rows, names).splitlines()
    assert all(("detector" in line) != ("ground truth" in line) for line in lines[2:])
    assert lines[2].split()[-7:] == ["104,125", "70.4", "88.6", "78.3", "67.1", "77.2", "76.3"]
    assert lines[-1].split()[-6:] == ["77.8", "-", "-", "-", "-", "-"]
