"""The counting rules against counts done by hand, and the cost of PSA as it is executed."""

from functools import partial

import pytest
import torch
from torch import nn

from psa_pose.attention import ATTENTIONS, make_attention
from psa_pose.models.blocks import BasicBlock
from psa_pose.models.complexity import count, shapes_alone
from psa_pose.models.hrnet import HRNet
from psa_pose.models.resnet import SimpleBaseline


def meta(network, *args, name=None, **options):
    factory = partial(make_attention, name, **options) if name else None
    with shapes_alone():
        return network(*args, attention=factory)


def test_the_rule_is_weights_times_output_positions():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=True),
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(4 * 12 * 20, 5),
    )
    counted = count(model, (20, 12))
    by_hand = 3 * 8 * 9 * 10 * 6 + 8 * 4 * 16 * 20 * 12 + 4 * 12 * 20 * 5
    assert counted.macs == counted.executed == by_hand
    assert counted.params == 3 * 8 * 9 + 8 + 16 + 8 * 4 * 16 + 4 + 4 * 12 * 20 * 5 + 5
    assert model.training


def test_a_layer_that_is_called_twice_counts_twice_and_one_that_is_not_called_does_not_count():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.used(self.used(x))

    assert count(Network(), (5, 4)).macs == 2 * 9 * 20


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("name", [n for n in ATTENTIONS if n.startswith("psa")])
def test_executed_counts_every_product_inside_the_attention(name, direct):
    c, n = 16, 6 * 8

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = BasicBlock(c, c, attention=partial(make_attention, name, direct=direct))

        def forward(self, x):
            return self.block(x.repeat(1, 6, 1, 1)[:, :c])

    outside = 2 * c * c * 9 * n
    half = c * c // 2
    channel = {"expand": half + 0}
    if name == "psa_s":
        channel["expand"] = c // 2 * (c // 8) + c // 8 * c
    if direct:
        channel |= {"query": c * n, "value": half * n, "pool": c // 2 * n}
        spatial = {"query": half * n, "value": half * n, "gate": c // 2 * n}
    else:
        channel |= {"query": c * n, "pool": c * n, "value": half}
        # The mean rides along with the channel branch's pooling; alone it is a sum, not a product.
        mean = {} if name == "psa_spatial" else {"mean": c * n}
        spatial = {"query": half, "key": half, "gate": c * n} | mean
        if name == "psa_s":
            spatial = {"query": half, "value": half * n, "gate": c // 2 * n} | mean
    parts = [channel] * (name != "psa_spatial") + [spatial] * (name != "psa_channel")
    assert count(Network(), (8, 6)).executed == outside + sum(sum(part.values()) for part in parts)


@pytest.mark.parametrize(("network", "args"), [(SimpleBaseline, (50, 17)), (HRNet, (48, 17))])
def test_psa_adds_almost_nothing_as_executed(network, args):
    plain = count(meta(network, *args), (288, 384))
    psa = count(meta(network, *args, name="psa_p"), (288, 384))
    assert plain.executed == plain.macs
    assert 0 < psa.executed / plain.macs - 1 < 0.005
    assert psa.macs / plain.macs - 1 > 0.03


def test_counting_leaves_the_network_as_it_was():
    model = SimpleBaseline(18, 5, partial(make_attention, "psa_p"), deconv_channels=8, width=8)
    images = torch.randn(2, 3, 64, 64)
    before = model(images)
    count(model, (64, 64))
    assert model.training
    assert not model.layer1[0].attention.direct
    assert not model.layer1[0].attention._forward_pre_hooks
    assert not model.conv1._forward_hooks
    assert torch.equal(model(images), before)
