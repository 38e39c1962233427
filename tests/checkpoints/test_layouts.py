"""Other people's checkpoints, made on the spot in their layouts: what is taken, what is refused, what is said."""

import os
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from psa_pose.attention import make_attention
from psa_pose.checkpoints import save_checkpoint, unwrapped_state_dict
from psa_pose.checkpoints.layouts import LAYOUTS, convert, detect_layout, load_source, read_weights
from psa_pose.errors import CheckpointError
from psa_pose.models.cpn import CPN
from psa_pose.models.hrnet import HRNet
from psa_pose.models.resnet import SimpleBaseline


def hrnet(**options) -> nn.Module:
    return HRNet(2, 3, **options)


def simple_baseline(**options) -> nn.Module:
    return SimpleBaseline(18, 3, deconv_channels=4, width=4, **options)


def shaken(model: nn.Module) -> nn.Module:
    """The model with other numbers in every tensor, running statistics too."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if tensor.is_floating_point() else torch.tensor(7))
    return model.eval()


def renamed(state, **prefixes):
    """The state dict with {start of a key: what is put before it}; every key must be named."""
    rules = {start.replace("_layers", "_layers."): new for start, new in prefixes.items()}
    return {
        next((new for start, new in rules.items() if key.startswith(start)), prefixes["other"]) + key: value
        for key, value in state.items()
    }


def mmpose(head, extra=()):
    """The layout of mmpose: backbone and head apart, as a dict with meta data."""

    def wrap(state):
        weights = renamed(state, other="backbone.", deconv_layers=head, final_layer=head)
        return {"meta": {"epoch": 210}, "state_dict": weights | {key: torch.ones(3, 1, 1) for key in extra}}

    return wrap


def training(state):
    """What HRNet's code writes while it trains: its AP is a NumPy number, and not all of its weights are the best."""
    return {
        "epoch": 3,
        "model": "pose_hrnet",
        "state_dict": {f"module.{key}": torch.zeros_like(value) for key, value in state.items()},
        "best_state_dict": state,
        "perf": np.float64(0.7),
        "optimizer": {"state": {}, "param_groups": []},
    }


WRAPS = {
    "bare": lambda state: state,
    "module": lambda state: {f"module.{key}": value for key, value in state.items()},
    "state_dict": lambda state: {"epoch": 1, "state_dict": {f"module.{key}": v for key, v in state.items()}},
    "training": training,
    "mmpose 0.x": mmpose("keypoint_head."),
    "mmpose 1.x": mmpose("head.", ["data_preprocessor.mean", "data_preprocessor.std"]),
}


