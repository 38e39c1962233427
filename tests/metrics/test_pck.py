"""PCKh against cases computed by hand, and against the published arithmetic written out over MPII's own arrays."""

import numpy as np
import pytest

from psa_pose.evaluation.result import Evaluation, format_table
from psa_pose.metrics.pck.head import PCKH_COLUMNS, pckh_stats
from psa_pose.skeleton import MPII


def at(*names):
    return [MPII.names.index(name) for name in names]


def test_two_persons_by_hand():
    """Heads of 20 and 10 pixels: half of them is 10 and 5, a tenth 2 and 1."""
    truth, sizes = np.full((2, 16, 2), 50.0), np.array([20.0, 10.0])
    found, visible = truth.copy(), np.zeros((2, 16), bool)
    ankle, wrist, pelvis, head = at("left_ankle", "right_wrist", "pelvis", "head_top")
    visible[0, [ankle, wrist, pelvis, head]] = True
    visible[1, [ankle, wrist]] = True
    found[0, ankle] += (6, 8)  # 10: half a head, which counts
    found[0, wrist] += (6, 8.1)  # just beyond
    found[0, pelvis] += 1000  # not in the means
    found[0, head] += (0, 2)  # a tenth of a head
    found[1, ankle] += (3, 4.1)  # beyond
    found[1, wrist] += (0, 1.05)  # within a half and within 0.11, not within a tenth
    found[1, head] += 1000  # not annotated
    stats = pckh_stats(found, truth, visible, sizes, MPII)
    assert stats["left_ankle"] == 0.5
    assert stats["right_wrist"] == 0.5
    assert stats["pelvis"] == 0
    assert stats["head"] == stats["head_top"] == 1
    assert stats["right_ankle"] == stats["knee"] == -1
    assert stats["ankle"] == 0.5
    # Of five joints that count, three within a half and one within a tenth.
    assert stats["PCKh"] == 3 / 5
    assert stats["PCKh@0.1"] == 1 / 5


def test_a_group_is_the_mean_of_its_sides_and_the_mean_is_over_joints():
    truth = np.zeros((4, 16, 2))
    found, visible = truth.copy(), np.zeros((4, 16), bool)
    left, right, thorax = at("left_hip", "right_hip", "thorax")
    visible[:, left] = True
    visible[0, right] = visible[0, thorax] = True
    found[0, right] += 99
    stats = pckh_stats(found, truth, visible, np.full(4, 10.0), MPII)
    assert stats["hip"] == 0.5
    assert stats["PCKh"] == 4 / 5


def test_nothing_annotated_is_undefined():
    stats = pckh_stats(np.zeros((1, 16, 2)), np.zeros((1, 16, 2)), np.zeros((1, 16), bool), np.ones(1), MPII)
    assert set(stats.values()) == {-1.0}
    assert set(stats) == {*PCKH_COLUMNS, *MPII.names}


def test_the_same_as_the_published_arithmetic():
    """Joints by persons, 1-based, missing flags and masked means, as in MPII's evaluation of HRNet's code."""
    rng = np.random.default_rng(3)
    persons = 200
    truth, missing = rng.uniform(0, 500, (16, 2, persons)), rng.random((16, persons)) < 0.3
    boxes = np.sort(rng.uniform(0, 500, (2, 2, persons)), axis=0)
    answer = truth + rng.normal(0, 30, truth.shape)
    size = 0.6 * np.hypot(*(boxes[1] - boxes[0]))
    near = np.sqrt(((answer - truth) ** 2).sum(1)) / size <= 0.5
    seen = ~missing
    per_joint = (near & seen).sum(1) / seen.sum(1)
    weights = seen.sum(1).astype(float)
    weights[6:8] = 0
    stats = pckh_stats(answer.transpose(2, 0, 1), truth.transpose(2, 0, 1), seen.T, size, MPII)
    assert [stats[name] for name in MPII.names] == pytest.approx(per_joint)
    assert stats["PCKh"] == pytest.approx((per_joint * weights).sum() / weights.sum())
    assert stats["shoulder"] == pytest.approx((per_joint[12] + per_joint[13]) / 2)


def test_the_table_has_the_published_columns():
    stats = dict.fromkeys((*PCKH_COLUMNS, *MPII.names), 0.5) | {"knee": -1.0}
    evaluation = Evaluation("ground_truth", "valid", True, 2958, 1000, stats)
    header, _, row = format_table([evaluation]).splitlines()
    assert header.split()[4:] == ["head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "PCKh", "PCKh@0.1"]
    assert row.split()[-4:] == ["-", "50.0", "50.0", "50.0"]
    assert evaluation.score == 0.5
