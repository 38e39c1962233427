"""psa_p's kernels for a GPU: on one, or else by Triton's interpreter; and when they are taken."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from psa_pose.attention import fused as fused_file
from psa_pose.attention import make_attention
from psa_pose.attention import polarized as module
from psa_pose.attention.fused import WIDEST, can_fuse
from psa_pose.config import load_config
from psa_pose.models import build_model

CASES = Path(__file__).with_name("fused_cases.py")
FAST = [
    "one position",
    "odd channels",
    "one part",
    "more parts than are read at once",
    "shared products",
    "bf16",
    "fp16",
]
FAST += ["more images than are read at once"]
LONG = ["widest", "a large picture"]
# Of the output and the input's gradient, which have the feature's dtype; the weights' are float32 always.
ROUNDING = {"bf16": 8e-3, "fp16": 1e-3}
LIMIT = 2e-6


def measured(names):
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed; it comes with PyTorch's CUDA builds for Linux")
    environment = dict(os.environ)
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run([sys.executable, str(CASES), *names], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    *cases, last = map(json.loads, done.stdout.splitlines())
    assert [case["case"] for case in cases] == names
    return {case["case"]: case["differences"] for case in cases}, last


def check(names):
    cases, last = measured(names)
    for name, differences in cases.items():
        assert len(differences) == 7
        for key, difference in differences.items():
            limit = ROUNDING.get(name, LIMIT) if key in ("output", "input") else LIMIT
            assert difference <= limit, (name, key, difference)
    if torch.cuda.is_available():
        assert last == {"repeated": True}
    else:
        assert last == {"launches": 8 * len(names), "races": 0}


def test_kernels_give_the_output_and_the_gradients_of_the_written_order_and_race_for_nothing():
    check(FAST)


@pytest.mark.slow
def test_kernels_do_so_for_the_widest_feature_and_for_a_large_picture():
    check(LONG)


class Told(torch.Tensor):
    """A tensor that says it is on a GPU, of a subclass as a fake tensor's is."""

    is_cuda = True


def test_a_cpu_and_tensors_that_only_pretend_take_the_operators(monkeypatch):
    # Nothing else stands in their way.
    monkeypatch.setattr(fused_file, "no_triton", lambda _: "")
    assert not can_fuse(torch.empty(1, 16, 2, 2))
    assert not can_fuse(torch.empty(1, 16, 2, 2).as_subclass(Told))


@pytest.fixture
def fused(monkeypatch):
    """As on a GPU with Triton: who asks whether a feature can be fused is told so, and the kernels are counted."""
    calls = []
    monkeypatch.setattr(module, "can_fuse", lambda x: x.shape[1] <= WIDEST)
    monkeypatch.setattr(module, "fused_psa_p", lambda x, *weights: calls.append(weights) or x)
    return calls


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("psa_p", {}, 1),
        ("psa_p", {"spatial": "eq3"}, 1),
        ("psa_p", {"spatial": "fig2"}, 0),
        ("psa_p", {"spatial": "released"}, 0),
        ("psa_p", {"direct": True}, 0),
        ("psa_p", {"fused": False}, 0),
        ("psa_s", {}, 0),
        ("psa_s_plain", {}, 0),
        ("psa_channel", {}, 0),
        ("psa_spatial", {"spatial": "eq3"}, 0),
    ],
)
def test_only_the_released_psa_p_has_kernels(fused, name, options, expected):
    make_attention(name, 16, **options)(torch.randn(2, 16, 3, 2))
    assert len(fused) == expected


def test_weights_that_are_not_float32_take_the_operators(fused):
    make_attention("psa_p", 16).to(torch.bfloat16)(torch.randn(2, 16, 3, 2, dtype=torch.bfloat16))
    assert not fused


def test_kernels_are_given_the_weights_in_their_order(fused):
    block = make_attention("psa_p", 16)
    block(torch.randn(2, 16, 3, 2))
    ((channel, spatial),) = fused
    assert [id(w) for w in channel] == [id(getattr(block.channel, n).weight) for n in ("query", "value", "expand")]
    assert [id(w) for w in spatial] == [id(getattr(block.spatial, n).weight) for n in ("query", "value")]


@pytest.mark.parametrize("word", ["true", "false"])
def test_the_config_turns_them_off(word):
    cfg = load_config("synthetic/quickstart", ["MODEL.ATTENTION.NAME", "psa_p", "GPU.FUSED_PSA", word])
    chosen = {block.fused for block in build_model(cfg).modules() if isinstance(block, module.PolarizedAttention)}
    assert chosen == {word == "true"}
