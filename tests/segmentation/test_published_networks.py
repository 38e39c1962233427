"""The published segmentation networks: their layouts, their answers, their training steps and their costs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.models.complexity import GI, count, shapes_alone
from psa_pose.models.mobilenet import MobileNetV2
from psa_pose.segmentation.cityscapes_classes import CLASS_WEIGHTS
from psa_pose.segmentation.losses.build import OutputsLoss
from psa_pose.segmentation.losses.pixelwise import CrossEntropy
from psa_pose.segmentation.losses.rmi import BinaryCrossEntropy, RegionMutualInformation
from psa_pose.segmentation.networks.deeplab import DeepLabV3Plus
from tests.segmentation.published import (
    CITYSCAPES_CLASSES,
    GOLDEN,
    VOC_CLASSES,
    build,
    image,
    labels,
    layout,
    load,
    our_names,
)

# Keys of the published state dict, parameters.
SIZES = {
    "deeplabv3plus_mobilenet": (356, 5.2257),
    "deeplabv3plus_resnet50": (368, 39.7618),
    "deeplabv3plus_resnet50+psa_p": (448, 42.2806),
    "deeplabv3plus_resnet50+psa_s": (528, 41.8928),
    "deeplabv3plus_resnet50+psa_s_plain": (448, 42.2806),
    "deeplabv3plus_resnet101": (674, 58.7540),
    "deeplabv3plus_resnet101+psa_p": (839, 63.5053),
    "seg_hrnet_w48": (1839, 65.8594),
    "seg_hrnet_ocr_w48": (1890, 70.3727),
    "ocrnet.HRNet": (1890, 70.3727),
    "ocrnet.HRNet+psa_p": (2410, 76.7279),
    "ocrnet.HRNet+psa_s": (2930, 75.7572),
    "ocrnet.HRNet_Mscale": (1903, 72.1434),
    "ocrnet.HRNet_Mscale+psa_p": (2423, 78.4986),
    "ocrnet.HRNet_Mscale+psa_s": (2943, 77.5280),
}
QUICK = ("deeplabv3plus_mobilenet", "deeplabv3plus_resnet50+psa_p", "seg_hrnet_ocr_w48", "ocrnet.HRNet_Mscale+psa_s")
MODELS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SIZES]


@pytest.mark.parametrize("model", SIZES)
def test_layout_is_the_published_one_under_our_names(model):
    network = build(model)
    names = our_names(model)
    expected = {names[key]: shape for key, shape in layout(model).items()}
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == expected
    keys, millions = SIZES[model]
    assert len(expected) == keys
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.00006)


@pytest.mark.parametrize("model", [name for name in SIZES if "+" not in name and "ocrnet" not in name])
def test_without_attention_the_keys_are_the_published_ones(model):
    assert all(theirs == ours for theirs, ours in our_names(model).items())


def answers(network, model, size):
    """What the golden data hold of a network's answers to an image, by name: (B, C, H, W), thinned out as there."""
    height, width = map(int, size.split("x"))
    one = size in ("305x337", "75x101")
    images = image(f"image/{size}", (1 if one else 2, 3, height, width))
    if model.startswith("deeplab"):
        step = 4 if size == "305x337" else 1
        (head,) = network.logits(images)
        return {"head": head[:, :, ::step, ::step], "out": network(images[:1])}
    if "Mscale" in model:
        images = images[:1]
        return {
            "two_scale": network.join_scales(images, (0.5, 1.0))[:, :, ::4, ::4],
            "attention_05x": network.at_scale(images, 0.5)[2][:, :, ::2, ::2],
            "scales_0.5_1_2": network(images)[:, :, ::4, ::4],
        }
    *auxiliary, out = network.logits(images)
    found = {"out": out, "pred": network(images)[:, :, ::4, ::4]}
    return found | {"aux": auxiliary[0]} if auxiliary else found


def assert_close(found, expected, what):
    assert found.shape == expected.shape, what
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max(), what


def golden_names(model, output_stride):
    """Sizes and names of the answers that are stored for a model."""
    start = f"{model}/os{output_stride}/" if model.startswith("deeplab") else f"{model}/"
    names = [key.removeprefix(start) for key in np.load(GOLDEN / "forward.npz").files if key.startswith(start)]
    return start, [name.split("/") for name in names]


