"""PCK of the torso: the published table from the published predictions, and cases by hand."""

from pathlib import Path

import numpy as np
import pytest

from psa_pose.evaluation.result import Evaluation, format_table
from psa_pose.metrics.pck.torso import (
    AUC,
    PCK,
    PCKH,
    THRESHOLDS,
    joint_errors,
    pck_curves,
    pck_differences,
    pck_intervals,
    pck_samples,
    pck_stats,
)
from psa_pose.metrics.persons import GroundTruth, Predicted
from psa_pose.skeleton import LSP

PUBLISHED = {"head": 90.6, "shoulder": 78.1, "elbow": 73.8, "wrist": 68.8, "hip": 74.8, "knee": 69.9, "ankle": 58.9}


def truth_of(joints, visible=None):
    """joints (n, 14, 2) of one person an image; visible (n, 14)."""
    n = len(joints)
    flags = np.full((n, 14, 1), 2.0) if visible is None else 2.0 * visible[..., None]
    rows, nobody = np.arange(n), np.zeros(n, bool)
    keypoints = np.concatenate([joints, flags], axis=2)
    return GroundTruth(1, rows + 1, rows, rows + 101, keypoints, np.zeros((n, 4)), np.ones(n), nobody, nobody)


def predicted_of(joints, rows=None):
    n = len(joints)
    rows = np.arange(n) if rows is None else np.array(rows)
    keypoints = np.concatenate([joints, np.ones((n, 14, 1))], axis=2)
    return Predicted(rows, np.zeros(n, int), keypoints, np.ones(n), np.ones(n), np.arange(n))


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden_lsp_pck.npz") as file:
        return {name: file[name].astype(float) for name in file}


@pytest.fixture(scope="module")
def published(golden):
    return joint_errors(truth_of(golden["joints"]), predicted_of(golden["predictions"]), LSP)


def test_the_published_table_to_the_digit(published, golden):
    """Yang et al., End-to-End Learning of Deformable Mixture of Parts (CVPR 2016), LSP, person-centric."""
    stats = pck_stats(published)
    assert {name: float(f"{100 * stats[name]:.1f}") for name in PUBLISHED} == PUBLISHED
    assert f"{100 * stats[PCK]:.1f}" == "73.6"
    assert [100 * stats[name] for name in LSP.names] == pytest.approx(golden["pck"][20].tolist(), abs=1e-12)
    curves = pck_curves(published)
    assert 100 * np.array(curves["mean"]) == pytest.approx(golden["pck"].mean(1), abs=1e-12)
    assert 100 * np.array(curves["elbow"]) == pytest.approx(golden["pck"][:, [7, 10]].mean(1), abs=1e-12)
    evaluation = Evaluation("ground_truth", "test", False, 1000, 1000, {"AP": 0.5} | stats)
    row = format_table([evaluation]).splitlines()[-1].split()
    assert row[-10:-3] == [str(value) for value in PUBLISHED.values()]
    assert evaluation.score == stats[PCK]


def test_the_area_is_that_of_the_curve(published):
    """The curve's trapezoids and its exact area agree to what a step of 0.01 can say."""
    curve = np.array(pck_curves(published)["mean"])
    trapezoids = np.trapezoid(curve, THRESHOLDS) / 0.2
    assert pck_stats(published)[AUC] == pytest.approx(trapezoids, abs=2e-3)


def test_intervals_are_those_of_a_plain_bootstrap(published):
    drawn = np.random.default_rng(0).integers(1000, size=(400, 1000))
    right = published.torso <= 0.2
    plain = np.percentile([right[rows].mean() for rows in drawn], [2.5, 97.5])
    estimate = pck_intervals(published)[PCK]
    assert [estimate.low, estimate.high] == pytest.approx(plain, abs=2e-3)
    assert estimate.low < estimate.value < estimate.high
    assert pck_samples(published, 64, seed=1)["head"].shape == (64,)


def test_a_difference_is_paired(published, golden):
    better = golden["predictions"].copy()
    better[:50] = golden["joints"][:50]
    errors = joint_errors(truth_of(golden["joints"]), predicted_of(better), LSP)
    moved = pck_differences(published, errors, 200)
    assert moved[PCK].value == pytest.approx(pck_stats(errors)[PCK] - pck_stats(published)[PCK])
    assert moved[PCK].low > 0
    assert pck_differences(errors, errors, 50)[PCK].high == 0


def at(*names):
    return [LSP.names.index(name) for name in names]


def body():
    """One person whose torso is 50 pixels long, (40, 30), and whose head is 10."""
    joints = np.zeros((14, 2))
    joints[at("left_shoulder")[0]], joints[at("right_hip")[0]] = (40, 0), (0, 30)
    joints[at("neck")[0]], joints[at("head_top")[0]] = (20, 0), (20, -10)
    return joints


def test_thresholds_labels_and_segments_by_hand():
    truth = np.stack([body()] * 4)
    visible = np.ones((4, 14), bool)
    found = truth.copy()
    wrist, knee, hip = at("left_wrist", "left_knee", "right_hip")
    found[0, wrist] += (10, 0)  # exactly 0.2 torsos: right; a whole head: wrong
    found[1, wrist] += (10.01, 0)
    found[0, knee] += 1000
    visible[0, knee] = False  # not labelled: does not count
    visible[2, hip] = False  # without a torso: no joint of the third counts in PCK
    found[2] += 500
    truth[3, hip] = truth[3, at("left_shoulder")[0]]  # a torso of no length
    errors = joint_errors(truth_of(truth, visible), predicted_of(found), LSP)
    stats = pck_stats(errors)
    assert stats["left_wrist"] == 1 / 2
    assert stats["left_knee"] == stats["neck"] == 1
    assert stats["wrist"] == 3 / 4
    assert stats[PCK] == (13 + 1 / 2) / 14
    # Of heads: the third is wrong everywhere, both wrists are too far, and so is the hip that was moved.
    heads = [3 / 4] * 14
    heads[wrist], heads[knee], heads[hip] = 1 / 4, 2 / 3, 2 / 3
    assert stats[PCKH] == pytest.approx(np.mean(heads))
    assert errors.no_length == {"torso": [104], "head": []}
    assert "a torso has no length, and its person does not count: annotations 104" in errors.notes()
    assert any("1 of 4 persons lack the label of an end of their torso" in note for note in errors.notes())


def test_nobody_found_is_wrong_and_nothing_to_measure_is_undefined():
    truth = truth_of(np.stack([body()] * 2))
    stats = pck_stats(joint_errors(truth, predicted_of(body()[None], rows=[1]), LSP))
    assert stats[PCK] == stats[AUC] == stats["head"] == 1 / 2
    point = joint_errors(truth_of(np.zeros((2, 14, 2))), predicted_of(np.zeros((2, 14, 2))), LSP)
    assert set(pck_stats(point).values()) == {-1.0}
    assert pck_intervals(point) == pck_curves(point) == {}


def test_the_other_diagonal_is_another_measure(golden):
    """From the right shoulder to the left hip the same predictions have 78.8 for the shoulders."""
    order = LSP.flip_order
    mirrored = joint_errors(truth_of(golden["joints"][:, order]), predicted_of(golden["predictions"][:, order]), LSP)
    assert f"{100 * pck_stats(mirrored)['shoulder']:.1f}" == "78.8"
