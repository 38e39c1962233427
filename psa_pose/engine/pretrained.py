"""Weights that others trained: the start of a training run, or a whole network to test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn
from yacs.config import CfgNode

from psa_pose.checkpoints import load_source, read_weights, save_checkpoint
from psa_pose.checkpoints.imagenet import imagenet_resnet
from psa_pose.config.skeleton import build_skeleton
from psa_pose.engine.content import checkpoint_content
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.models import build_model


def load_pretrained(cfg: CfgNode, model: nn.Module, say: Callable[[str], None]) -> None:
    """Start the model from MODEL.PRETRAINED, if it names something, and say what was taken and what was not.

    Raises CheckpointError for a file that is missing, unknown, or of another network.
    """
    if not cfg.MODEL.PRETRAINED:
        return
    path = imagenet_resnet(cfg.MODEL.DEPTH) if cfg.MODEL.PRETRAINED == "imagenet" else Path(cfg.MODEL.PRETRAINED)
    if not path.exists():
        raise CheckpointError(
            f"MODEL.PRETRAINED {path} is not there; data/README.md says where published weights come from, or write "
            "MODEL.PRETRAINED '' to train without"
        )
    source = read_weights(path)
    say(source.report)
    say(load_source(model, source, attention_may_miss=True))
    if source.channel_order != cfg.INPUT.CHANNEL_ORDER:
        # As the published SimpleBaseline was trained: from RGB weights, on BGR images.
        say(
            f"note: {path} was trained on {source.channel_order} images, this run reads {cfg.INPUT.CHANNEL_ORDER}: "
            "INPUT.CHANNEL_ORDER decides"
        )


def convert_checkpoint(
    cfg: CfgNode, weights: Path, out: Path, channel_order: str | None, say: Callable[[str], None]
) -> None:
    """Write another project's pose network as a checkpoint of ours, with the input and the config that `cfg` states.

    channel_order: what the network was trained on, "rgb" or "bgr"; None takes what its layout was published for.
    Raises CheckpointError for a file that does not fill the config's network wholly, and ConfigError where the config
    reads the channels in another order.
    """
    if out.exists():
        raise CheckpointError(f"{out} is there already; remove it or give another --out")
    source = read_weights(weights)
    say(source.report)
    if source.layout is None:
        raise CheckpointError(f"{weights} needs no conversion; give it to tools/test.py --checkpoint as it is")
    if source.layout.imagenet:
        raise CheckpointError(
            f"{weights} is {source.layout.title}, which finds no keypoints; train from it: MODEL.PRETRAINED {weights}"
        )
    order = channel_order or source.channel_order
    if order != cfg.INPUT.CHANNEL_ORDER:
        trained = "as --channel-order says" if channel_order else "as the published networks of its layout were"
        remedy = "" if channel_order else f", or --channel-order {cfg.INPUT.CHANNEL_ORDER} if this one was trained so"
        raise ConfigError(
            f"{weights} was trained on {order} images, {trained}, but INPUT.CHANNEL_ORDER is "
            f"{cfg.INPUT.CHANNEL_ORDER}; write INPUT.CHANNEL_ORDER {order}{remedy}"
        )
    model = build_model(cfg)
    say(load_source(model, source, attention_may_miss=False))
    save_checkpoint(out, checkpoint_content(cfg, build_skeleton(cfg), model, optimizer=None, epoch=0, best=-1.0))
    size = "x".join(map(str, cfg.INPUT.SIZE))
    # No file of these layouts says so: the config is the word for it.
    say(f"wrote {out} as trained with input {size}, padding {cfg.INPUT.PADDING:g}, {order}, codec {cfg.CODEC.NAME}")