@pytest.mark.parametrize("model", MODELS)
def test_forward_is_the_published_one(model, request):
    """At every fourth pixel of what is stored here, and wholly where the golden data are beside the repository."""
    stored = np.load(GOLDEN / "forward.npz")
    whole = Path(__file__).parents[2].parent / "shared/golden/segmentation/forward.npz"
    whole = np.load(whole) if whole.is_file() else {}
    compared = 0
    for output_stride in (16, 8) if model.startswith("deeplab") else (16,):
        start, names = golden_names(model, output_stride)
        network = load(build(model, output_stride), model).eval() if names else None
        for size in dict.fromkeys(size for size, _ in names):
            with torch.inference_mode():
                found = {what: x.numpy() for what, x in answers(network, model, size).items()}
            for what in (what for other, what in names if other == size):
                key = f"{start}{size}/{what}"
                assert_close(found[what][:1, :, ::4, ::4], stored[key], key)
                if key in whole:
                    assert_close(found[what], whole[key], key)
                compared += 1
    assert compared >= 2


def sums_and_norms(network, model):
    """Sum and Euclidean norm of every floating tensor of a state dict, by published key."""
    state = network.state_dict()
    return {
        theirs: (float(state[ours].sum()), float(state[ours].norm()))
        for theirs, ours in our_names(model).items()
        if state[ours].is_floating_point()
    }


def assert_same_state(network, model, golden):
    found = sums_and_norms(network, model)
    assert sorted(found) == sorted(golden[f"{model}/keys"].tolist())
    for key, (total, norm) in zip(golden[f"{model}/keys"].tolist(), golden[f"{model}/sum_and_norm"], strict=True):
        assert found[key] == pytest.approx((total, norm), rel=1e-5, abs=1e-5 * norm + 1e-12), key


def train(network, criterion, optimizer, images, targets):
    optimizer.zero_grad()
    loss = criterion(network(images), targets, criterion.size(targets))
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_deeplab_trains_as_published():
    model, golden = "deeplabv3plus_mobilenet", np.load(GOLDEN / "training.npz")
    network = load(build(model, dropout=0.0), model, torch.float64).train()
    groups = [{"params": network.backbone.parameters()}, {"params": network.classifier.parameters()}]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    criterion = OutputsLoss([CrossEntropy()], [1])
    for step, expected in enumerate(golden[f"{model}/loss_f64"]):
        for group, rate in zip(optimizer.param_groups, golden[f"{model}/lr"][step], strict=True):
            group["lr"] = rate
        images = image(f"train/image/{step}", (4, 3, 97, 97), torch.float64)
        targets = labels(f"train/label/{step}", (4, 97, 97), VOC_CLASSES)
        assert train(network, criterion, optimizer, images, targets) == pytest.approx(expected, rel=1e-5)
    assert_same_state(network, model, golden)


@pytest.mark.slow
def test_hrnet_ocr_trains_as_published():
    model, golden = "seg_hrnet_ocr_w48", np.load(GOLDEN / "training.npz")
    network = load(build(model, dropout=0.0), model, torch.float64).train()
    optimizer = torch.optim.SGD(network.parameters(), momentum=0.9, weight_decay=5e-4)
    criterion = OutputsLoss([CrossEntropy(CLASS_WEIGHTS, align_corners=True)] * 2, (0.4, 1))
    for step, expected in enumerate(golden[f"{model}/loss_f64"]):
        optimizer.param_groups[0]["lr"] = golden[f"{model}/lr"][step]
        images = image(f"train/image/{step}", (2, 3, 64, 96), torch.float64)
        targets = labels(f"train/label/{step}", (2, 64, 96), CITYSCAPES_CLASSES)
        assert train(network, criterion, optimizer, images, targets) == pytest.approx(expected, rel=1e-5)
    assert_same_state(network, model, golden)


