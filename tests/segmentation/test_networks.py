"""The segmentation networks at small widths: sizes, dilation, slots, scales, and building them from a config."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from yacs.config import CfgNode

from psa_pose.attention import make_attention
from psa_pose.errors import ConfigError
from psa_pose.models.blocks import Bottleneck, attention_modules
from psa_pose.models.complexity import shapes_alone
from psa_pose.models.fold import fold_batchnorm
from psa_pose.models.hrnet import HRNet
from psa_pose.models.mobilenet import InvertedResidual, MobileNetV2
from psa_pose.models.resnet import ResNet
from psa_pose.segmentation.networks.build import build_segmentation_model
from psa_pose.segmentation.networks.deeplab import DeepLabV3Plus
from psa_pose.segmentation.networks.hmsa import HMSA
from psa_pose.segmentation.networks.hrnet import HRNetOCR, HRNetV2

PSA = partial(make_attention, "psa_p")

NETWORKS = {
    "mobilenet": lambda: DeepLabV3Plus(MobileNetV2(16), 5, channels=8),
    "resnet": lambda: DeepLabV3Plus(ResNet(50, width=4, output_stride=8), 5, 8, channels=8),
    "hrnetv2": lambda: HRNetV2(4, 5),
    "hrnet_ocr": lambda: HRNetOCR(4, 5, key_channels=8),
    "hmsa": lambda: HMSA(4, 5, scales=(0.5, 1.0), key_channels=8),
}
MAPS_IN_TRAINING = {"mobilenet": 1, "resnet": 1, "hrnetv2": 1, "hrnet_ocr": 2, "hmsa": 4}


def with_signal(network):
    """The network with weights large enough that its answer depends on all of the image."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(64, 96), (75, 101), (33, 40)])
def test_logits_have_the_images_size_and_are_the_last_map_enlarged(name, size):
    network = with_signal(NETWORKS[name]()).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        found, maps = network(images), network.logits(images)
    assert found.shape == (2, 5, *size)
    assert isinstance(maps, tuple)
    assert all(x.shape[:2] == (2, 5) for x in maps)
    expected = F.interpolate(maps[-1], size, mode="bilinear", align_corners=network.align_corners)
    assert torch.allclose(found, expected, atol=1e-6)
    assert network.align_corners == (name in ("hrnetv2", "hrnet_ocr"))


@pytest.mark.parametrize("name", NETWORKS)
def test_in_training_every_map_and_every_weight_takes_part(name):
    network = with_signal(NETWORKS[name]()).train()
    maps = network(torch.randn(2, 3, 64, 96))
    assert isinstance(maps, tuple)
    assert len(maps) == MAPS_IN_TRAINING[name]
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    untouched = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A gate that saturates or a ReLU that is dead may leave one weight out; a part that is not connected leaves many.
    assert len(untouched) <= 2, untouched


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_the_batch_norms_keeps_the_answer(name):
    network = with_signal(NETWORKS[name]()).eval().double()
    folded = fold_batchnorm(network)
    images = torch.randn(1, 3, 75, 101, dtype=torch.float64)
    with torch.no_grad():
        expected = network(images)
        assert torch.allclose(folded(images), expected, atol=1e-9 * float(expected.abs().max()))
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    # The layers of HMSA are called once for each scale, and stay.
    assert (norms == 0) == (name != "hmsa")


@pytest.mark.parametrize("kind", [ResNet, MobileNetV2])
@pytest.mark.parametrize(("stride", "step"), [(16, 2), (8, 4)])
def test_dilation_fills_in_between_what_strides_leave_out(kind, stride, step):
    """At the positions that a stride would have kept, the dilated trunk answers what the strided one does."""
    trunk = partial(kind, 50, width=4) if kind is ResNet else kind
    strided, dilated = trunk(output_stride=32).eval(), trunk(output_stride=stride).eval()
    dilated.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        coarse, fine = strided.features(images)[-1], dilated.features(images)[-1]
    assert coarse.shape != fine.shape
    assert torch.allclose(fine[:, :, ::step, ::step], coarse, atol=1e-5 * float(coarse.abs().max()))


@pytest.mark.parametrize(("stride", "replaced"), [(16, [False, False, True]), (8, [False, True, True])])
def test_the_dilated_resnet_is_torchvisions(stride, replaced):
    theirs = resnet50(weights=None, replace_stride_with_dilation=replaced).eval()
    ours = ResNet(50, output_stride=stride).eval()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        assert torch.equal(ours.features(images)[-1], nn.Sequential(*list(theirs.children())[:-2])(images))


