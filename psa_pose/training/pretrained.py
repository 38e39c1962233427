"""Weights that others trained: the start of a training run, or a whole network to test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn
from yacs.config import CfgNode

from psa_pose.checkpoints.content import Spec
from psa_pose.checkpoints.download import imagenet_weights
from psa_pose.checkpoints.joints import match_joints
from psa_pose.checkpoints.layouts import load_source, read_weights
from psa_pose.errors import CheckpointError


def load_pretrained(cfg: CfgNode, model: nn.Module, spec: Spec, info: Callable[[str], None]) -> None:
    """Start the model from MODEL.PRETRAINED, and say what was taken and what was not.

    spec: what a checkpoint will say of the model. Of a pose network that was trained here on other keypoints the last
    layers' rows are taken by the joints' names.

    Raises CheckpointError for a file that is missing, unknown, or of another network.
    """
    path = Path(cfg.MODEL.PRETRAINED)
    if cfg.MODEL.PRETRAINED == "imagenet":
        own_trunk = cfg.MODEL.NAME == "deeplabv3plus"
        path = imagenet_weights(cfg.MODEL.BACKBONE if own_trunk else f"resnet{cfg.MODEL.DEPTH}")
    if not path.exists():
        raise CheckpointError(
            f"MODEL.PRETRAINED {path} is not there; data/README.md says where published weights come from, or write "
            "MODEL.PRETRAINED '' to train without"
        )
    source = read_weights(path)
    info(source.report)
    ours = spec.sections().get("skeleton", {}).get("names", [])
    if source.joints and list(source.joints) != ours:
        weights, report = match_joints(source.weights, model.state_dict(), source.joints, ours)
        source = replace(source, weights=weights)
        info(report)
    info(load_source(model, source, attention_may_miss=True, classes_may_differ=True))
    if source.channel_order != cfg.INPUT.CHANNEL_ORDER:
        # As the published SimpleBaseline was trained: from RGB weights, on BGR images.
        info(
            f"note: {path} was trained on {source.channel_order} images, this run reads {cfg.INPUT.CHANNEL_ORDER}: "
            "INPUT.CHANNEL_ORDER decides"
        )
