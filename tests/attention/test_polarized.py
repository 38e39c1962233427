"""Polarized attention against the released modules' answers, against its equations, and against itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psa_pose.attention import ATTENTIONS, load_released, make_attention
from psa_pose.attention.polarized import ChannelGate, PolarizedAttention, SpatialGate
from psa_pose.errors import CheckpointError, ConfigError

VARIANTS = [
    *((name, {"spatial": form}) for name in ("psa_p", "psa_s", "psa_s_plain", "psa_spatial") for form in
      ("eq3", "fig2", "released")),
    ("psa_channel", {}),
]  # fmt: skip
IDS = ["-".join([name, *options.values()]) for name, options in VARIANTS]


@pytest.fixture(scope="module")
def golden():
    """Input, weights under their released names, and output of the two released modules, 32 channels."""
    return np.load(Path(__file__).parent / "golden_psa_released.npz")


def released_weights(golden, name):
    prefix = f"{name}/weights/"
    return {key.removeprefix(prefix): torch.from_numpy(golden[key]) for key in golden if key.startswith(prefix)}


def twins(name, channels, **options):
    """The re-associated and the direct module, with the same weights."""
    ours, direct = (make_attention(name, channels, direct=d, **options) for d in (False, True))
    direct.load_state_dict(ours.state_dict())
    return ours, direct


def by_the_equations(module, x):
    """Equations 2 to 5 in einsum, float64, from the module's weights alone."""
    weights = {key: w.double() for key, w in module.state_dict().items()}
    shape, x = x.shape, x.double().flatten(2)
    result = torch.zeros_like(x)

    def project(key, feature):
        return torch.einsum("oi,bin->bon", weights[key].flatten(1), feature)

    if module.channel is not None:
        attended = torch.einsum(
            "bcn,bn->bc",
            project("channel.value.weight", x),
            project("channel.query.weight", x)[:, 0].softmax(1),
        )[..., None]
        if "channel.expand.weight" in weights:
            logits = project("channel.expand.weight", attended)
        else:
            part = {key.removeprefix("channel.expand."): w.flatten() for key, w in weights.items() if "expand" in key}
            reduced = project("channel.expand.reduce.weight", attended) + part["reduce.bias"][:, None]
            centred = reduced - reduced.mean(1, keepdim=True)
            normal = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
            normal = normal * part["norm.weight"][:, None] + part["norm.bias"][:, None]
            logits = project("channel.expand.restore.weight", normal.relu()) + part["restore.bias"][:, None]
        result = x / (1 + (-logits).exp())
        if module.layout == "sequential":
            x, result = result, torch.zeros_like(x)
    if module.spatial is not None:
        query = project("spatial.query.weight", x).mean(2)
        value = project("spatial.value.weight", x)
        if module.spatial.form == "fig2":
            query = query.softmax(1)
        if module.spatial.form == "released":
            value = value.softmax(2)
        logits = torch.einsum("bc,bcn->bn", query, value)[:, None]
        result = result + x / (1 + (-(logits.softmax(2) if module.spatial.form == "eq3" else logits)).exp())
    return result.view(shape).float()


def relative(a, b):
    a, b = a.double(), b.double()
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("name", ["psa_p", "psa_s"])
def test_released_weights_give_the_released_output(golden, name, direct):
    module = make_attention(name, 32, direct=direct)
    load_released(module, released_weights(golden, name))
    output = module(torch.from_numpy(golden[f"{name}/input"]))
    torch.testing.assert_close(output, torch.from_numpy(golden[f"{name}/output"]), atol=5e-6, rtol=1e-5)