def test_the_trunk_is_that_of_the_pose_network():
    pose, segmentation = HRNet(4, 17).state_dict(), HRNetV2(4, 5).state_dict()
    del pose["final_layer.weight"], pose["final_layer.bias"]
    assert all(segmentation[key].shape == value.shape for key, value in pose.items())
    coarse = {key for key in segmentation if key not in pose and not key.startswith("last_layer.")}
    assert all(key.startswith("stage4.2.fuse_layers.") and key.split(".")[3] in "123" for key in coarse)


def test_where_attention_sits():
    with shapes_alone():
        assert len(attention_modules(ResNet(50, PSA, output_stride=16))) == 16
        assert len(attention_modules(ResNet(101, PSA, output_stride=16))) == 33
        assert len(attention_modules(HRNetOCR(8, 5, PSA, "basic"))) == 104
        assert len(attention_modules(HMSA(8, 5, PSA, "basic"))) == 104
        assert len(attention_modules(HRNetV2(8, 5, PSA, "all"))) == 108
        for where, count in (("all", 17), ("outputs", 10), ("inputs", 3)):
            assert len(attention_modules(MobileNetV2(16, PSA, where))) == count


class Recorder(nn.Module):
    """Stands in for attention: keeps its input and answers twice as much."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        self.seen = x
        return 2 * x


@pytest.mark.parametrize(("where", "channels"), [("all", 48), ("outputs", 8), ("inputs", 8)])
def test_the_slot_of_a_mobilenet_block(where, channels):
    block = InvertedResidual(8, 8, 6, 1, 1, Recorder, where).eval()
    plain = InvertedResidual(8, 8, 6, 1, 1).eval()
    plain.load_state_dict(block.state_dict())
    x = torch.randn(2, 8, 6, 7)
    with torch.no_grad():
        found, expected = block(x), plain(x)
        hidden = plain.conv[:-2](F.pad(x, (1, 1, 1, 1)))
        assert block.attention.channels == channels
        seen = {"all": hidden, "outputs": expected, "inputs": x}[where]
        answers = {"all": x + plain.conv[-2:](2 * hidden), "outputs": 2 * expected, "inputs": plain(2 * x)}
    assert torch.allclose(block.attention.seen, seen, atol=1e-6)
    assert torch.allclose(found, answers[where], atol=1e-6)


def test_the_trunks_batch_norms_have_their_own_momentum():
    network = DeepLabV3Plus(MobileNetV2(16), 5, backbone_momentum=0.03)
    assert {m.momentum for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)} == {0.03}
    assert {m.momentum for m in network.classifier.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def joined_by_hand(network, images, scales):
    """What the paper's figure 2 does, one scale after the other, by its own names."""

    def scaled(x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    def at(scale):
        size = [int(n * scale) for n in images.shape[2:]]
        _, logits, features = network.classify(scaled(images, size))
        return scaled(logits, size), scaled(network.scale_attn(features), size)

    joined, _ = at(max(scales))
    for scale in sorted(scales)[-2::-1]:
        logits, alpha = at(scale)
        if scale >= 1:
            joined = alpha * logits + (1 - alpha) * scaled(joined, logits.shape[2:])
        else:
            joined = scaled(alpha * logits, joined.shape[2:]) + (1 - scaled(alpha, joined.shape[2:])) * joined
    return joined


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (2.0, 0.5, 1.0), (0.25, 0.75, 1.0, 1.5, 1.75)])
def test_scales_are_joined_from_the_largest_down(scales):
    network = with_signal(HMSA(4, 5, scales=scales, key_channels=8)).eval()
    images = torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        found, expected = network(images), joined_by_hand(network, images, scales)
    assert found.shape == (1, 5, 75, 101)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


def test_training_and_evaluation_join_two_scales_alike():
    network = with_signal(HMSA(4, 5, scales=(0.5, 1.0), key_channels=8, dropout=0.0))
    # Only its own mode says what is joined: the batch norms stay as in evaluation.
    network.eval()
    images = torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        network.training = True
        *_, full, joined = network(images)
        network.training = False
        assert torch.equal(network(images), joined)
        assert torch.equal(network.at_scale(images, 1.0)[1], full)


