"""How many kernels attention adds to a training step: of a block, and of a network by its blocks."""

import pytest
import torch
from torch import nn

from psa_pose.attention import make_attention
from psa_pose.benchmark.launches import count_launches
from psa_pose.config import load_config
from psa_pose.models.complexity import meta_model

META = torch.device("meta")
BLOCKS = {"psa_p": 47, "psa_p:fig2": 47, "psa_s": 62, "psa_s_plain": 55, "psa_channel": 23, "psa_spatial": 21}


def launches(network: nn.Module, x: torch.Tensor) -> int:
    """Of a forward and a backward pass, as a training step has them: the gradients are set to None before."""

    def passes():
        network.zero_grad(set_to_none=True)
        x.grad = None
        y = network(x)
        torch.autograd.backward(y, torch.empty_like(y))

    return count_launches(passes, META)


def test_a_block_launches_no_more_kernels_than_the_page_says():
    found = {}
    for name in BLOCKS:
        kind, _, form = name.partition(":")
        with META:
            block = make_attention(kind, 16, **({"spatial": form} if form else {}))
        found[name] = launches(block, torch.empty(2, 16, 6, 5, device=META, requires_grad=True))
    assert found == BLOCKS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "where", "plain", "blocks"),
    [
        ("simple_baseline/simple_baseline_r50_256x192", "all", 420, 16),
        ("hrnet/hrnet_w32_256x192", "basic", 2362, 104),
        ("hrnet/hrnet_w48_384x288", "basic", 2362, 104),
    ],
)
def test_attention_adds_to_a_network_what_its_blocks_launch(config, where, plain, blocks):
    images, words = torch.empty(2, 3, 64, 64, device=META), ["MODEL.ATTENTION.WHERE", where]
    found = {
        name: launches(meta_model(load_config(f"coco/{config}", ["MODEL.ATTENTION.NAME", name, *more])), images)
        for name, more in (("none", []), ("psa_p", words), ("psa_s", words))
    }
    assert found == {"none": plain, **{name: plain + blocks * BLOCKS[name] for name in ("psa_p", "psa_s")}}