@pytest.mark.parametrize("network", [hrnet, simple_baseline])
@pytest.mark.parametrize("wrap", WRAPS)
def test_a_pose_network_answers_as_before(network, wrap, tmp_path):
    theirs, ours = shaken(network()), network().eval()
    torch.save(WRAPS[wrap](theirs.state_dict()), tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    assert source.layout.name == ("mmpose_" if "mmpose" in wrap else "") + network.__name__
    assert source.channel_order == ("bgr" if source.layout.name == "simple_baseline" else "rgb")
    assert ("its 'best_state_dict'" in source.report) == (wrap == "training")
    assert f"{2 if wrap == 'mmpose 1.x' else 0} keys dropped" in source.report
    count = len(ours.state_dict())
    report = load_source(ours, source, attention_may_miss=False)
    assert f"{count} of {count} keys match, 0 missing, 0 unexpected, 0 of another shape" in report
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def imagenet_hrnet(state, dialect):
    """A classifier's state dict: the trunk of a pose network, further fuse layers, and one of two published heads."""
    trunk = {key: value for key, value in state.items() if not key.startswith("final_layer.")}
    extra = ["stage4.2.fuse_layers.1.0.0.0.weight", "stage4.2.fuse_layers.3.2.0.1.num_batches_tracked"]
    if dialect == "classification":
        extra += ["incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.weight", "final_layer.0.weight"]
        extra += ["classifier.weight", "classifier.bias"]
    else:
        extra += ["head.0.0.0.conv1.weight", "head.1.0.0.weight", "fc.weight"]
    return trunk | {key: torch.zeros(1) for key in extra}, len(extra)


@pytest.mark.parametrize("dialect", ["classification", "pose"])
def test_hrnet_starts_from_the_classifier(dialect, tmp_path):
    theirs, ours = shaken(hrnet()), hrnet()
    head = {key: value.clone() for key, value in ours.state_dict().items() if key.startswith("final_layer.")}
    weights, extra = imagenet_hrnet(theirs.state_dict(), dialect)
    torch.save(weights, tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    assert f"{extra - 2} keys dropped" in source.report
    report = load_source(ours, source, True)
    assert "left as initialised: 2 of the head (final_layer.bias first)" in report
    assert "2 of the file's left out (stage4.2.fuse_layers.1.0.0.0.weight first)" in report
    expected = theirs.state_dict() | head
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("network", ["simple_baseline", "cpn"])
def test_torchvisions_resnet_is_the_trunk(network, tmp_path):
    theirs = shaken(resnet18(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    source = read_weights(tmp_path / "resnet18.pth")
    assert source.layout.name == "torchvision_resnet"
    assert "2 keys dropped (fc.weight, fc.bias)" in source.report
    ours = CPN(18, 3, channels=4) if network == "cpn" else SimpleBaseline(18, 3, deconv_channels=4)
    assert "120 of" in load_source(ours, source, attention_may_miss=True)
    trunk = {key.removeprefix("resnet."): value for key, value in ours.state_dict().items()}
    kept = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert len(kept) == 120
    assert all(torch.equal(trunk[key], value) for key, value in kept.items())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = nn.Sequential(*list(theirs.children())[:-2])(images)
        found = (ours.resnet if network == "cpn" else ours).eval().features(images)[-1]
    assert torch.equal(found, expected)


def test_a_trunk_that_is_not_whole_is_refused(tmp_path):
    weights = resnet18(weights=None).state_dict()
    del weights["layer3.0.downsample.0.weight"]
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"\(missing layer3\.0\.downsample\.0\.weight\)"):
        load_source(SimpleBaseline(18, 3, deconv_channels=4), read_weights(tmp_path / "a.pth"), True)
    with pytest.raises(CheckpointError, match=r"unexpected layer2.*another shape: conv1\.weight"):
        load_source(hrnet(), read_weights(tmp_path / "a.pth"), True)


# Those that tests/segmentation knows.
SEGMENTATION = {"deeplabv3plus", "hrnetv2", "hrnet_ocr", "nvidia_hrnet_ocr", "torchvision_mobilenet"}


def examples():
    """A state dict of each layout of a pose network or its trunk."""
    narrow, pose, deconv = resnet18(weights=None).state_dict(), hrnet().state_dict(), simple_baseline().state_dict()
    return {
        "torchvision_resnet": narrow,
        "hrnet_imagenet": imagenet_hrnet(pose, "classification")[0],
        "hrnet": pose,
        "simple_baseline": deconv,
        "mmpose_hrnet": mmpose("head.")(pose)["state_dict"],
        "mmpose_simple_baseline": mmpose("keypoint_head.")(deconv)["state_dict"],
    }


def test_every_layout_is_recognised_and_refuses_a_key_it_does_not_know():
    found = examples()
    layouts = [layout for layout in LAYOUTS if layout.name not in SEGMENTATION]
    assert list(found) == [layout.name for layout in layouts]
    strangers = ["layer1.0.se.fc1.weight", "stage2.0.extra.weight", "backbone.neck.weight", "head.loss.weight", "w"]
    for layout in layouts:
        weights = found[layout.name]
        assert detect_layout(weights) is layout
        for stranger in strangers:
            if stranger == "head.loss.weight" and layout.name == "hrnet_imagenet":
                continue
            with pytest.raises(CheckpointError, match=f"key {re.escape(stranger)} does not belong to"):
                convert(weights | {stranger: torch.zeros(1)}, layout)


def test_two_keys_for_one_are_refused():
    weights = examples()["mmpose_hrnet"]
    with pytest.raises(CheckpointError, match=r"second final_layer\.bias"):
        convert(weights | {"keypoint_head.final_layer.bias": torch.zeros(3)}, detect_layout(weights))


def test_attention_alone_may_be_missing_and_is_named(tmp_path):
    for network in (hrnet, simple_baseline):
        theirs, ours = shaken(network()), network(attention=partial(make_attention, "psa_p"))
        torch.save(theirs.state_dict(), tmp_path / "a.pth")
        source = read_weights(tmp_path / "a.pth")
        slots = [key for key in ours.state_dict() if ".attention." in key]
        report = load_source(ours, source, attention_may_miss=True)
        assert f"{len(slots)} missing" in report
        assert f"left as initialised: {len(slots)} of attention slots ({min(slots)} first)" in report
        with pytest.raises(CheckpointError, match=r"\(missing .*\.attention\."):
            load_source(ours, source, attention_may_miss=False)
        weights = theirs.state_dict()
        del weights["final_layer.bias"]
        torch.save(weights, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"\(missing final_layer\.bias\)"):
            load_source(ours, read_weights(tmp_path / "a.pth"), attention_may_miss=True)


def test_files_older_than_the_counters_are_taken(tmp_path):
    theirs, ours = shaken(hrnet()), hrnet().eval()
    weights = {key: v for key, v in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "a.pth")
    counters = len(theirs.state_dict()) - len(weights)
    report = load_source(ours, read_weights(tmp_path / "a.pth"), attention_may_miss=False)
    assert f"left as initialised: {counters} of num_batches_tracked" in report
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_a_checkpoint_of_ours_starts_a_network_with_attention(tmp_path):
    theirs, ours = shaken(simple_baseline()), simple_baseline(attention=partial(make_attention, "psa_p"))
    save_checkpoint(tmp_path / "a.pt", {"model": unwrapped_state_dict(theirs), "input": {"CHANNEL_ORDER": "bgr"}})
    source = read_weights(tmp_path / "a.pt")
    assert (source.layout, source.channel_order) == (None, "bgr")
    assert "0 unexpected" in load_source(ours, source, attention_may_miss=True)
    assert torch.equal(ours.final_layer.bias, theirs.final_layer.bias)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_malicious_file_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Malicious(), "perf": np.float64(0.7)}, "bad.pth")
    with pytest.raises(CheckpointError, match=r"bad\.pth is not a file of tensors.*it asks for \w+\.system"):
        read_weights("bad.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "holds no state dict"),
        ([1], "holds no state dict"),
        ({"conv1.weight": 3}, "holds 'conv1.weight', which is no tensor"),
        ({"state_dict": {"a": 3}}, "holds 'a' in its 'state_dict', which is no tensor"),
        ({"blocks.0.weight": torch.zeros(1)}, r"its 1 keys \(blocks.0.weight first\) are of no known layout"),
        ({"perf": np.zeros(3)}, "it asks for numpy"),
    ],
)
def test_what_is_no_network_is_named(content, says, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=says) as error:
        read_weights(tmp_path / "a.pth")
    assert "a.pth" in str(error.value)
