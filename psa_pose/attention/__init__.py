"""Attention blocks: (B, C, H, W) to the same shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from psa_pose.attention.cbam import CBAM
from psa_pose.attention.dual import DualAttention
from psa_pose.attention.efficient import EfficientAttention
from psa_pose.attention.global_context import GlobalContext
from psa_pose.attention.non_local import NonLocal
from psa_pose.attention.polarized import ChannelGate, PolarizedAttention, SpatialGate
from psa_pose.attention.squeeze_excitation import SqueezeExcitation
from psa_pose.errors import CheckpointError, ConfigError, closest

__all__ = ["ATTENTIONS", "RELEASED_KEYS", "PolarizedAttention", "load_released", "make_attention"]


def make_attention(name: str, channels: int, **options: Any) -> nn.Module:
    """The attention block of that name for C = `channels`: (B, C, H, W) -> the same shape.

    names: psa_p, psa_s (the released modules), psa_s_plain (the branches of psa_p in sequence, the row PSA(s) of the
    paper's Table 6), psa_channel, psa_spatial (one branch); and what the paper compares it with: non_local,
    global_context, squeeze_excitation, cbam, dual, efficient.
    options of the psa family: direct=False (True evaluates in the written order) and, but for psa_channel, spatial=
    "eq3" | "fig2" | "released" (psa_s has "released" by default, the others "eq3"). fused=True, psa_p only: on a GPU by
    kernels of its own (fused.py), where it can be. reduction=n: squeeze_excitation (16), global_context and cbam (8).
    Raises ConfigError on an unknown name, option or spatial form, and on too few channels.
    """
    if name not in ATTENTIONS:
        raise ConfigError(f"attention {name!r} is not known; {closest(name, ATTENTIONS)}")
    known = [p for p in inspect.signature(ATTENTIONS[name]).parameters if p != "channels"]
    for option in options:
        if option not in known:
            remedy = closest(option, known) if known else "it has none: leave it out"
            raise ConfigError(f"attention {name!r} has no option {option!r}; {remedy}")
    return ATTENTIONS[name](channels, **options)


def psa_p(channels: int, spatial: str = "eq3", direct: bool = False, fused: bool = True) -> PolarizedAttention:
    """Parallel layout, Eq. 4; as released with spatial="eq3"."""
    return PolarizedAttention(ChannelGate(channels), SpatialGate(channels, spatial), "parallel", direct, fused)


def psa_s(channels: int, spatial: str = "released", direct: bool = False) -> PolarizedAttention:
    """Sequential layout with the bottleneck; as released with spatial="released"."""
    gates = ChannelGate(channels, bottleneck=True), SpatialGate(channels, spatial)
    return PolarizedAttention(*gates, "sequential", direct)


def psa_s_plain(channels: int, spatial: str = "eq3", direct: bool = False) -> PolarizedAttention:
    """Sequential layout, Eq. 5, of psa_p's branches: the parameters of Table 6's PSA(s)."""
    return PolarizedAttention(ChannelGate(channels), SpatialGate(channels, spatial), "sequential", direct)


def psa_channel(channels: int, direct: bool = False) -> PolarizedAttention:
    """The channel-only branch, Eq. 2."""
    return PolarizedAttention(ChannelGate(channels), None, direct=direct)


def psa_spatial(channels: int, spatial: str = "eq3", direct: bool = False) -> PolarizedAttention:
    """The spatial-only branch, Eq. 3."""
    return PolarizedAttention(None, SpatialGate(channels, spatial), direct=direct)


ATTENTIONS: dict[str, Callable[..., nn.Module]] = {
    "psa_p": psa_p,
    "psa_s": psa_s,
    "psa_s_plain": psa_s_plain,
    "psa_channel": psa_channel,
    "psa_spatial": psa_spatial,
    "non_local": NonLocal,
    "global_context": GlobalContext,
    "squeeze_excitation": SqueezeExcitation,
    "cbam": CBAM,
    "dual": DualAttention,
    "efficient": EfficientAttention,
}

# Names of the released PSA modules (github.com/DeLightCMU/PSA) -> ours.
RELEASED_KEYS = {
    "conv_q_right.weight": "channel.query.weight",
    "conv_v_right.weight": "channel.value.weight",
    "conv_up.weight": "channel.expand.weight",
    "conv_up.0.weight": "channel.expand.reduce.weight",
    "conv_up.0.bias": "channel.expand.reduce.bias",
    "conv_up.1.weight": "channel.expand.norm.weight",
    "conv_up.1.bias": "channel.expand.norm.bias",
    "conv_up.3.weight": "channel.expand.restore.weight",
    "conv_up.3.bias": "channel.expand.restore.bias",
    "conv_q_left.weight": "spatial.query.weight",
    "conv_v_left.weight": "spatial.value.weight",
}


def load_released(module: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of one released PSA module (github.com/DeLightCMU/PSA), under its names, into ours.

    module: of the psa family; a one-branch module takes exactly its own branch's keys. Raises CheckpointError, and
    loads nothing, on a key that is unknown or missing or a tensor of another shape.
    """
    own = module.state_dict()
    renamed = {}
    for key, tensor in state_dict.items():
        if RELEASED_KEYS.get(key) not in own:
            raise CheckpointError(f"released key {key!r} has no place in this module; it takes {_released_keys(own)}")
        renamed[RELEASED_KEYS[key]] = tensor
    for released, ours in RELEASED_KEYS.items():
        if ours not in own:
            continue
        if ours not in renamed:
            raise CheckpointError(f"released key {released!r} is missing; this module takes {_released_keys(own)}")
        if renamed[ours].shape != own[ours].shape:
            raise CheckpointError(
                f"released key {released!r} has shape {tuple(renamed[ours].shape)}, this module needs "
                f"{tuple(own[ours].shape)}; build it for the channels that the weights were made for"
            )
    module.load_state_dict(renamed)


def _released_keys(own: Mapping[str, Tensor]) -> str:
    return ", ".join(released for released, ours in RELEASED_KEYS.items() if ours in own)