def test_one_branch_takes_its_own_released_keys(golden):
    weights = released_weights(golden, "psa_p")
    x = torch.from_numpy(golden["psa_p/input"])
    total = torch.zeros_like(x)
    for name, side in (("psa_channel", ("right", "up")), ("psa_spatial", ("left",))):
        module = make_attention(name, 32)
        load_released(module, {k: w for k, w in weights.items() if any(word in k for word in side)})
        total += module(x)
        with pytest.raises(CheckpointError, match="no place"):
            load_released(module, weights)
    torch.testing.assert_close(total, torch.from_numpy(golden["psa_p/output"]), atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w | {"conv_extra.weight": torch.zeros(1)}, "conv_extra.weight"),
        (lambda w: {k: v for k, v in w.items() if k != "conv_up.weight"}, "conv_up.weight"),
        (lambda w: w | {"conv_up.weight": torch.zeros(32, 8, 1, 1)}, r"\(32, 8, 1, 1\)"),
        (lambda w: {f"module.{k}": v for k, v in w.items()}, "module."),
    ],
)
def test_released_loading_is_strict_and_all_or_nothing(golden, change, message):
    module = make_attention("psa_p", 32)
    before = {key: w.clone() for key, w in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_released(module, change(released_weights(golden, "psa_p")))
    assert all(torch.equal(w, before[key]) for key, w in module.state_dict().items())


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
@pytest.mark.parametrize("direct", [False, True])
def test_every_variant_follows_its_equations(name, options, direct):
    module = make_attention(name, 16, direct=direct, **options)
    x = torch.randn(2, 16, 7, 5)
    torch.testing.assert_close(module(x), by_the_equations(module, x), atol=1e-5, rtol=1e-4)


def forward_and_backward(module, x, weight):
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    output = module(leaf)
    module.zero_grad()
    (output * weight).sum().backward()
    return output, {"x": leaf.grad, **{key: p.grad for key, p in module.named_parameters()}}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
@pytest.mark.parametrize(
    ("shape", "memory_format"),
    [
        ((2, 48, 16, 12), torch.contiguous_format),
        ((1, 40, 7, 5), torch.channels_last),
        ((3, 42, 1, 1), torch.contiguous_format),
    ],
)
def test_reassociated_equals_direct_forward_and_backward(name, options, shape, memory_format, dtype, tolerance):
    ours, direct = (module.to(dtype) for module in twins(name, shape[1], **options))
    x = torch.randn(shape, dtype=dtype).relu().contiguous(memory_format=memory_format)
    weight = torch.randn(shape, dtype=dtype)
    (output, grads), (expected, expected_grads) = (forward_and_backward(m, x, weight) for m in (ours, direct))
    assert output.is_contiguous(memory_format=memory_format)
    assert relative(output, expected) < tolerance
    scale = max(g.abs().max().item() for g in expected_grads.values())
    for key, grad in grads.items():
        assert (grad - expected_grads[key]).abs().max() <= 5 * tolerance * scale, key


@settings(max_examples=20, deadline=None)
@given(
    variant=st.sampled_from(VARIANTS),
    batch=st.integers(1, 3),
    channels=st.integers(8, 40),
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    seed=st.integers(0, 99),
)
def test_any_shape(variant, batch, channels, height, width, seed):
    torch.manual_seed(seed)
    ours, direct = twins(variant[0], channels, **variant[1])
    x = torch.randn(batch, channels, height, width)
    y = ours(x)
    assert y.shape == x.shape
    assert relative(y, direct(x)) < 1e-5


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_autocast_stays_within_the_rounding_of_its_dtype(name, options):
    ours, direct = twins(name, 32, **options)
    x = torch.randn(2, 32, 16, 12).bfloat16()
    reference = direct(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        for module in (ours, direct):
            y = module(x)
            assert y.dtype == torch.bfloat16
            assert relative(y, reference) < 0.02
    assert ours(x.float()).dtype == torch.float32


def test_double_precision_and_gradcheck():
    for name, options in VARIANTS:
        module = make_attention(name, 8, **options).double()
        x = torch.randn(1, 8, 3, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(module, (x,), fast_mode=True)


@pytest.mark.parametrize("name", ["psa_p", "psa_s"])
def test_the_wide_products_are_never_built(name):
    """Nothing of C/2 x N elements is kept for the backward pass: psa_p keeps X and small things only."""
    kept: list[int] = []

    def keep(tensor):
        kept.append(tensor.shape[1] if tensor.ndim == 3 and tensor.shape[-1] == 192 else 0)
        return tensor

    module = make_attention(name, 32, spatial="fig2")
    x = torch.randn(2, 32, 16, 12, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        module(x)
    assert 16 not in kept
    assert 32 in kept


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_compiles_without_graph_breaks(name, options):
    torch._dynamo.reset()
    module = make_attention(name, 16, **options)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    # The layout of networks in training; a whole network is compiled in the other one in `tests/models`.
    x, weight = (torch.randn(2, 16, 6, 5).contiguous(memory_format=torch.channels_last) for _ in range(2))
    (output, grads), (expected, expected_grads) = (forward_and_backward(m, x, weight) for m in (compiled, module))
    assert output.stride() == expected.stride()
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(grads.pop("x"), expected_grads.pop("x"))
    assert list(grads.values())
    assert all(g is not None for g in grads.values())


@pytest.mark.parametrize("direct", [False, True])
def test_gates_scale_the_feature(direct):
    x = torch.randn(2, 16, 9, 4)
    for name in ("psa_p", "psa_s", "psa_s_plain"):
        module = make_attention(name, 16, direct=direct)
        channel, spatial = module.gates(x)
        assert channel.shape == (2, 16, 1, 1)
        assert spatial.shape == (2, 1, 9, 4)
        expected = x * channel + x * spatial if name == "psa_p" else x * channel * spatial
        torch.testing.assert_close(module(x), expected)
    assert make_attention("psa_channel", 16).gates(x)[1] is None
    assert make_attention("psa_spatial", 16).gates(x)[0] is None


def test_eq3_gate_is_narrow_and_fig2_is_not():
    """A softmax over positions inside a sigmoid: (0.5, 0.7311), and nearly constant on a large map."""
    x = torch.randn(2, 64, 64, 48).relu()
    spread = {}
    for form in ("eq3", "fig2"):
        gate = make_attention("psa_spatial", 64, spatial=form).gates(x)[1]
        spread[form] = gate.std().item()
        if form == "eq3":
            assert gate.min() >= 0.5
            assert gate.max() <= 0.7311
    assert spread["eq3"] < 0.005
    assert spread["fig2"] > 10 * spread["eq3"]


def test_initialisation_is_fan_in():
    gate = make_attention("psa_p", 256)
    for weight in (gate.channel.value.weight, gate.spatial.query.weight, gate.spatial.value.weight):
        assert weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_attention("psa_pp", 16), "psa_p'"),
        (lambda: make_attention("none", 16), "not known"),
        (lambda: make_attention("psa_p", 16, spatal="eq3"), "'spatial'"),
        (lambda: make_attention("psa_channel", 16, spatial="eq3"), "'direct'"),
        (lambda: make_attention("psa_p", 16, channels=8), "'channels'"),
        (lambda: make_attention("psa_p", 16, spatial="eq2"), "eq3"),
        (lambda: make_attention("psa_s", 4), "at least 8"),
        (lambda: make_attention("psa_p", 1), "at least 2"),
        (lambda: PolarizedAttention(None, None), "gate"),
        (lambda: PolarizedAttention(ChannelGate(8), SpatialGate(8), "serial"), "serial"),
    ],
)
def test_errors_name_the_remedy(make, message):
    with pytest.raises((ConfigError, TypeError), match=message):
        make()


def test_every_name_keeps_the_shape():
    for name in ATTENTIONS:
        assert make_attention(name, 24)(torch.randn(1, 24, 5, 3)).shape == (1, 24, 5, 3)
