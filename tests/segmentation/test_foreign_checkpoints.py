"""Other people's segmentation checkpoints, made on the spot in their layouts."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet50

from psa_pose.attention import make_attention
from psa_pose.checkpoints.layouts import convert, detect_layout, load_source, read_weights
from psa_pose.errors import CheckpointError
from psa_pose.models.mobilenet import MobileNetV2
from psa_pose.models.resnet import ResNet
from psa_pose.segmentation.networks.deeplab import DeepLabV3Plus
from psa_pose.segmentation.networks.hmsa import HMSA
from psa_pose.segmentation.networks.hrnet import HRNetOCR, HRNetV2
from tests.segmentation.published import our_names


def deeplab_mobilenet(classes=3):
    return DeepLabV3Plus(MobileNetV2(16), classes, channels=4)


def deeplab_resnet(classes=3, width=4):
    return DeepLabV3Plus(ResNet(50, width=width, output_stride=16), classes, channels=4)


def hrnetv2(classes=3):
    return HRNetV2(2, classes)


def hrnet_ocr(classes=3):
    return HRNetOCR(2, classes, key_channels=4)


def hmsa(classes=3, attention=""):
    factory = partial(make_attention, attention) if attention else None
    return HMSA(8 if attention else 2, classes, factory, "basic", key_channels=4)


def shaken(model: nn.Module) -> nn.Module:
    """The model with other numbers in every tensor, running statistics too; its answers stay of a size."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if not tensor.is_floating_point():
                tensor.fill_(7)
            elif tensor.ndim == 1:
                tensor.uniform_(0.5, 0.7)
            else:
                tensor.uniform_(-1, 1).mul_((6 / tensor[0].numel()) ** 0.5)
    return model.eval()


def nvidia(state, model):
    """The names of NVIDIA's and DeLightCMU's files for a state dict of ours."""
    theirs = {ours: key for key, ours in our_names(model).items()}
    return {theirs[key]: value for key, value in state.items()}


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


