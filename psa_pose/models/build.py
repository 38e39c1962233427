"""From a config to a network: the only place in this room that reads a config. Touches neither disk nor network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.attention import make_attention
from psa_pose.codecs import CODECS
from psa_pose.errors import ConfigError, closest
from psa_pose.models.blocks import AttentionFactory, attention_modules
from psa_pose.models.cpn import CPN
from psa_pose.models.hourglass import Hourglass
from psa_pose.models.hrnet import HRNet
from psa_pose.models.resnet import SimpleBaseline

_Network = Callable[[CfgNode, AttentionFactory | None], nn.Module]


def build_model(cfg: CfgNode) -> nn.Module:
    """The network that `cfg.MODEL` describes: images (B, 3, H, W) -> maps (B, output_channels(cfg), H / 4, W / 4); for
    TASK segmentation -> logits (B, MODEL.NUM_CLASSES, H, W), see `psa_pose.segmentation.networks.build`.

    In training mode a network with intermediate supervision (hourglass, cpn) answers a tuple of such maps, coarse to
    final; `psa_pose.losses.supervised` takes either. Weights are initialised, not loaded. Raises ConfigError for a
    name, depth, width or attention that does not exist, and for an attention that would be placed in no block at all.
    """
    if cfg.get("TASK") == "segmentation":
        # Its networks stand on this room's trunks, so its room is above this one: asked for, not imported at the top.
        from psa_pose.segmentation.networks.build import build_segmentation_model

        return build_segmentation_model(cfg)
    return build_network(cfg, NETWORKS, "a network")


def build_network(cfg: CfgNode, networks: Mapping[str, _Network], kind: str) -> nn.Module:
    """The one of the networks that `cfg.MODEL.NAME` names, with its attention, in the memory format that it states.

    kind: what the networks are, for the message. Raises ConfigError as `build_model` does.
    """
    name = cfg.MODEL.NAME
    if name not in networks:
        raise ConfigError(f"MODEL.NAME {name!r} is not {kind}; {closest(name, networks)}")
    model = networks[name](cfg, attention_factory(cfg))
    _check_attention(cfg, model)
    # Left to the device ("auto"), it is `psa_pose.device.place` that decides.
    if cfg.MODEL.CHANNELS_LAST is True:
        model.to(memory_format=torch.channels_last)
    return model


def output_channels(cfg: CfgNode) -> int:
    """Number of maps: one per keypoint, or three (class, x offset, y offset) for the udp_offset codec."""
    return cfg.MODEL.NUM_JOINTS * CODECS[cfg.CODEC.NAME].channels_per_joint


def _check_attention(cfg: CfgNode, model: nn.Module) -> None:
    """Raise ConfigError where `cfg.MODEL.ATTENTION` names a block, and none of the model's has a place for it."""
    if cfg.MODEL.ATTENTION.NAME != "none" and not attention_modules(model):
        raise ConfigError(
            f"MODEL.ATTENTION.WHERE {cfg.MODEL.ATTENTION.WHERE!r} leaves no block for MODEL.ATTENTION.NAME "
            f"{cfg.MODEL.ATTENTION.NAME!r}: this network has no such blocks; write MODEL.ATTENTION.WHERE all"
        )


def attention_factory(cfg: CfgNode) -> AttentionFactory | None:
    """Channels -> the block that `cfg.MODEL.ATTENTION` names, with the options that are set; None for "none"."""
    node = cfg.MODEL.ATTENTION
    if node.NAME == "none":
        return None
    options: dict[str, Any] = {}
    if node.SPATIAL:
        options["spatial"] = node.SPATIAL
    if node.DIRECT:
        options["direct"] = True
    if node.NAME == "psa_p" and not cfg.GPU.FUSED_PSA:
        options["fused"] = False
    return lambda channels: make_attention(node.NAME, channels, **options)


def _simple_baseline(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    where = cfg.MODEL.ATTENTION.WHERE
    width = cfg.MODEL.WIDTH or 64
    return SimpleBaseline(cfg.MODEL.DEPTH, output_channels(cfg), attention, where, cfg.MODEL.HEAD_CHANNELS, width)


def _hrnet(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    return HRNet(cfg.MODEL.WIDTH or 32, output_channels(cfg), attention, cfg.MODEL.ATTENTION.WHERE)


def _hourglass(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    where = cfg.MODEL.ATTENTION.WHERE
    return Hourglass(cfg.MODEL.STACKS, output_channels(cfg), attention, where, cfg.MODEL.WIDTH or 256)


def _cpn(cfg: CfgNode, attention: AttentionFactory | None) -> nn.Module:
    where = cfg.MODEL.ATTENTION.WHERE
    width = cfg.MODEL.WIDTH or 64
    return CPN(cfg.MODEL.DEPTH, output_channels(cfg), attention, where, cfg.MODEL.HEAD_CHANNELS, width)


NETWORKS: dict[str, _Network] = {
    "simple_baseline": _simple_baseline,
    "hrnet": _hrnet,
    "hourglass": _hourglass,
    "cpn": _cpn,
}
