import json

import numpy as np
import pytest
import torch
from torch import nn

from psa_pose.attention import make_attention
from psa_pose.geometry import transform_points
from psa_pose.skeleton import COCO
from psa_pose.study.gates import CANVAS, _at, _laid, _torso_matrix, gate_history, with_constant_gates


@pytest.mark.parametrize("name", ["psa_p", "psa_s", "psa_spatial"])
def test_a_constant_gate_scales_every_position_alike(name):
    torch.manual_seed(0)
    block, x = make_attention(name, 16), torch.randn(2, 16, 5, 7) * 3
    constant = with_constant_gates(nn.Sequential(block))
    assert constant is not None
    with torch.no_grad():
        channel, spatial = block.gates(x)
        mean = spatial.mean((2, 3), keepdim=True)
        factor = mean if channel is None else channel * mean if block.layout == "sequential" else channel + mean
        assert torch.allclose(constant(x), x * factor)
        assert not torch.allclose(block(x), x * factor)
    # The network itself is as it was.
    assert nn.Sequential(block)[0] is block


def test_without_a_spatial_gate_there_is_nothing_to_hold_constant():
    assert with_constant_gates(nn.Sequential(nn.Conv2d(3, 3, 1), make_attention("psa_channel", 16))) is None


def person():
    """A person who leans, in pixels of a crop of 96 x 128."""
    pose = np.full((17, 2), np.nan)
    places = {"left_shoulder": (60, 40), "right_shoulder": (40, 30), "left_hip": (50, 80), "right_hip": (30, 70)}
    for name, place in places.items():
        pose[COCO.names.index(name)] = place
    return pose


def test_torsos_come_to_lie_on_one_another():
    pose = person()
    matrix = _torso_matrix(pose, COCO)
    laid = transform_points(pose, matrix)
    shoulders = laid[[COCO.names.index("left_shoulder"), COCO.names.index("right_shoulder")]].mean(0)
    hips = laid[[COCO.names.index("left_hip"), COCO.names.index("right_hip")]].mean(0)
    assert shoulders == pytest.approx([48, 44])
    assert hips == pytest.approx([48, 76])
    # A turn and a scale, not a mirror: the person's left stays on the right.
    assert laid[COCO.names.index("left_shoulder"), 0] > laid[COCO.names.index("right_shoulder"), 0]
    assert _torso_matrix(np.full((17, 2), np.nan), COCO) is None
    pose[:] = 50
    assert _torso_matrix(pose, COCO) is None


def test_a_gate_that_looks_at_a_joint_is_seen_there():
    pose, gate = person(), np.zeros((32, 24), np.float32)
    # The cell of the middle of the shoulders, at (50, 35) of the crop.
    gate[8, 12] = 1
    laid = _laid(gate, _torso_matrix(pose, COCO), (96, 128))
    assert laid.shape == CANVAS[::-1]
    y, x = np.unravel_index(np.nanargmax(laid), laid.shape)
    assert abs(x - 48) <= 2
    assert abs(y - 44) <= 2
    assert np.isnan(laid[0, 95])
    pose[0] = 50, 35
    values = _at(gate, pose, (96, 128))
    assert values[0] == 1
    assert values[COCO.names.index("left_hip")] == 0
    assert np.isnan(values[1])
    pose[0] = 96, 35
    assert np.isnan(_at(gate, pose, (96, 128))[0])


def test_the_history_is_that_of_the_evaluations(tmp_path):
    lines = [{"step": 1, "train": {"loss": 1.0}}, {"step": 2, "gates": {"layer1": 0.1}}, {"step": 4, "gates": {}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert gate_history(tmp_path) == {2: {"layer1": 0.1}}
