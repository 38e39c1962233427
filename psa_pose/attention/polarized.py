"""Polarized Self-Attention (PSA): Liu, Liu, Fan, Huang, arXiv 2107.00782, equations 2 to 5.

A channel gate (B, C, 1) and a spatial gate (B, 1, N) scale the feature X (B, C, N), N = H * W, side by side (parallel,
Eq. 4) or one after the other (sequential, Eq. 5). Three definitions of the gates circulate; here each has a name:

channel gate   sigmoid(Wz (Wv X . softmax_N(Wq X))), Eq. 2; Wz is one bias-free 1x1 convolution, or the bottleneck of
               the released PSA_s: C/2 -> C/8, LayerNorm, ReLU, C/8 -> C, with biases.
spatial gate   "eq3": sigmoid(softmax_N(mean_N(Wq X) . Wv X)), Eq. 3 and the released PSA_p. It lies in (0.5, 0.7311).
               "fig2": sigmoid(softmax_C(mean_N(Wq X)) . Wv X), the paper's Figure 2 as most copies read it.
               "released": sigmoid(mean_N(Wq X) . softmax_N(Wv X)), the released PSA_s.

Every product above is linear before its collapse, so by default it is re-associated: (Wv X) s = Wv (X s), mean(Wq X) =
Wq mean(X), q (Wv X) = (q Wv) X. The same parameters and, up to rounding, the same result, for O(C N + C^2) instead of
O(C^2 N) operations and without any C/2 x N tensor. Only "released" needs Wv X, because its softmax acts on it.
`direct=True` evaluates in the written order instead; the tests compare the two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from psa_pose.attention.fused import can_fuse, fused_psa_p
from psa_pose.errors import ConfigError

SPATIAL_FORMS = ("eq3", "fig2", "released")
LAYOUTS = ("parallel", "sequential")


class PolarizedAttention(nn.Module):
    """(B, C, H, W) -> the same shape, dtype and memory format, for any H and W.

    channel, spatial: the gates; at least one. layout: "parallel" adds the two gated features; "sequential" feeds the
    channel-gated feature to the spatial gate. direct: evaluate in the written order. fused: on a GPU the released psa_p
    by its own kernels (fused.py). Raises ConfigError without a gate or for another layout.
    """

    def __init__(
        self,
        channel: ChannelGate | None,
        spatial: SpatialGate | None,
        layout: str = "parallel",
        direct: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        if channel is None and spatial is None:
            raise ConfigError("polarized attention without a gate does nothing; give it a channel or a spatial gate")
        if layout not in LAYOUTS:
            raise ConfigError(f"layout {layout!r} is not known; choose one of {list(LAYOUTS)}")
        self.channel = channel
        self.spatial = spatial
        self.layout = layout
        self.direct = direct
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if self.fused and self._is_released_psa_p() and can_fuse(x):
            return self._fused(x)
        flat = x.flatten(2)
        channel, spatial = self._gates(flat)
        return _apply(flat, channel, spatial, self.layout).view(x.shape)

    def gates(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gates of x (B, C, H, W): channel (B, C, 1, 1) and spatial (B, 1, H, W), None where there is none.

        In the sequential layout the spatial gate is that of the channel-gated feature.
        """
        channel, spatial = self._gates(x.flatten(2))
        return None if channel is None else channel[..., None], None if spatial is None else spatial.unflatten(
            2, x.shape[2:]
        )

    def extra_repr(self) -> str:
        return f"layout={self.layout}, direct={self.direct}"

    def _is_released_psa_p(self) -> bool:
        """The one form that has kernels of its own."""
        if self.direct or self.layout != "parallel" or self.channel is None or self.spatial is None:
            return False
        weight = self.channel.query.weight
        return (
            isinstance(self.channel.expand, nn.Conv2d) and self.spatial.form == "eq3" and weight.dtype == torch.float32
        )

    def _fused(self, x: Tensor) -> Tensor:
        channel, spatial = cast(ChannelGate, self.channel), cast(SpatialGate, self.spatial)
        weights = channel.query.weight, channel.value.weight, cast(nn.Conv2d, channel.expand).weight
        return fused_psa_p(x, weights, (spatial.query.weight, spatial.value.weight))

    def _gates(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        channel, spatial = self._direct_gates(x) if self.direct else self._pooled_gates(x)
        # One dtype for the feature and what scales it: under autocast a softmax may answer in float32.
        return None if channel is None else channel.to(x.dtype), None if spatial is None else spatial.to(x.dtype)

    def _direct_gates(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        channel = None if self.channel is None else self.channel.direct(x)
        if self.spatial is None:
            return channel, None
        if channel is not None and self.layout == "sequential":
            x = x * channel.to(x.dtype)
        return channel, self.spatial.direct(x)

    def _pooled_gates(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if self.channel is None:
            return None, cast(SpatialGate, self.spatial)(x, x.mean(2))
        attention = self.channel.attention(x)
        if self.spatial is None:
            return self.channel(torch.bmm(attention, x.transpose(1, 2)).squeeze(1)), None
        context, mean = _pool_both(x, attention)
        channel = self.channel(context)
        # The spatial gate of the scaled feature needs only the scale, not the feature.
        scale = channel.squeeze(2) if self.layout == "sequential" else None
        return channel, self.spatial(x, mean, scale)


class ChannelGate(nn.Module):
    """The channel-only branch, Eq. 2: X (B, C, N) -> gate (B, C, 1) in (0, 1).

    bottleneck: the released PSA_s's Wz instead of one convolution. Raises ConfigError below 2 channels (bottleneck: 8).
    """

    def __init__(self, channels: int, bottleneck: bool = False) -> None:
        super().__init__()
        inner = _inner_channels(channels, 8 if bottleneck else 2)
        self.query = _convolution(channels, 1)
        self.value = _convolution(channels, inner)
        self.expand = (
            _bottleneck(inner, channels // 8, channels) if bottleneck else nn.Conv2d(inner, channels, 1, bias=False)
        )

    def attention(self, x: Tensor) -> Tensor:
        """softmax_N(Wq X): (B, C, N) -> (B, 1, N)."""
        query = self.query.weight.flatten(1).expand(x.shape[0], 1, -1)
        return torch.bmm(query, x).softmax(2)

    def forward(self, context: Tensor) -> Tensor:
        """The gate from the attended feature X . softmax_N(Wq X) (B, C)."""
        inner = _project(self.value, context)
        if isinstance(self.expand, nn.Conv2d):
            return _project(self.expand, inner).sigmoid().unsqueeze(2)
        return self.expand(inner[..., None, None]).sigmoid().squeeze(3)

    def direct(self, x: Tensor) -> Tensor:
        """The gate from X, in the order of Eq. 2."""
        attention = _convolve(self.query, x).softmax(2)
        inner = torch.bmm(_convolve(self.value, x), attention.transpose(1, 2))
        return self.expand(inner.unsqueeze(3)).sigmoid().squeeze(3)


class SpatialGate(nn.Module):
    """The spatial-only branch: X (B, C, N) -> gate (B, 1, N) in (0, 1).

    form: one of SPATIAL_FORMS, see the module's docstring. Raises ConfigError for another, and below 2 channels.
    """

    def __init__(self, channels: int, form: str = "eq3") -> None:
        super().__init__()
        if form not in SPATIAL_FORMS:
            raise ConfigError(f"spatial form {form!r} is not known; choose one of {list(SPATIAL_FORMS)}")
        inner = _inner_channels(channels, 2)
        self.form = form
        self.query = _convolution(channels, inner)
        self.value = _convolution(channels, inner)

    def forward(self, x: Tensor, mean: Tensor, scale: Tensor | None = None) -> Tensor:
        """The gate of X, or of X * scale, from X and its mean over positions (B, C); scale (B, C)."""
        query = _project(self.query, mean if scale is None else mean * scale)
        value = self.value.weight.flatten(1)
        if self.form == "released":
            values = value.expand(x.shape[0], -1, -1) if scale is None else value * scale.unsqueeze(1)
            return self._gate(query, torch.bmm(values, x))
        if self.form == "fig2":
            query = query.softmax(1)
        key = F.linear(query, value.t())
        return self._squash(torch.bmm((key if scale is None else key * scale).unsqueeze(1), x))

    def direct(self, x: Tensor) -> Tensor:
        """The gate from X, in the order of the equations."""
        query = _convolve(self.query, x).mean(2)
        return self._gate(query.softmax(1) if self.form == "fig2" else query, _convolve(self.value, x))

    def _gate(self, query: Tensor, value: Tensor) -> Tensor:
        """From the pooled query (B, C/2) and the values (B, C/2, N)."""
        if self.form == "released":
            value = value.softmax(2)
        return self._squash(torch.bmm(query.unsqueeze(1), value))

    def _squash(self, logits: Tensor) -> Tensor:
        return (logits.softmax(2) if self.form == "eq3" else logits).sigmoid()

    def extra_repr(self) -> str:
        return f"form={self.form}"


def _apply(x: Tensor, channel: Tensor | None, spatial: Tensor | None, layout: str) -> Tensor:
    """Scale x (B, C, N) by the gates (B, C, 1) and (B, 1, N): the sum of both, or one after the other."""
    if channel is None or spatial is None:
        return x * cast(Tensor, spatial if channel is None else channel)
    return cast(Tensor, _Scale.apply(x, channel, spatial, torch.add if layout == "parallel" else torch.mul))


class _Scale(torch.autograd.Function):
    """x (B, C, N) times combine(channel (B, C, 1), spatial (B, 1, N)), `combine` torch.add or torch.mul.

    Autograd by itself would keep a C x N tensor for the backward pass, or walk over x about twice as often.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, channel: Tensor, spatial: Tensor, combine: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(x, channel, spatial)
        ctx.combine = combine
        if torch.compiler.is_compiling():
            return _product(x, channel, spatial, combine)
        # Written into the layout of x; in place, because passes over memory are what this costs.
        return combine(channel, spatial, out=torch.empty_like(x)).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, channel, spatial = ctx.saved_tensors
        product = x * gradient
        if ctx.combine is torch.add:
            for_channel, for_spatial = product.sum(2, keepdim=True), product.sum(1, keepdim=True)
        else:
            for_channel = torch.bmm(product, spatial.transpose(1, 2))
            for_spatial = torch.bmm(channel.transpose(1, 2), product)
        if torch.compiler.is_compiling():
            return _product(gradient, channel, spatial, ctx.combine), for_channel, for_spatial, None
        return ctx.combine(channel, spatial, out=product).mul_(gradient), for_channel, for_spatial, None


def _product(x: Tensor, channel: Tensor, spatial: Tensor, combine: Callable[..., Tensor]) -> Tensor:
    """What a compiler is shown: it breaks its graph at an `out` that is channels-last, and saves the passes itself."""
    return x * combine(channel, spatial)


def _pool_both(x: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    """One pass over x (B, C, N): its sum weighted by attention (B, 1, N), and its mean; each (B, C).

    The mean comes from a row of weights 1/64: exact in every floating dtype, where 1 / N is not, and small enough that
    the sum of a large map stays within float16.
    """
    batch, _, n = x.shape
    uniform = attention.new_full((1, 1, 1), 1 / 64).expand(batch, 1, n)
    pooled = torch.bmm(torch.cat([attention, uniform], dim=1), x.transpose(1, 2))
    return pooled[:, 0], pooled[:, 1] * (64 / n)


def _inner_channels(channels: int, least: int) -> int:
    if channels < least:
        raise ConfigError(f"this polarized attention needs at least {least} channels; the block has {channels}")
    return channels // 2


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A bias-free 1x1 convolution with He's fan-in initialisation (arXiv 1502.01852), as released."""
    layer = nn.Conv2d(inputs, outputs, 1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    return layer


def _bottleneck(inner: int, reduced: int, channels: int) -> nn.Sequential:
    """(B, inner, 1, 1) -> (B, channels, 1, 1), through `reduced` normalised channels."""
    layers: list[tuple[str, nn.Module]] = [
        ("reduce", nn.Conv2d(inner, reduced, 1)),
        ("norm", nn.LayerNorm([reduced, 1, 1])),
        ("relu", nn.ReLU(inplace=True)),
        ("restore", nn.Conv2d(reduced, channels, 1)),
    ]
    return nn.Sequential(OrderedDict(layers))


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The 1x1 convolution of x (B, C, N) as a convolution: (B, outputs, N)."""
    return layer(x.unsqueeze(3)).squeeze(3)


def _project(layer: nn.Conv2d, vectors: Tensor) -> Tensor:
    """The bias-free 1x1 convolution of one position: (B, inputs) -> (B, outputs)."""
    return F.linear(vectors, layer.weight.flatten(1))
