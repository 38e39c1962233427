"""Blocks, their attention slot, initialisation, and networks built from a config."""

from functools import partial

import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.attention import make_attention
from psa_pose.attention.polarized import PolarizedAttention
from psa_pose.errors import ConfigError
from psa_pose.models import build_model, output_channels
from psa_pose.models.blocks import BasicBlock, Bottleneck, attention_modules
from psa_pose.models.complexity import shapes_alone
from psa_pose.models.hrnet import HRNet
from psa_pose.models.resnet import SimpleBaseline


class Constant(nn.Module):
    """Stands in for attention: answers 1 + the channel count everywhere, and remembers what it was given."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        self.seen = x.clone()
        return torch.full_like(x, 1.0 + self.channels)


def config(*overrides):
    cfg = CfgNode(
        {
            "MODEL": {
                "NAME": "hrnet",
                "DEPTH": 18,
                "WIDTH": 8,
                "HEAD_CHANNELS": 16,
                "STACKS": 2,
                "CHANNELS_LAST": False,
                "NUM_JOINTS": 5,
                "ATTENTION": {"NAME": "none", "WHERE": "all", "SPATIAL": "", "DIRECT": False},
            },
            "GPU": {"FUSED_PSA": True},
            "CODEC": {"NAME": "standard"},
        }
    )
    cfg.merge_from_list(list(overrides))
    cfg.freeze()
    return cfg


@pytest.mark.parametrize(("block", "convs"), [(BasicBlock, ("1", "2")), (Bottleneck, ("2", "3"))])
def test_the_slot_sits_after_the_first_3x3(block, convs):
    before, after = convs
    module = block(8 * block.expansion, 8, attention=Constant).eval()
    taken = {}
    getattr(module, f"bn{before}").register_forward_hook(lambda m, i, out: taken.update(before=out.clone()))
    getattr(module, f"conv{after}").register_forward_pre_hook(lambda m, i: taken.update(after=i[0].clone()))
    module(torch.randn(2, 8 * block.expansion, 6, 4))
    assert torch.equal(module.attention.seen, taken["before"].relu())
    assert torch.equal(taken["after"], torch.full((2, 8, 6, 4), 9.0))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_leaves_its_input_alone(block):
    x = torch.randn(2, 8 * block.expansion, 6, 4)
    kept = x.clone()
    out = block(8 * block.expansion, 8)(x)
    assert torch.equal(x, kept)
    assert out.shape == x.shape
    assert block(3, 8, stride=2)(torch.randn(1, 3, 8, 6)).shape == (1, 8 * block.expansion, 4, 3)


def test_hrnet_places():
    factory = partial(make_attention, "psa_p")
    with shapes_alone():
        assert len(attention_modules(HRNet(8, 17, factory, "all"))) == 108
        assert len(attention_modules(HRNet(8, 17, factory, "basic"))) == 104
        assert not attention_modules(HRNet(8, 17))


@pytest.mark.parametrize(("depth", "blocks"), [(18, 8), (34, 16), (50, 16), (101, 33), (152, 50)])
def test_resnet_places_at_planes_width(depth, blocks):
    with shapes_alone():
        filled = attention_modules(SimpleBaseline(depth, 17, Constant))
    assert len(filled) == blocks
    assert sorted({m.channels for m in filled}) == [64, 128, 256, 512]


@pytest.mark.parametrize(
    "make",
    [
        lambda attention: HRNet(16, 17, attention),
        lambda attention: SimpleBaseline(18, 17, attention, width=16, deconv_channels=32),
    ],
)
def test_the_models_initialisation_leaves_attention_alone(make):
    made = []

    def factory(channels):
        module = make_attention("psa_s", channels)
        made.append((module, {key: w.clone() for key, w in module.state_dict().items()}))
        return module

    model = make(factory)
    assert len(made) == len(attention_modules(model))
    for module, weights in made:
        assert all(torch.equal(w, weights[key]) for key, w in module.state_dict().items())
    assert model.final_layer.weight.std() < 0.002
    assert not model.final_layer.bias.any()


def test_initial_weights():
    hrnet = HRNet(32, 17)
    assert hrnet.stage3[0].branches[1][0].conv1.weight.std().item() == pytest.approx(0.001, rel=0.05)
    resnet = SimpleBaseline(18, 17)
    assert resnet.deconv_layers[0].weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert resnet.layer2[0].conv2.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("name", "codec", "maps"), [("hrnet", "standard", 5), ("simple_baseline", "udp_offset", 15)])
def test_images_to_maps_of_a_quarter(name, codec, maps):
    cfg = config("MODEL.NAME", name, "CODEC.NAME", codec, "MODEL.ATTENTION.NAME", "psa_p")
    assert output_channels(cfg) == maps
    model = build_model(cfg)
    out = model(torch.randn(2, 3, 64, 96))
    assert out.shape == (2, maps, 16, 24)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_config_reaches_every_slot():
    cfg = config("MODEL.ATTENTION.NAME", "psa_s", "MODEL.ATTENTION.SPATIAL", "fig2", "MODEL.ATTENTION.DIRECT", True)
    filled = attention_modules(build_model(cfg))
    assert all(isinstance(m, PolarizedAttention) and m.direct and m.spatial.form == "fig2" for m in filled)
    preset = attention_modules(build_model(config("MODEL.ATTENTION.NAME", "psa_s", "MODEL.ATTENTION.WHERE", "basic")))
    assert len(preset) == 104
    assert all(m.spatial.form == "released" and not m.direct for m in preset)
    assert not attention_modules(build_model(config()))


@pytest.mark.parametrize(("name", "maps"), [("hourglass", 2), ("cpn", 5)])
def test_networks_with_intermediate_supervision(name, maps):
    model = build_model(config("MODEL.NAME", name, "MODEL.ATTENTION.NAME", "psa_p", "CODEC.NAME", "udp_offset"))
    images = torch.randn(2, 3, 64, 128)
    assert [tuple(out.shape) for out in model(images)] == [(2, 15, 16, 32)] * maps
    assert model.eval()(images).shape == (2, 15, 16, 32)


def test_widths_of_networks_with_intermediate_supervision():
    with shapes_alone():
        assert build_model(config("MODEL.NAME", "hourglass", "MODEL.WIDTH", 0)).layer3.conv3.out_channels == 256
        assert len(build_model(config("MODEL.NAME", "hourglass", "MODEL.STACKS", 3)).stacks) == 3
        wide = build_model(config("MODEL.NAME", "cpn", "MODEL.WIDTH", 0, "MODEL.DEPTH", 50))
    assert wide.resnet.channels == (256, 512, 1024, 2048)
    assert wide.refine_net.final_layer.in_channels == 16


@pytest.mark.parametrize("name", ["hrnet", "simple_baseline"])
def test_reassociation_does_not_change_a_network(name):
    maps = []
    state = None
    for direct in (False, True):
        cfg = config("MODEL.NAME", name, "MODEL.ATTENTION.NAME", "psa_p", "MODEL.ATTENTION.DIRECT", direct)
        model = build_model(cfg).eval()
        state = state or model.state_dict()
        model.load_state_dict(state)
        torch.manual_seed(1)
        nn.init.normal_(model.final_layer.weight)
        with torch.inference_mode():
            maps.append(model(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))))
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-4, atol=1e-5 * maps[1].abs().max().item())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("MODEL.NAME", "hrnets"), "did you mean 'hrnet'"),
        (("MODEL.NAME", "simple_baseline", "MODEL.DEPTH", 51), "depth 51"),
        (("MODEL.ATTENTION.NAME", "psa"), "psa_p"),
        (("MODEL.ATTENTION.NAME", "psa_p", "MODEL.ATTENTION.WHERE", "bottleneck"), "'bottleneck'"),
        (
            (
                *("MODEL.NAME", "simple_baseline", "MODEL.DEPTH", 50),
                *("MODEL.ATTENTION.NAME", "psa_p", "MODEL.ATTENTION.WHERE", "basic"),
            ),
            "no such blocks",
        ),
        (
            ("MODEL.NAME", "hourglass", "MODEL.ATTENTION.NAME", "psa_p", "MODEL.ATTENTION.WHERE", "basic"),
            "no such blocks",
        ),
        (("MODEL.NAME", "hourglass", "MODEL.WIDTH", 18), "multiple of 4"),
        (("MODEL.NAME", "cpn", "MODEL.HEAD_CHANNELS", 5), "even number"),
    ],
)
def test_errors_name_the_remedy(overrides, message):
    with shapes_alone(), pytest.raises(ConfigError, match=message):
        build_model(config(*overrides))


def test_network_compiles_without_graph_breaks():
    torch._dynamo.reset()
    cfg = config("MODEL.NAME", "simple_baseline", "MODEL.ATTENTION.NAME", "psa_p")
    model = build_model(cfg).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(images), model(images))