@pytest.mark.parametrize(
    "attention", [pytest.param("", marks=pytest.mark.slow), pytest.param("+psa_p", marks=pytest.mark.slow), "+psa_s"]
)
def test_hmsa_has_the_published_training_losses(attention):
    model, golden = f"ocrnet.HRNet_Mscale{attention}", np.load(GOLDEN / "training.npz")
    network = load(build(model, dropout=0.0), model).double().train()
    images = image("train/image/0", (2, 3, 64, 96), torch.float64)
    targets = labels("train/label/0", (2, 64, 96), CITYSCAPES_CLASSES)
    with torch.no_grad():
        maps = network(images)
    weights = (0.4, 0.05, 0.05, 1)
    for name, losses in (
        ("loss_ce", [CrossEntropy()] * 4),
        ("loss_rmi", [*[BinaryCrossEntropy()] * 3, RegionMutualInformation()]),
    ):
        criterion = OutputsLoss(losses, weights)
        found = float(criterion(maps, targets, criterion.size(targets)))
        assert found == pytest.approx(float(golden[f"{model}/{name}"]), rel=1e-5), name


# 10^9, convolutions plus two for each element that a batch norm puts out: the rule of the paper's Table 3.
TABLE_3 = {
    "deeplabv3plus_mobilenet": 16.913,
    "deeplabv3plus_resnet50": 62.530,
    "deeplabv3plus_resnet50+psa_p": 65.188,
    "deeplabv3plus_resnet101": 83.212,
    "deeplabv3plus_resnet101+psa_p": 87.696,
}
# 2^30, convolutions alone: the rule of the pose tables, at 2048x1024.
TABLE_5 = {
    "seg_hrnet_w48": 696.18,
    "seg_hrnet_ocr_w48": 1206.37,
    "ocrnet.HRNet+psa_p": 1250.58,
    "ocrnet.HRNet+psa_s": 1250.58,
}
# The same with the scales 0.5 and 1, and with 0.5, 1 and 2.
TABLE_5_SCALES = {
    "ocrnet.HRNet_Mscale": (1778.0, 7467.6),
    "ocrnet.HRNet_Mscale+psa_p": (1833.3, 7699.7),
    "ocrnet.HRNet_Mscale+psa_s": (1833.3, 7699.7),
}


def table_3_flops(network) -> float:
    found = count(network, (513, 513))
    return (found.macs + 2 * found.norm_elements) / 1e9


@pytest.mark.parametrize("model", TABLE_3)
def test_table_3_by_its_own_rule(model):
    with shapes_alone():
        assert table_3_flops(build(model)) == pytest.approx(TABLE_3[model], abs=0.0006)


@pytest.mark.parametrize(("where", "millions", "flops"), [("all", 14.26, 25.1), ("outputs", 5.396, 17.07)])
def test_places_of_attention_in_mobilenet_that_do_not_give_the_printed_row(where, millions, flops):
    network = mobilenet_with_psa(where)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    assert table_3_flops(network) == pytest.approx(flops, abs=0.06)


def test_the_place_of_attention_in_mobilenet_that_gives_the_printed_row():
    network = mobilenet_with_psa("inputs")
    assert int(sum(p.numel() for p in network.parameters()) / 1e4) / 100 == 5.22
    assert round(table_3_flops(network), 1) == 17.1


def mobilenet_with_psa(where):
    from psa_pose.attention import make_attention

    with shapes_alone():
        trunk = MobileNetV2(16, lambda channels: make_attention("psa_p", channels), where)
        return DeepLabV3Plus(trunk, VOC_CLASSES)


@pytest.mark.parametrize("model", TABLE_5)
def test_table_5_sizes(model):
    assert count(build(model), (2048, 1024)).macs / GI == pytest.approx(TABLE_5[model], abs=0.006)


@pytest.mark.parametrize("model", TABLE_5_SCALES)
def test_table_5_sizes_of_scales(model):
    for scales, expected in zip(((0.5, 1.0), (0.5, 1.0, 2.0)), TABLE_5_SCALES[model], strict=True):
        assert count(build(model, scales=scales), (2048, 1024)).macs / GI == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("base", ["deeplabv3plus_resnet50", "deeplabv3plus_resnet101", "ocrnet.HRNet"])
def test_reassociated_psa_p_adds_next_to_nothing(base):
    size = (2048, 1024) if base.startswith("ocrnet") else (513, 513)
    plain, with_psa = (count(build(name), size).executed for name in (base, f"{base}+psa_p"))
    assert 1 < with_psa / plain < 1.005
