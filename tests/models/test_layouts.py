"""The published networks: state-dict layouts, answers, and the parameter counts of the paper's tables."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from psa_pose.attention import make_attention
from psa_pose.models.complexity import shapes_alone
from psa_pose.models.hrnet import HRNet
from psa_pose.models.resnet import SimpleBaseline

# Number of entries and SHA-256 of the sorted "key shape" lines of the official models.
LAYOUTS = {
    "resnet_50": (338, "2849bec1ec860dd166b58a262077e1d400cb062ba061537387dcce2bcd5d4331"),
    "resnet_101": (644, "99da4ee0587f1444aa0241375168dea846d7f31573fc39856f28751d70d03712"),
    "resnet_152": (950, "c530501af08a0d7c21699b260838f291195e4b7a2d57b886c6a8c60e6acefa76"),
    "hrnet_32": (1754, "b6d62e0de98476dbb11d8f21a0e8eee317b85cfa26ad4c1de92104ec147f3071"),
    "hrnet_48": (1754, "bf0c500246af9dc9f598cf6fef00a810c1893f02ceee09220b050057251c3295"),
}

# Parameters in millions, with 17 maps.
COUNTS = [
    ("resnet_50", None, "all", 34.000),
    ("resnet_50", "psa_s", "all", 36.131),
    ("resnet_50", "psa_channel", "all", 35.261),
    ("resnet_50", "psa_spatial", "all", 35.257),
    ("resnet_50", "psa_p", "all", 36.518),
    ("resnet_50", "psa_s_plain", "all", 36.518),
    ("resnet_152", None, "all", 68.635),
    ("resnet_152", "psa_p", "all", 75.226),
    ("hrnet_32", None, "all", 28.536),
    ("hrnet_32", "psa_p", "basic", 31.364),
    ("hrnet_32", "psa_p", "all", 31.397),
    ("hrnet_48", None, "all", 63.596),
    ("hrnet_48", "psa_p", "basic", 69.951),
    ("hrnet_48", "psa_p", "all", 69.984),
    ("hrnet_48", "psa_s", "all", 69.009),
]


def build(name, **options):
    kind, size = name.split("_")
    with shapes_alone():
        return (SimpleBaseline if kind == "resnet" else HRNet)(int(size), 17, **options)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_the_published_one(name):
    lines = sorted(f"{key} {tuple(t.shape)}" for key, t in build(name).state_dict().items())
    assert (len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()) == LAYOUTS[name]


@pytest.mark.parametrize(("name", "attention", "where", "millions"), COUNTS)
def test_parameter_counts(name, attention, where, millions):
    factory = partial(make_attention, attention) if attention else None
    model = build(name, attention=factory, where=where)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.00051)


@torch.no_grad()
def fill_by_formula(model):
    """The i-th tensor, by key, is a = sin(0.37 * index + i), scaled by the role that its key and rank tell."""
    state = model.state_dict()
    for i, key in enumerate(sorted(state)):
        tensor = state[key]
        if not tensor.is_floating_point():
            continue
        a = torch.from_numpy(np.sin(0.37 * np.arange(tensor.numel()) + i)).view(tensor.shape)
        if tensor.ndim > 1:
            a = a * (2 / np.prod(tensor.shape[1:])) ** 0.5
        elif key.endswith("running_mean"):
            a = 0.05 * a
        else:
            a = 1 + 0.2 * a if key.endswith("running_var") else 1 + 0.1 * a if key.endswith("weight") else 0.02 * a
        tensor.copy_(a)


@pytest.mark.parametrize(("name", "stored"), [("resnet_50", "pose_resnet_50"), ("hrnet_32", "pose_hrnet_w32")])
def test_forward_is_the_published_one(name, stored):
    """Every fourth pixel of each map of the official model's answer."""
    expected = np.load(Path(__file__).parent / "golden_forward.npz")[stored]
    model = build(name).to_empty(device="cpu").eval()
    fill_by_formula(model)
    image = torch.from_numpy(np.sin(0.01 * np.arange(3 * 256 * 192))).float().view(1, 3, 256, 192)
    with torch.inference_mode():
        maps = model(image)
    assert maps.shape == (1, 17, 64, 48)
    difference = np.abs(maps[:, :, ::4, ::4].numpy() - expected).max()
    assert difference < 2e-5 * np.abs(expected).max()
