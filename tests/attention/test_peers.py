"""The blocks that PSA is compared with, each against its paper's equation written out in float64."""

import pytest
import torch

from psa_pose.attention import make_attention
from psa_pose.errors import ConfigError

PEERS = ("non_local", "global_context", "squeeze_excitation", "cbam", "dual", "efficient")
IDENTITY_AT_FIRST = {"non_local", "global_context", "dual", "efficient"}


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def linear(weights, key, vectors):
    """(B, C) -> (B, D), by the layer `key`."""
    return vectors @ weights[f"{key}.weight"].flatten(1).T + weights[f"{key}.bias"]


def project(weights, key, x):
    """The 1x1 convolution `key` of (B, C, H, W): (B, positions, D)."""
    return linear(weights, key, x.flatten(2).transpose(1, 2))


def to_maps(rows, x):
    """(B, positions, C) -> (B, C, H, W)."""
    return rows.transpose(1, 2).reshape(x.shape)


def non_local(w, x):
    q, k, v = (project(w, key, x) for key in ("query", "key", "value"))
    similarity = torch.einsum("bie,bje->bij", q, k).softmax(2)
    return x + to_maps(linear(w, "expand", torch.einsum("bij,bjd->bid", similarity, v)), x)


def global_context(w, x):
    attention = project(w, "key", x).softmax(1)
    hidden = linear(w, "reduce", torch.einsum("bno,bcn->bc", attention, x.flatten(2)))
    centred = hidden - hidden.mean(1, keepdim=True)
    normal = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * w["norm.weight"] + w["norm.bias"]
    return x + linear(w, "expand", normal.clamp_min(0))[..., None, None]


def squeeze_excitation(w, x):
    hidden = linear(w, "reduce", x.sum((2, 3)) / x[0, 0].numel()).clamp_min(0)
    return x * sigmoid(linear(w, "expand", hidden))[..., None, None]


def cbam(w, x):
    def mlp(vector):
        return linear(w, "expand", linear(w, "reduce", vector).clamp_min(0))

    x = x * sigmoid(mlp(x.flatten(2).mean(2)) + mlp(x.flatten(2).max(2).values))[..., None, None]
    pooled = torch.nn.functional.pad(torch.stack([x.mean(1), x.max(1).values], 1), (3, 3, 3, 3))
    windows = pooled.unfold(2, 7, 1).unfold(3, 7, 1)
    return x * sigmoid(torch.einsum("bihwyx,iyx->bhw", windows, w["spatial.weight"][0]))[:, None]


def dual(w, x):
    q, k, v = (project(w, key, x) for key in ("query", "key", "value"))
    position = torch.einsum("bij,bjc->bic", torch.einsum("bie,bje->bij", q, k).softmax(2), v)
    flat = x.flatten(2)
    channel = torch.einsum("bcd,bdn->bcn", torch.einsum("bcn,bdn->bcd", flat, flat).softmax(2), flat)
    return x + w["position_scale"] * to_maps(position, x) + w["channel_scale"] * channel.view(x.shape)


def efficient(w, x):
    q, k, v = (project(w, key, x) for key in ("query", "key", "value"))
    # In the order that makes the whole positions x positions matrix.
    weights = torch.einsum("bie,bje->bij", q.softmax(2), k.softmax(1))
    return x + to_maps(linear(w, "expand", torch.einsum("bij,bjd->bid", weights, v)), x)


EQUATIONS = {f.__name__: f for f in (non_local, global_context, squeeze_excitation, cbam, dual, efficient)}


def randomised(name, channels, **options):
    """A block none of whose parameters is at a special value such as 0."""
    module = make_attention(name, channels, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "size"), [(16, (6, 5)), (32, (1, 1)), (20, (9, 2))])
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_follows_its_equation(name, channels, size, memory_format):
    module = randomised(name, channels)
    x = torch.randn(2, channels, *size).to(memory_format=memory_format)
    output = module(x)
    assert output.shape == x.shape
    assert output.dtype == x.dtype
    weights = {key: value.double() for key, value in module.state_dict().items()}
    torch.testing.assert_close(output, EQUATIONS[name](weights, x.double()).float(), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PEERS)
def test_every_parameter_is_learned_and_the_start_is_as_published(name):
    module = make_attention(name, 32)
    x = torch.randn(2, 32, 6, 5)
    assert torch.equal(module(x), x) == (name in IDENTITY_AT_FIRST)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module(x).square().sum().backward()
    # A softmax over positions ignores what is added to all of them.
    blind = {"key.bias"} if name in ("non_local", "global_context", "dual", "efficient") else set()
    for key, parameter in module.named_parameters():
        assert key in blind or parameter.grad.abs().max() > 1e-8, key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PEERS)
def test_peers_keep_the_dtype_under_autocast(name, dtype):
    module = randomised(name, 16)
    x = torch.randn(2, 16, 6, 5)
    with torch.autocast("cpu", dtype=dtype):
        output = module(x.to(dtype))
    assert output.dtype == dtype
    assert output.isfinite().all()
    torch.testing.assert_close(output.float(), module(x), atol=0.15, rtol=0.1)


@pytest.mark.parametrize(("name", "published"), [("squeeze_excitation", 16), ("global_context", 8), ("cbam", 8)])
def test_reductions(name, published):
    assert make_attention(name, 64).reduce.weight.shape == (64 // published, 64)
    assert make_attention(name, 64, reduction=4).reduce.weight.shape == (16, 64)
    assert make_attention(name, 4).reduce.weight.shape == (1, 4)


def test_options_of_another_block_are_refused():
    with pytest.raises(ConfigError, match="no option 'direct'"):
        make_attention("non_local", 16, direct=True)
    with pytest.raises(ConfigError, match="did you mean 'reduction'"):
        make_attention("cbam", 16, reductoin=4)
