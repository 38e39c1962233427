"""Another project's network as a checkpoint of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from yacs.config import CfgNode

from psa_pose.checkpoints.content import Spec, checkpoint_content, save_checkpoint
from psa_pose.checkpoints.layouts import load_source, read_weights
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.models import build_model


def convert_checkpoint(
    cfg: CfgNode, spec: Spec, weights: Path, out: Path, channel_order: str | None, info: Callable[[str], None]
) -> None:
    """Write another project's network as a checkpoint of ours, with the input and the config that `cfg` states.

    spec: what the checkpoint says of it.
    channel_order: what the network was trained on, "rgb" or "bgr"; None takes what its layout was published for.
    Raises CheckpointError for a file that does not fill the config's network wholly, and ConfigError where the config
    reads the channels in another order.
    """
    if out.exists():
        raise CheckpointError(f"{out} is there already; remove it or give another --out")
    source = read_weights(weights)
    info(source.report)
    if source.layout is None:
        raise CheckpointError(f"{weights} needs no conversion; give it to tools/test.py --checkpoint as it is")
    if source.layout.imagenet:
        raise CheckpointError(
            f"{weights} is {source.layout.title}, which is a trunk alone; train from it: MODEL.PRETRAINED {weights}"
        )
    if source.layout.name == "nvidia_hrnet_ocr" and cfg.MODEL.NAME == "hrnet_ocr":
        raise ConfigError(
            f"{weights} was trained with enlargements of align_corners=False, hrnet_ocr has those of HRNet's own code; "
            f"train hrnet_ocr_hmsa from it: MODEL.PRETRAINED {weights}"
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
    info(load_source(model, source, attention_may_miss=False))
    save_checkpoint(out, checkpoint_content(cfg, spec, model))
    # No file of these layouts says so: the config is the word for it.
    shown = f"normalised by {list(cfg.INPUT.MEAN)}, {list(cfg.INPUT.STD)}"
    if cfg.TASK == "pose":
        size = "x".join(map(str, cfg.INPUT.SIZE))
        shown = f"input {size}, padding {cfg.INPUT.PADDING:g}, codec {cfg.CODEC.NAME}"
    info(f"wrote {out} as trained with {order} images, {shown}")
