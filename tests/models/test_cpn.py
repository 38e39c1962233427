"""The Cascaded Pyramid Network: shapes, supervision, the attention slots, published figures, and whether it learns."""

from functools import partial

import pytest
import torch
from torch import nn

from psa_pose.attention import make_attention
from psa_pose.errors import ConfigError
from psa_pose.losses import heatmap_mse, heatmap_mse_ohkm, supervised
from psa_pose.models.blocks import BasicBlock, Bottleneck, attention_modules, conv1x1
from psa_pose.models.complexity import count, shapes_alone
from psa_pose.models.cpn import CPN, GlobalNet


def tiny(attention=None, where="all", depth=18):
    return CPN(depth, 5, attention, where, channels=16, width=8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (64, 160)])
@pytest.mark.parametrize("depth", [18, 50])
def test_a_tuple_of_maps_in_training_and_the_last_in_evaluation(depth, height, width):
    model = tiny(depth=depth)
    images = torch.randn(2, 3, height, width)
    outputs = model(images)
    assert isinstance(outputs, tuple)
    assert [tuple(maps.shape) for maps in outputs] == [(2, 5, height // 4, width // 4)] * 5
    final = model.eval()(images)
    assert final.shape == outputs[-1].shape
    pyramid = model.global_net(model.resnet.features(images))
    assert torch.equal(final, model.refine_net(pyramid))


def test_maps_of_the_pyramid_come_coarse_to_fine():
    pyramid = [torch.randn(1, 8, 16 // 2**i, 16 // 2**i) for i in range(4)]
    net = GlobalNet((8, 16, 32, 64), 8, 3).eval()
    answers = net.maps(pyramid)
    assert torch.equal(answers[-1], net.heads[0](pyramid[0]))
    coarsest = nn.functional.interpolate(net.heads[3](pyramid[3]), size=(16, 16), mode="bilinear")
    torch.testing.assert_close(answers[0], coarsest)


def test_the_1x1_convolution_commutes_with_the_upsampling():
    """The released network upsamples first; the pyramid here is the same function."""
    x, layer = torch.randn(2, 6, 5, 4), conv1x1(6, 7)
    up = partial(nn.functional.interpolate, scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(up(layer(x)), layer(up(x)))


@pytest.mark.parametrize("attention", [None, "psa_p"])
def test_the_loss_reaches_every_parameter(attention):
    model = tiny(partial(make_attention, attention) if attention else None)
    images, targets = torch.randn(2, 3, 64, 64), torch.rand(2, 5, 16, 16)
    supervised(heatmap_mse, model(images), targets, torch.ones(2, 5), partial(heatmap_mse_ohkm, topk=2)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ("depth", "where", "places"), [(50, "all", 16 + 7), (18, "all", 8 + 7), (18, "basic", 8), (50, "basic", 0)]
)
def test_attention_fills_the_blocks_of_trunk_and_refinement_and_changes_no_other_key(depth, where, places):
    with shapes_alone():
        plain = CPN(depth, 17)
        made = CPN(depth, 17, partial(make_attention, "psa_p"), where)
    assert len(attention_modules(made)) == places
    blocks = [m for m in made.modules() if isinstance(m, BasicBlock if where == "basic" else BasicBlock | Bottleneck)]
    assert len(blocks) == places
    assert [key for key in made.state_dict() if ".attention." not in key] == list(plain.state_dict())


def test_the_initialisation_leaves_attention_alone_and_starts_maps_near_zero():
    made = []

    def factory(channels):
        module = make_attention("psa_s", channels)
        made.append((module, {key: w.clone() for key, w in module.state_dict().items()}))
        return module

    model = CPN(18, 17, factory, channels=64, width=16)
    assert len(made) == 15
    for module, weights in made:
        assert all(torch.equal(w, weights[key]) for key, w in module.state_dict().items())
    assert model.refine_net.mix.conv2.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    for layer in (model.refine_net.final_layer, *(head[-1] for head in model.global_net.heads)):
        assert layer.weight.std() < 0.002
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("attention", "params", "macs"),
    [(None, 27_008_917, 6_605_242_368), ("psa_p", 29_757_909, 7_017_177_088)],
)
def test_parameters_and_multiply_adds(attention, params, macs):
    """The pose tables print 27.0 M and 6.2 G (macs / 2^30) for the first."""
    factory = partial(make_attention, attention, direct=True) if attention else None
    with shapes_alone():
        found = count(CPN(50, 17, factory), (192, 256))
    assert (found.params, found.macs) == (params, macs)


def test_it_learns():
    model = CPN(18, 3, channels=16, width=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    images, targets, weights = torch.randn(4, 3, 64, 64), torch.zeros(4, 3, 16, 16), torch.ones(4, 3)
    for person, rows in enumerate((slice(2, 5), slice(5, 8), slice(8, 11), slice(11, 14))):
        targets[person, :, rows, 5:8] = 1
        images[person, :, 4 * rows.start : 4 * rows.stop, 20:32] += 2
    for _ in range(40):
        loss = supervised(heatmap_mse, model(images), targets, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    empty = heatmap_mse(torch.zeros_like(targets), targets, weights)
    assert heatmap_mse(model.eval()(images), targets, weights) < 0.25 * empty


@pytest.mark.parametrize("channels", [0, 7])
def test_channels_must_be_even(channels):
    with pytest.raises(ConfigError, match="even number"):
        CPN(18, 5, channels=channels, width=8)