@pytest.mark.parametrize("scales", [(0.5, 2.0), (), (0.0, 1.0), (-1.0, 1.0)])
def test_scales_that_cannot_be_joined_are_refused(scales):
    with pytest.raises(ConfigError, match=r"1\.0 among them"), shapes_alone():
        HMSA(4, 5, scales=scales)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ResNet(50, output_stride=4), r"no ResNet of output stride 4; choose one of \[32, 16, 8\]"),
        (lambda: MobileNetV2(4), r"no MobileNetV2 of output stride 4; choose one of \[8, 16, 32\]"),
        (
            lambda: MobileNetV2(16, PSA, "basic"),
            r"'basic' in a MobileNet; choose one of \['all', 'outputs', 'inputs'\]",
        ),
        (lambda: DeepLabV3Plus(MobileNetV2(32), 5, 32), r"has no output stride 32; choose one of \[16, 8\]"),
    ],
)
def test_what_does_not_exist_is_named(make, says):
    with pytest.raises(ConfigError, match=says), shapes_alone():
        make()


def config(*overrides):
    cfg = CfgNode(
        {
            "MODEL": {
                "NAME": "deeplabv3plus",
                "BACKBONE": "mobilenet_v2",
                "OUTPUT_STRIDE": 16,
                "BACKBONE_BN_MOMENTUM": 0.01,
                "NUM_CLASSES": 5,
                "WIDTH": 0,
                "HEAD_CHANNELS": 8,
                "CHANNELS_LAST": False,
                "ATTENTION": {"NAME": "none", "WHERE": "all", "SPATIAL": "", "DIRECT": False},
            },
            "GPU": {"FUSED_PSA": True},
            "TEST": {"SCALES": [0.5, 1.0]},
        }
    )
    cfg.merge_from_list(list(overrides))
    cfg.freeze()
    return cfg


@pytest.mark.parametrize(
    ("overrides", "kind", "slots"),
    [
        (["MODEL.ATTENTION.WHERE", "inputs"], DeepLabV3Plus, 3),
        (["MODEL.BACKBONE", "resnet50", "MODEL.WIDTH", 8], DeepLabV3Plus, 16),
        (["MODEL.BACKBONE", "resnet101", "MODEL.WIDTH", 8, "MODEL.OUTPUT_STRIDE", 8], DeepLabV3Plus, 33),
        (["MODEL.NAME", "hrnetv2", "MODEL.WIDTH", 8], HRNetV2, 108),
        (["MODEL.NAME", "hrnet_ocr", "MODEL.WIDTH", 8, "MODEL.ATTENTION.WHERE", "basic"], HRNetOCR, 104),
        (["MODEL.NAME", "hrnet_ocr_hmsa", "MODEL.WIDTH", 8, "MODEL.ATTENTION.WHERE", "basic"], HMSA, 104),
    ],
)
def test_networks_are_built_from_a_config(overrides, kind, slots):
    network = build_segmentation_model(config("MODEL.ATTENTION.NAME", "psa_s", *overrides)).eval()
    assert type(network) is kind
    assert len(attention_modules(network)) == slots
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 64)).shape == (1, 5, 64, 64)
    assert attention_modules(build_segmentation_model(config(*overrides))) == []


def test_a_config_reaches_the_network():
    network = build_segmentation_model(config("MODEL.BACKBONE", "resnet50", "MODEL.OUTPUT_STRIDE", 8))
    assert network.backbone.layer4[1].conv2.dilation == (4, 4)
    assert [branch[0].dilation for branch in network.classifier.aspp.convs[1:4]] == [(12, 12), (24, 24), (36, 36)]
    assert network.backbone.bn1.momentum == 0.01
    assert isinstance(network.backbone.layer1[0], Bottleneck)
    scales = build_segmentation_model(config("MODEL.NAME", "hrnet_ocr_hmsa", "MODEL.WIDTH", 8)).scales
    assert scales == (0.5, 1.0)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["MODEL.NAME", "deeplab"], "'deeplab' is not a segmentation network; did you mean 'deeplabv3plus'"),
        (["MODEL.BACKBONE", "resnet5"], "'resnet5' is not a trunk of deeplabv3plus; did you mean 'resnet50'"),
        (
            ["MODEL.BACKBONE", "resnet50", "MODEL.ATTENTION.NAME", "psa_p", "MODEL.ATTENTION.WHERE", "basic"],
            "leaves no block",
        ),
    ],
)
def test_a_config_that_names_nothing_is_refused(overrides, says):
    with pytest.raises(ConfigError, match=says), shapes_alone():
        build_segmentation_model(config(*overrides))
