"""Training from a network of other keypoints: the last layers' rows by the joints' names."""

import pytest
import torch

from psa_pose.checkpoints import checkpoint_content, save_checkpoint
from psa_pose.checkpoints.joints import joint_dimension, match_joints
from psa_pose.checkpoints.spec import ModelSpec
from psa_pose.config.choices import NETWORKS
from psa_pose.errors import CheckpointError
from psa_pose.models import build_model
from psa_pose.skeleton import COCO, LSP
from psa_pose.training.pretrained import load_pretrained


def network(cfg, joints: int, name: str = "simple_baseline", codec: str = "standard"):
    """Of so many joints, in evaluation mode."""
    own = cfg.clone()
    own.defrost()
    own.MODEL.NUM_JOINTS, own.MODEL.NAME, own.CODEC.NAME = joints, name, codec
    if name == "cpn":
        own.MODEL.DEPTH = 50
    return build_model(own).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_that_count_joints_are_known(name, tiny_config):
    cfg = tiny_config("MODEL.ATTENTION.NAME", "none", "MODEL.STACKS", 2)
    five, six = (network(cfg, joints, name).state_dict() for joints in (5, 6))
    assert five.keys() == six.keys()
    found = {key: joint_dimension(key) for key in five if joint_dimension(key) is not None}
    shapes = {key: zip(five[key].shape, six[key].shape, strict=True) for key in five}
    changed = {key: dim for key, sides in shapes.items() for dim, (a, b) in enumerate(sides) if a != b}
    assert found == changed != {}


@pytest.mark.parametrize("codec", ["standard", "udp_offset"])
def test_joints_of_equal_name_answer_as_the_files_and_others_as_initialised(codec, tiny_config):
    cfg = tiny_config("MODEL.ATTENTION.NAME", "none")
    theirs, ours = ["nose", "left_hip", "right_hip", "tail"], ["RHip", "neck", "Nose", "hip_left", "chin"]
    source, model = network(cfg, 4, codec=codec), network(cfg, 5, codec=codec)
    initial = model.final_layer.weight.detach().clone()
    weights, report = match_joints(source.state_dict(), model.state_dict(), theirs, ours)
    model.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        a, b = (net(images).unflatten(1, (joints, -1)) for net, joints in ((source, 4), (model, 5)))
    for row, place in ((0, 2), (2, 0), (3, 1)):
        assert torch.equal(b[:, row], a[:, place])
    rows = model.final_layer.weight.unflatten(0, (5, -1))
    assert torch.equal(rows[[1, 4]], initial.unflatten(0, (5, -1))[[1, 4]])
    assert report == (
        "3 of 5 keypoints start from those of equal name (RHip, Nose, hip_left); as initialised: neck, chin; "
        "not taken from the file: tail"
    )


def test_lsps_joints_start_those_of_coco(tiny_config, tmp_path):
    lsp = tiny_config("DATASET.FORMAT", "lsp", "DATASET.SKELETON", "lsp", "DATASET.TEST_DETECTIONS", "")
    source = build_model(lsp)
    save_checkpoint(tmp_path / "lsp.pt", checkpoint_content(lsp, ModelSpec.of_config(lsp), source, None, 0, -1.0))
    cfg = tiny_config("MODEL.PRETRAINED", tmp_path / "lsp.pt")
    model, said = build_model(cfg), list[str]()
    load_pretrained(cfg, model, ModelSpec.of_config(cfg), said.append)
    assert "12 of 17 keypoints start from those of equal name (left_shoulder, right_shoulder, " in said[1]
    assert said[1].endswith(
        "as initialised: nose, left_eye, right_eye, left_ear, right_ear; not taken from the file: neck, head_top"
    )
    assert "0 missing, 0 unexpected, 0 of another shape" in said[2]
    knee, theirs = COCO.names.index("left_knee"), LSP.names.index("left_knee")
    assert torch.equal(model.final_layer.weight[knee], source.final_layer.weight[theirs])
    assert torch.equal(model.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_equal_numbers_of_other_names_are_matched_too(tiny_config, tmp_path):
    cfg = tiny_config()
    source, spec = build_model(cfg), ModelSpec.of_config(cfg)
    content = checkpoint_content(cfg, spec, source, None, 0, -1.0)
    names = [*COCO.names[1:], "tail"]
    save_checkpoint(tmp_path / "a.pt", content | {"skeleton": {"name": "animal", "names": names}})
    own = tiny_config("MODEL.PRETRAINED", tmp_path / "a.pt")
    model, said = build_model(own), list[str]()
    load_pretrained(own, model, spec, said.append)
    assert "16 of 17" in said[1]
    assert torch.equal(model.final_layer.bias[1:], source.final_layer.bias[:-1])
    assert torch.equal(model.final_layer.weight[1:], source.final_layer.weight[:-1])


def test_a_layer_of_other_maps_per_joint_is_still_refused(tiny_config, tmp_path):
    offsets = tiny_config("CODEC.NAME", "udp_offset", "CODEC.SIGMA", 0)
    content = checkpoint_content(offsets, ModelSpec.of_config(offsets), build_model(offsets), None, 0, -1.0)
    save_checkpoint(tmp_path / "a.pt", content | {"skeleton": LSP.as_dict() | {"names": [*COCO.names[1:], "tail"]}})
    cfg = tiny_config("MODEL.PRETRAINED", tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="another shape: final_layer"):
        load_pretrained(cfg, build_model(cfg), ModelSpec.of_config(cfg), print)
