"""Reading the gates of a whole network."""

from functools import partial

import torch

from psa_pose.attention import make_attention
from psa_pose.models.gates import collect_gates, spatial_gate_deviation
from psa_pose.models.resnet import SimpleBaseline


def network(name):
    factory = partial(make_attention, name) if name else None
    return SimpleBaseline(18, 5, factory, deconv_channels=8, width=8).eval()


def test_gates_are_those_that_the_network_applies():
    model, images = network("psa_p"), torch.randn(3, 3, 64, 64)
    before = model(images)
    gates = collect_gates(model, images)
    assert list(gates) == [f"layer{i}.{j}.attention" for i in (1, 2, 3, 4) for j in (0, 1)]
    channel, spatial = gates["layer2.1.attention"]
    assert channel.shape == (3, 16, 1, 1)
    assert spatial.shape == (3, 1, 8, 8)
    block = model.layer2[1]
    seen = {}
    handle = block.attention.register_forward_hook(lambda m, i, out: seen.update(x=i[0], y=out))
    after = model(images)
    handle.remove()
    torch.testing.assert_close(seen["x"] * channel + seen["x"] * spatial, seen["y"])
    assert torch.equal(before, after)
    assert not block.attention._forward_pre_hooks


def test_deviation_is_over_positions():
    gate = torch.tensor([[1.0, 3.0], [5.0, 5.0]]).view(2, 1, 1, 2)
    assert spatial_gate_deviation({"a": (None, gate), "b": (gate, None)}) == {"a": 0.5}


def test_a_network_without_psa_has_no_gates():
    assert collect_gates(network(None), torch.zeros(1, 3, 32, 32)) == {}
    assert collect_gates(network("squeeze_excitation"), torch.zeros(1, 3, 32, 32)) == {}
    one_branch = collect_gates(network("psa_channel"), torch.zeros(1, 3, 32, 32))
    assert all(spatial is None for _, spatial in one_branch.values())
    assert spatial_gate_deviation(one_branch) == {}