FILES = {
    "deeplabv3plus mobilenet": (
        deeplab_mobilenet,
        lambda state: {"cur_itrs": 3, "model_state": state, "best_score": np.float64(0.7)},
    ),
    "deeplabv3plus resnet": (deeplab_resnet, lambda state: {"model_state": prefixed("module.", state)}),
    "hrnetv2": (hrnetv2, lambda state: prefixed("model.", state) | {"loss.criterion.weight": torch.ones(3)}),
    "hrnet_ocr": (hrnet_ocr, lambda state: {"epoch": 1, "best_mIoU": np.float64(0.8), "state_dict": state}),
    "nvidia_hrnet_ocr plain": (
        hmsa,
        lambda state: {
            "state_dict": prefixed("module.", nvidia(state, "ocrnet.HRNet_Mscale")),
            "optimizer": {"state": {}, "param_groups": []},
            "mean_iu": np.float64(0.8),
        },
    ),
    "nvidia_hrnet_ocr one scale": (
        hrnet_ocr,
        lambda state: {"state_dict": prefixed("module.", nvidia(state, "ocrnet.HRNet"))},
    ),
    "nvidia_hrnet_ocr psa_p": (
        partial(hmsa, attention="psa_p"),
        lambda state: {"state_dict": prefixed("module.", nvidia(state, "ocrnet.HRNet_Mscale+psa_p"))},
    ),
    "nvidia_hrnet_ocr psa_s": (
        partial(hmsa, attention="psa_s"),
        lambda state: {"state_dict": prefixed("module.", nvidia(state, "ocrnet.HRNet_Mscale+psa_s"))},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_published_network_answers_as_before(name, tmp_path):
    network, wrap = FILES[name]
    theirs, ours = shaken(network()), network().eval()
    torch.save(wrap(theirs.state_dict()), tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    assert source.layout.name == name.split()[0]
    assert source.channel_order == "rgb"
    assert f"{1 if name == 'hrnetv2' else 0} keys dropped" in source.report
    count = len(ours.state_dict())
    report = load_source(ours, source, attention_may_miss=False)
    assert f"{count} of {count} keys match, 0 missing, 0 unexpected, 0 of another shape" in report
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = ours(images)
        assert found.isfinite().all()
        assert torch.equal(found, theirs(images))


@pytest.mark.parametrize("name", FILES)
def test_a_key_of_no_known_meaning_is_refused(name):
    network, wrap = FILES[name]
    content = wrap(network().state_dict())
    content = content.get("state_dict") or content.get("model_state") or content
    weights = {re.sub(r"^(module|model)\.", "", key): value for key, value in content.items()}
    layout = detect_layout(weights)
    strangers = ["w", "stage2.0.branches.0.0.deattn.conv_q_right.bias", "backbone.neck.weight", "ocr.cls_head.0.weight"]
    for stranger in [*strangers, "classifier.aspp.convs.5.0.weight", "features.0.0.weight", "backbone.fc.weight"]:
        with pytest.raises(CheckpointError, match=f"key {re.escape(stranger)} does not belong to"):
            convert(weights | {stranger: torch.zeros(1)}, layout)


def test_a_network_that_is_not_whole_is_refused(tmp_path):
    weights = deeplab_mobilenet().state_dict()
    del weights["backbone.high_level_features.9.conv.1.1.running_var"]
    torch.save({"model_state": weights}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"missing backbone\.high_level_features\.9\.conv\.1\.1\.running_var"):
        load_source(deeplab_mobilenet(), read_weights(tmp_path / "a.pth"), True, classes_may_differ=True)


@pytest.mark.parametrize("network", [deeplab_mobilenet, hrnetv2, hrnet_ocr, hmsa])
def test_training_for_other_classes_starts_from_all_but_the_classifiers(network, tmp_path):
    theirs, ours = shaken(network(65)), network(3)
    state = theirs.state_dict()
    torch.save(nvidia(state, "ocrnet.HRNet_Mscale") if network is hmsa else state, tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError, match="another shape"):
        load_source(ours, source, attention_may_miss=True)
    report = load_source(ours, source, attention_may_miss=True, classes_may_differ=True)
    differing = [key for key, value in before.items() if value.shape != state[key].shape]
    assert len(differing) == (4 if network in (hrnet_ocr, hmsa) else 2)
    assert f"left as initialised: {len(differing)} of the classifiers, made for other classes" in report
    assert f"{len(differing)} of the file's left out" in report
    for key, value in ours.state_dict().items():
        assert torch.equal(value, before[key] if key in differing else state[key])


def test_hmsa_with_attention_starts_from_a_plain_network_of_one_scale(tmp_path):
    theirs = shaken(HRNetOCR(8, 3, key_channels=4))
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    source, ours = read_weights(tmp_path / "a.pth"), hmsa(attention="psa_p")
    report = load_source(ours, source, attention_may_miss=True)
    assert "13 of the attention between scales (scale_attn.bn0.bias first)" in report
    assert "520 of attention slots" in report
    with pytest.raises(CheckpointError, match=r"missing scale_attn|missing .*\.attention\."):
        load_source(hmsa(attention="psa_p"), source, attention_may_miss=False)


def test_torchvisions_resnet_is_the_trunk(tmp_path):
    theirs, ours = shaken(resnet50(weights=None)), deeplab_resnet(width=64)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    assert "318 of" in load_source(ours, source, attention_may_miss=True)
    kept = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    found = ours.backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in kept.items())
    assert len(kept) == len(found) == 318


def test_torchvisions_mobilenet_is_the_trunk(tmp_path):
    theirs, ours = shaken(mobilenet_v2(weights=None)), deeplab_mobilenet()
    head = {key: value.clone() for key, value in ours.classifier.state_dict().items()}
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    assert source.layout.name == "torchvision_mobilenet"
    assert "8 keys dropped" in source.report
    assert f"left as initialised: {len(head)} of the head" in load_source(ours, source, attention_may_miss=True)
    layers = [*ours.backbone.low_level_features, *ours.backbone.high_level_features]
    assert len(layers) == 18
    for found, expected in zip(layers, theirs.features[:18], strict=True):
        pairs = zip(found.state_dict().values(), expected.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert all(torch.equal(value, head[key]) for key, value in ours.classifier.state_dict().items())

    weights = theirs.state_dict()
    del weights["features.7.conv.2.weight"]
    torch.save(weights, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"missing backbone\.high_level_features\.7\.conv\.2\.weight"):
        load_source(ours, read_weights(tmp_path / "b.pth"), attention_may_miss=True)


@pytest.mark.parametrize("network", [hrnetv2, hrnet_ocr, hmsa])
def test_hrnets_classifier_is_the_trunk_with_all_four_resolutions(network, tmp_path):
    theirs, ours = shaken(network()), network()
    trunk = {key: value for key, value in theirs.state_dict().items() if re.match(r"(conv\d|bn|layer|tr|stage)", key)}
    trunk = {key: value for key, value in trunk.items() if not key.startswith("conv3x3_ocr")}
    extra = {key: torch.zeros(1) for key in ("incre_modules.0.0.conv1.weight", "classifier.weight", "classifier.bias")}
    torch.save(trunk | extra, tmp_path / "a.pth")
    source = read_weights(tmp_path / "a.pth")
    assert source.layout.name == "hrnet_imagenet"
    report = load_source(ours, source, attention_may_miss=True)
    assert f"{len(trunk)} of {len(ours.state_dict())} keys match" in report
    assert "of the file's left out" not in report
    found = ours.state_dict()
    assert all(torch.equal(found[key], value) for key, value in trunk.items())

    del trunk["stage4.2.fuse_layers.3.2.0.0.weight"]
    torch.save(trunk | extra, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"missing stage4\.2\.fuse_layers\.3\.2\.0\.0\.weight"):
        load_source(network(), read_weights(tmp_path / "b.pth"), attention_may_miss=True)
