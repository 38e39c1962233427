"""A network asked under a protocol: pictures in, each pixel's class out; shared by tests, `Segmenter` and tools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from psa_pose.device import autocast, channels_last
from psa_pose.errors import ConfigError, closest
from psa_pose.predict import Normalization
from psa_pose.segmentation.inference.protocols import PROTOCOL_WORDS, Network, flipped, multi_scale_scores, padded
from psa_pose.segmentation.networks.build import align_corners
from psa_pose.segmentation.networks.hmsa import HMSA

Labeller = Callable[[Tensor], Tensor]
"""Pictures (B, H, W, 3) uint8, in the network's channel order, on any device -> labels (B, H, W) uint8 on its own."""


def build_normalization(cfg: CfgNode, device: torch.device) -> Normalization:
    """Of the config's pictures."""
    return Normalization.of(cfg.INPUT.MEAN, cfg.INPUT.STD, device, channels_last(cfg, device))


def build_labeller(cfg: CfgNode, model: nn.Module, protocol: str, device: torch.device) -> Labeller:
    """The network under a protocol of TEST.PROTOCOLS; crop: of pictures that are cut already."""
    scores, normalization = build_scores(cfg, model, protocol), build_normalization(cfg, device)
    precision = cfg.TEST.PRECISION
    model.eval()

    @torch.inference_mode()
    def label(pictures: Tensor) -> Tensor:
        images = normalization(pictures)
        with autocast(precision, images.device):
            answer = scores(images)
        return answer.float().argmax(1).to(torch.uint8)

    return label


def build_scores(cfg: CfgNode, model: nn.Module, protocol: str) -> Network:
    """Images (B, 3, H, W), normalised -> scores (B, C, H, W), as TEST says."""
    if protocol not in PROTOCOL_WORDS:
        raise ConfigError(f"{protocol!r} is no protocol; {closest(protocol, PROTOCOL_WORDS)}")
    test, network = cfg.TEST, one_scale(model, protocol)
    if protocol in ("full", "hmsa", "crop"):
        return padded(network, test.PAD_TO)
    if protocol == "flip":
        return flipped(padded(network, test.PAD_TO))
    return partial(
        multi_scale_scores,
        flipped(network),
        scales=test.SCALES,
        base_size=test.BASE_SIZE or None,
        window=test.WINDOW if max(test.WINDOW) else None,
        step=test.STEP if max(test.STEP) else None,
        join=test.JOIN,
        align_corners=align_corners(cfg),
    )


def usual_protocol(cfg: CfgNode, flip: bool) -> str:
    """What a command that names no protocol asks the config's network under: HMSA's joins its scales itself.

    flip: any other network is shown the mirrored picture too.
    """
    if cfg.MODEL.NAME == "hrnet_ocr_hmsa":
        return "hmsa"
    return "flip" if flip else "full"


def one_scale(model: nn.Module, protocol: str) -> Network:
    """The network at the image's own scale, but for protocol hmsa, under which HMSA's joins its scales."""
    if isinstance(model, HMSA):
        return model if protocol == "hmsa" else lambda images: model.join_scales(images, (1.0,))
    if protocol == "hmsa":
        raise ConfigError("protocol hmsa is of hrnet_ocr_hmsa, which joins scales; ask this network under full")
    return model
