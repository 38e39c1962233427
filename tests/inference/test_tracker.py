"""The One Euro filter and the tracks that it runs on."""

import numpy as np
import pytest

from psa_pose.geometry import pairwise_iou
from psa_pose.inference.estimator import Person
from psa_pose.inference.tracker import OneEuro, Tracker
from psa_pose.skeleton import COCO

FPS = 30.0
SHAPE = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (100, 300)


def person(x: float, y: float = 0.0, noise: np.ndarray | float = 0.0, scores: np.ndarray | float = 0.9) -> Person:
    joints = SHAPE + np.array([x, y]) + noise
    keypoints = np.concatenate([joints, np.broadcast_to(np.asarray(scores, float), 17)[:, None]], axis=1)
    return Person(np.array([x, y, 100.0, 300.0]), keypoints, 0.9)


def smoother(**options) -> Tracker:
    return Tracker(COCO.sigmas, FPS, **options)


def test_who_stands_still_is_left_as_found():
    smooth = smoother()
    for number in range(20):
        (found,) = smooth(number, [person(7)])
        assert found.keypoints == pytest.approx(person(7).keypoints, abs=1e-9)
        assert (found.track, found.score, found.box.tolist()) == (1, 0.9, [7, 0, 100, 300])


def test_jitter_is_taken_out_and_scores_are_not_touched():
    generator, smooth, found = np.random.default_rng(1), smoother(), []
    for number in range(200):
        (one,) = smooth(number, [person(50, noise=generator.normal(0, 2, (17, 2)))])
        found.append(one.keypoints)
        assert (one.keypoints[:, 2] == 0.9).all()
    jitter = np.array(found)[50:, :, :2].std(0).mean()
    steps = np.abs(np.diff(np.array(found)[50:, :, :2], axis=0)).mean()
    # Unsmoothed: 2 pixels, and 2.26 from frame to frame.
    assert jitter < 0.9
    assert steps < 0.45


def test_who_moves_does_not_lag_behind_and_a_resolution_makes_no_difference():
    found = {}
    for scale in (1, 4):
        smooth = smoother()
        for number in range(60):
            one = person(number * 10)
            keypoints = one.keypoints * (scale, scale, 1)
            (answer,) = smooth(number, [Person(one.box * scale, keypoints, 0.9)])
        found[scale] = (answer.keypoints - keypoints)[:, :2] / scale
    # 300 pixels a second; a low-pass filter of 1 Hz alone would be 48 pixels behind.
    assert np.abs(found[1][:, 0]).max() < 8
    assert found[1][:, 0].max() < 0
    assert found[4] == pytest.approx(found[1])


def test_the_filter_is_the_papers():
    constants, smooth = OneEuro(min_cutoff=1, beta=0, speed_cutoff=1), smoother(constants=OneEuro(1, 0, 1))
    (first,), (second,) = smooth(0, [person(0)]), smooth(1, [person(8)])
    share = 1 / (1 + FPS / (2 * np.pi))
    assert constants.share(1, 1 / FPS) == pytest.approx(share)
    assert second.keypoints[:, 0] - first.keypoints[:, 0] == pytest.approx(8 * share)


def test_people_who_pass_each_other_far_apart_keep_their_tracks_in_any_order():
    generator, smooth, tracks = np.random.default_rng(2), smoother(), {"up": set(), "down": set()}
    for number in range(60):
        crowd = {"up": person(number * 12, 0), "down": person(720 - number * 12, 250)}
        order = ["up", "down"] if generator.random() < 0.5 else ["down", "up"]
        for name, found in zip(order, smooth(number, [crowd[name] for name in order]), strict=True):
            tracks[name].add(found.track)
            assert np.abs(found.keypoints - crowd[name].keypoints).max() < 12
    assert sorted(len(some) for some in tracks.values()) == [1, 1]
    assert tracks["up"] != tracks["down"]


def test_a_track_has_one_person_the_one_most_alike():
    smooth = smoother()
    smooth(0, [person(0)])
    assert [p.track for p in smooth(1, [person(9), person(0)])] == [2, 1]


def test_a_track_survives_a_short_gap_and_not_a_long_one():
    smooth = smoother(patience=0.5)
    assert [p.track for p in smooth(0, [person(0), person(900)])] == [1, 2]
    assert [p.track for p in smooth(1, [person(900)])] == [2]
    assert [p.track for p in smooth(10, [person(2), person(900)])] == [1, 2]
    assert smooth(11, []) == []
    assert [p.track for p in smooth(40, [person(2)])] == [3]


def test_unsure_joints_are_left_as_found_and_start_anew():
    smooth, unsure = smoother(), np.where(np.arange(17) == 4, 0.1, 0.9)
    smooth(0, [person(0)])
    (found,) = smooth(1, [person(8, scores=unsure)])
    assert found.keypoints[4] == pytest.approx(person(8, scores=unsure).keypoints[4])
    assert (found.keypoints[5:, 0] < person(8).keypoints[5:, 0]).all()
    (found,) = smooth(2, [person(20)])
    assert found.keypoints[4, :2] == pytest.approx(person(20).keypoints[4, :2])


def test_boxes_overlap_by_intersection_over_union():
    overlaps = pairwise_iou(np.array([[0, 0, 10, 10], [5, 0, 10, 10], [40, 40, 5, 5.0]]))
    assert overlaps == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]))
