"""Scores, suppression, intervals, PCKh and kinds of errors against plain loops, with ties and values at the limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.geometry import pairwise_iou
from psa_pose.metrics.coco_ap import STATS, Predictions, keypoint_ap, match_results, to_results
from psa_pose.metrics.comparison import compare
from psa_pose.metrics.diagnosis import LOOSE_OKS, _neighbours, keypoint_rows, locate, subset_ap
from psa_pose.metrics.error_types import error_types
from psa_pose.metrics.matching import read_pairs
from psa_pose.metrics.oks import instance_scores, oks_nms, pairwise_oks
from psa_pose.metrics.pck.head import pckh_stats
from psa_pose.metrics.protocol import guess_protocol
from psa_pose.metrics.pycocotools_check import pycocotools_ap
from psa_pose.metrics.significance import bootstrap, differences, intervals
from psa_pose.skeleton import COCO, MPII
from tests.metrics.cases import adversarial_case, scene

SIGMAS = np.array(COCO.sigmas)
few = settings(max_examples=50, deadline=None)
seeds = st.integers(0, 10**6)


def plain_oks(a, b, area, sigmas):
    total = 0.0
    for (x1, y1), (x2, y2), sigma in zip(a, b, sigmas, strict=True):
        total += np.exp(-((x1 - x2) ** 2 + (y1 - y2) ** 2) / (2 * area * (2 * sigma) ** 2))
    return total / len(sigmas)


def crowd(seed, images=3):
    """Persons near each other, some of them copies, with few different scores."""
    rng = np.random.default_rng(seed)
    n, K = int(rng.integers(1, 14)), int(rng.integers(1, 6))
    bodies = rng.uniform(0, 60, (3, K, 2))
    joints = bodies[rng.integers(3, size=n)] + rng.choice([0.0, 1.0, 3.0], n)[:, None, None] * rng.normal(
        size=(n, K, 2)
    )
    return (
        joints,
        rng.choice([0.2, 0.5, 0.9], n),
        rng.uniform(200, 3000, n),
        rng.uniform(0.03, 0.1, K),
        rng.integers(images, size=n),
    )


@few
@given(seeds, st.sampled_from([0.05, 0.3, 0.5, 0.9]))
def test_suppression_one_by_one(seed, threshold):
    joints, scores, areas, sigmas, images = crowd(seed)
    kept = []
    for image in sorted(set(images.tolist())):
        rows = sorted(np.flatnonzero(images == image), key=lambda r: -scores[r])
        mine = []
        for row in rows:
            alike = [plain_oks(joints[row], joints[k], (areas[row] + areas[k]) / 2, sigmas) for k in mine]
            if all(value <= threshold + 1e-9 for value in alike):
                mine.append(row)
        kept += mine
    assert oks_nms(joints, scores, areas, sigmas, threshold, images).tolist() == kept
    n = len(joints)
    own = [[plain_oks(joints[a], joints[b], (areas[a] + areas[b]) / 2, sigmas) for b in range(n)] for a in range(n)]
    np.testing.assert_allclose(pairwise_oks(joints, areas, sigmas), own, rtol=1e-9)


def test_who_is_alike_exactly_as_the_threshold_says_stays():
    joints, areas = np.zeros((2, 1, 2)), np.full(2, 100.0)
    assert oks_nms(joints, np.array([0.5, 0.4]), areas, np.array([0.1]), 1.0).tolist() == [0, 1]
    assert oks_nms(joints, np.array([0.4, 0.5]), areas, np.array([0.1]), 0.999).tolist() == [1]
    # A dropped person drops nobody: the first drops the second, and the third is like the second only.
    chain = np.array([[[0.0, 0.0]], [[2.0, 0.0]], [[4.0, 0.0]]])
    near = plain_oks(chain[0], chain[1], 100.0, [0.1])
    assert oks_nms(chain, np.array([0.9, 0.8, 0.7]), np.full(3, 100.0), np.array([0.1]), near - 0.01).tolist() == [0, 2]


@few
@given(seeds, st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.sampled_from([0.3, 0.9]), st.sampled_from([1, 7]))
def test_result_entries_one_by_one(seed, least, alike, category):
    joints, box_scores, areas, sigmas, images = crowd(seed)
    certainty = np.random.default_rng(seed).choice([0.0, 0.2, 0.35, 0.5, 1.0], joints.shape[:2])
    plain = []
    for box, some in zip(box_scores, certainty, strict=True):
        counted = [s for s in some if s > least]
        plain.append(box * sum(counted) / len(counted) if counted else 0.0)
    np.testing.assert_allclose(instance_scores(box_scores, certainty, least), plain, rtol=1e-12)
    predictions = Predictions(images * 10, box_scores, areas, joints, certainty)
    results = to_results(predictions, sigmas, least, alike, category)
    kept = oks_nms(joints, instance_scores(box_scores, certainty, least), areas, sigmas, alike, images)
    assert [r["image_id"] for r in results] == (images[kept] * 10).tolist()
    assert {r["category_id"] for r in results} <= {category}
    # The order depends on the person's score, which keeps every digit.
    assert [r["score"] for r in results] == instance_scores(box_scores, certainty, least)[kept].tolist()
    for row, result in zip(kept, results, strict=True):
        points = np.array(result["keypoints"]).reshape(-1, 3)
        np.testing.assert_allclose(points[:, :2], joints[row], atol=0.0051)
        np.testing.assert_allclose(points[:, 2], certainty[row], atol=0.00051)


@few
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.floats(-1, 1), st.booleans())
def test_intervals_are_order_statistics_and_p_is_twice_the_smaller_tail(samples, value, paired):
    table = np.zeros((len(samples), len(STATS)))
    if paired:
        table[:, 0] = samples
        base = np.zeros_like(table)
        stats = [dict.fromkeys(STATS, 0.5), dict.fromkeys(STATS, 0.5) | {"AP": 0.75}]
        # Both must be defined: shifted so that neither is below 0.
        answer = differences(*stats, base + 1, table + 1)["AP"]
        kept = sorted(float(np.float64(s) + 1 - 1) for s in samples)
        assert answer.value == 0.25
    else:
        table[:, 0] = samples
        answer = intervals(dict.fromkeys(STATS, 0.5), table)["AP"]
        kept = sorted(s for s in samples if s >= 0)
        assert answer.value == 0.5
    if not kept:
        assert (answer.low, answer.high) == (0.5, 0.5)
        return

    def at(share):
        place = share * (len(kept) - 1)
        low = int(place)
        return kept[low] + (place - low) * (kept[min(low + 1, len(kept) - 1)] - kept[low])

    assert (answer.low, answer.high) == pytest.approx((at(0.025), at(0.975)), abs=1e-9)
    tail = min(sum(s <= 0 for s in kept), sum(s >= 0 for s in kept))
    assert answer.p_value == pytest.approx(min(1, 2 * (tail + 1) / (len(kept) + 1)) if paired else 1)


def test_a_resample_draws_with_replacement():
    """Of 40 images a resample leaves out more than a third: (1 - 1 / 40) ** 40."""
    joints = np.random.default_rng(0).uniform(0, 100, (17, 2)).round()
    truth, results = scene([(i, joints, 5000) for i in range(1, 41)], [(i, joints, 0.5) for i in range(1, 21)])
    samples = bootstrap(match_results(truth, results, SIGMAS), 300)
    recall = samples[:, STATS.index("AR")]
    assert recall.mean() == pytest.approx(0.5, abs=0.025)
    assert recall.std() == pytest.approx(np.sqrt(0.25 / 40), rel=0.25)


@few
@given(seeds)
def test_pckh_joint_by_joint(seed):
    rng = np.random.default_rng(seed)
    n, K = 4, MPII.num_joints
    joints, heads = rng.uniform(0, 100, (n, K, 2)), rng.choice([10.0, 20.0], n)
    away = rng.choice([0.0, 0.05, 0.1, 0.11, 0.3, 0.5, 0.51, 2.0], (n, K)) * heads[:, None]
    found, visible = joints + np.stack([away, 0 * away], 2), rng.random((n, K)) < 0.7
    stats = pckh_stats(found, joints, visible, heads, MPII)
    errors = np.linalg.norm(found - joints, axis=2) / heads[:, None]
    shares, all_half, all_tenth = {}, [], []
    for k, name in enumerate(MPII.names):
        mine = [errors[i, k] for i in range(n) if visible[i, k]]
        shares[name] = sum(e <= 0.5 for e in mine) / len(mine) if mine else -1
        if name not in ("pelvis", "thorax"):
            all_half += [e <= 0.5 for e in mine]
            all_tenth += [e <= 0.1 for e in mine]
    for name, share in shares.items():
        assert stats[name] == pytest.approx(share)
    assert stats["PCKh"] == pytest.approx(np.mean(all_half) if all_half else -1)
    assert stats["PCKh@0.1"] == pytest.approx(np.mean(all_tenth) if all_tenth else -1)
    for part in ("shoulder", "ankle"):
        sides = [shares[f"{side}_{part}"] for side in ("left", "right") if shares[f"{side}_{part}"] >= 0]
        assert stats[part] == pytest.approx(np.mean(sides) if sides else -1)


def prepared(truth, results):
    pairs = read_pairs(truth, results, SIGMAS)
    return pairs.truth, pairs.predicted, pairs


def similarity(point, annotated, person, joint, area, sigma):
    x, y, v = annotated.keypoints[person, joint]
    if v <= 0:
        return -1.0
    return np.exp(-((point[0] - x) ** 2 + (point[1] - y) ** 2) / (2 * (area + np.spacing(1)) * (2 * sigma) ** 2))


def confused(seed):
    """Bodies near each other; answers are joints of their own, of the mirror, of a neighbour, or of nobody."""
    rng = np.random.default_rng(seed)
    people, answers = [], []
    for image in (1, 2):
        bodies = [rng.uniform(0, 100, (17, 2)).round() + 40 * i for i in range(rng.integers(1, 4))]
        areas = [float(rng.choice([1500, 6000, 20000])) for _ in bodies]
        people += [(image, body, area) for body, area in zip(bodies, areas, strict=True)]
        for i, body in enumerate(bodies):
            answer = body.copy()
            for k in range(17):
                kind = rng.integers(7)
                if kind == 1:
                    answer[k] = body[COCO.flip_order[k]]
                elif kind == 2:
                    answer[k] = bodies[rng.integers(len(bodies))][k]
                elif kind == 3:
                    answer[k] = bodies[rng.integers(len(bodies))][COCO.flip_order[k]]
                elif kind == 4:
                    answer[k] += rng.uniform(-80, 80, 2)
                elif kind == 5:
                    answer[k] += rng.normal(size=2) * 2 * SIGMAS[k] * np.sqrt(areas[i])
            answers.append((image, answer + rng.normal(size=(17, 2)) * 0.2, float(rng.random())))
    truth, results = scene(people, answers)
    for annotation in truth["annotations"]:
        hidden = rng.random(17) < 0.15
        hidden[0] = False
        annotation["keypoints"] = [0 if hidden[i // 3] else v for i, v in enumerate(annotation["keypoints"])]
        annotation["num_keypoints"] = int((~hidden).sum())
    return truth, results


@few
@given(seeds)
def test_every_joint_has_the_kind_that_the_definitions_give_it(seed):
    annotated, found, pairs = prepared(*confused(seed))
    located = locate(pairs)
    kinds = error_types(located, COCO.flip_order).kinds
    seen = set()
    for g, k in np.ndindex(kinds.shape):
        if annotated.keypoints[g, k, 2] <= 0 or located.rows[g] < 0:
            assert kinds[g, k] == -1
            continue
        point, area = found.keypoints[located.rows[g], k, :2], annotated.areas[g]
        mirror = int(COCO.flip_order[k])
        own = similarity(point, annotated, g, k, area, SIGMAS[k])
        others = [
            similarity(point, annotated, o, j, area, SIGMAS[k])
            for o in range(len(kinds)) if o != g and annotated.image[o] == annotated.image[g]
            for j in (k, mirror)
        ]  # fmt: skip
        if own >= 0.85:
            expected = 0
        elif own >= 0.5:
            expected = 1
        elif mirror != k and similarity(point, annotated, g, mirror, area, SIGMAS[k]) >= 0.5:
            expected = 2
        else:
            expected = 3 if max(others, default=-1) >= 0.5 else 4
        assert kinds[g, k] == expected
        seen.add(expected)
    assert seen


@pytest.mark.parametrize(("level", "kind", "worse"), [(0.85, 0, 1), (0.5, 1, 4)])
def test_a_joint_exactly_at_the_limit_of_a_kind_belongs_to_the_better_one(level, kind, worse):
    """Two pixels off, in an area for which that is a similarity of exactly the level."""
    sigmas = np.full(17, 0.5)
    joints = np.arange(34.0).reshape(17, 2) * 1000
    answer = joints + np.array([[2.0, 0.0]] * 17)
    near = -2 / np.log(level)
    areas = near + np.arange(-200, 200) * np.spacing(near)
    exact = [area for area in areas if np.exp(-(4 / 1.0 / (area + np.spacing(1)) / 2)) == level]
    for area, expected in ((exact[0], kind), (0.999 * near, worse)):
        truth, results = scene([(1, joints, area)], [(1, answer, 0.9)])
        located = locate(read_pairs(truth, results, sigmas))
        assert set(error_types(located, COCO.flip_order).kinds[0].tolist()) == {expected}


@few
@given(seeds)
def test_background_missed_persons_and_rows_of_joints_one_by_one(seed):
    truth, results = adversarial_case(seed)
    annotated, found, pairs = prepared(truth, results)
    located = locate(pairs)
    taxonomy = error_types(located, COCO.flip_order)
    by_found = {}
    for g, d, oks in zip(pairs.truth_rows, pairs.predicted_rows, pairs.oks, strict=True):
        by_found.setdefault(int(d), []).append((float(oks), int(g)))
    for d in range(len(found.image)):
        best = max((oks for oks, _ in by_found.get(d, [])), default=0.0)
        # Nobody is as near as 0.5: then it can match nobody, and counts as background.
        if best < 0.5:
            assert taxonomy.background[d]
        free = [g for oks, g in by_found.get(d, []) if oks >= LOOSE_OKS and not annotated.ignored[g]]
        assert free or d not in located.rows
    assert not taxonomy.missed[annotated.ignored].any()
    assert (taxonomy.missed == ((located.rows < 0) & ~annotated.ignored)).all()
    longer = np.maximum(annotated.boxes[:, 2], annotated.boxes[:, 3])
    for k, row in enumerate(keypoint_rows(located, COCO.names)):
        counted = [g for g in range(len(longer)) if not annotated.ignored[g] and annotated.keypoints[g, k, 2] > 0]
        distances = {}
        for g in counted:
            d = located.rows[g]
            moved = found.keypoints[d, k, :2] - annotated.keypoints[g, k, :2] if d >= 0 else np.inf
            distances[g] = float(np.linalg.norm(moved))
        assert row["labelled"] == len(counted)
        finite = sorted(v for v in distances.values() if np.isfinite(v))
        if finite:
            middle = (finite[(len(finite) - 1) // 2] + finite[len(finite) // 2]) / 2
            assert row["median_px"] == pytest.approx(middle)
        for share in (0.05, 0.1, 0.2):
            if counted:
                near = [distances[g] <= share * longer[g] for g in counted]
                assert row[f"pck@{share:g}"] == pytest.approx(np.mean(near))


def test_persons_between_a_tenth_and_a_half_are_located_but_are_background():
    joints = np.random.default_rng(1).uniform(0, 100, (17, 2)).round()
    area = 10_000.0
    # Every joint as far away as gives a similarity of 0.3.
    answer = joints + np.stack([2 * SIGMAS * np.sqrt(-2 * area * np.log(0.3)), np.zeros(17)], 1)
    located = locate(read_pairs(*scene([(1, joints, area)], [(1, answer, 0.9)]), SIGMAS))
    assert located.rows.tolist() == [0]
    taxonomy = error_types(located, COCO.flip_order)
    assert taxonomy.background.tolist() == [True]
    assert taxonomy.missed.tolist() == [False]


@few
@given(seeds)
def test_overlaps_and_neighbours_pair_by_pair(seed):
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.integers(0, 40, (6, 2)), rng.integers(1, 40, (6, 2))], 1).astype(float)
    for a in range(6):
        for b in range(6):
            (x1, y1, w1, h1), (x2, y2, w2, h2) = boxes[a], boxes[b]
            wide = max(0, min(x1 + w1, x2 + w2) - max(x1, x2))
            high = max(0, min(y1 + h1, y2 + h2) - max(y1, y2))
            shared = wide * high
            assert pairwise_iou(boxes)[a, b] == pytest.approx(shared / (w1 * h1 + w2 * h2 - shared))
    truth, results = adversarial_case(seed)
    annotated, _, pairs = prepared(truth, results)
    counts = _neighbours(annotated)
    for g in range(len(counts)):
        others = [
            o for o in range(len(counts))
            if o != g and annotated.image[o] == annotated.image[g] and not annotated.crowd[o]
        ]  # fmt: skip
        overlaps = [pairwise_iou(annotated.boxes[[g, o]])[0, 1] for o in others]
        if not annotated.crowd[g] and not any(abs(v - 0.1) < 1e-9 for v in overlaps):
            assert counts[g] == sum(v > 0.1 for v in overlaps)
    for row in subset_ap(pairs):
        assert row["persons"] <= (~annotated.ignored).sum()
    by = {}
    for row in subset_ap(pairs):
        by[row["by"]] = by.get(row["by"], 0) + row["persons"]
    # Every person that counts is in one group of each kind.
    assert set(by.values()) == {int((~annotated.ignored).sum())}


def test_a_comparison_says_who_moved_which_way():
    a, b = (np.random.default_rng(s).uniform(0, 100, (17, 2)).round() for s in (0, 1))
    truth, first = scene([(1, a, 9000.0), (2, b, 9000.0)], [(1, a + 12, 0.9), (2, b, 0.8)])
    _, second = scene([], [(1, a, 0.9), (2, b + 12, 0.8)])
    answer = compare(truth, first, second, COCO.names, SIGMAS, resamples=20)
    better, worse = answer.most_moved(5)
    assert (better, worse) == ([0], [1])
    for row in answer.images:
        sign = 1 if row["image_id"] == 1 else -1
        assert row["difference"] == pytest.approx(row["second"] - row["first"])
        assert sign * row["difference"] > 0
    for name, moved in answer.differences.items():
        assert moved.value == answer.stats[1][name] - answer.stats[0][name]


@pytest.mark.parametrize(
    ("gap", "sizes", "looks"),
    [
        (3.0, 8.0, "ground_truth"), (5.0, 10.0, "detector"), (3.0, 10.0, None), (5.0, 8.0, None), (4.0, 8.0, None),
        (4.0, 10.0, None), (3.7, 8.0, None), (4.3, 10.0, None), (3.0, 9.1, None), (5.0, 9.1, None),
    ],
)  # fmt: skip
def test_figures_look_like_a_protocol_by_both_of_their_distances(gap, sizes, looks):
    stats = {"AP": 0.7, "AR": 0.7 + gap / 100, "APM": 0.6, "APL": 0.6 + sizes / 100}
    assert guess_protocol(stats) == looks
    assert guess_protocol(stats | {"APM": -1.0}) is None


@pytest.mark.parametrize("level", [0.5, 0.75])
def test_an_oks_exactly_at_a_threshold_is_a_match(level):
    sigmas, near = np.full(17, 0.5), -2 / np.log(level)
    joints = np.arange(34.0).reshape(17, 2) * 1000
    areas = near + np.arange(-200, 200) * np.spacing(near)
    exact = next(area for area in areas if np.exp(-(4 / 1.0 / (area + np.spacing(1)) / 2)) == level)
    truth, results = scene([(1, joints, exact)], [(1, joints + np.array([2.0, 0.0]), 0.9)])
    stats = keypoint_ap(truth, results, sigmas)
    assert stats == pycocotools_ap(truth, results, sigmas)
    assert stats["AR50" if level == 0.5 else "AR75"] == 1
    assert stats["AR"] == pytest.approx(round((level - 0.5) / 0.05 + 1) / 10)
