"""What has to be known beside a network to use it: what it is shown, what it answers, what its keypoints are.

A checkpoint says it as sections of its own; an exported file carries it as JSON.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from psa_pose.checkpoints import load_checkpoint, load_weights
from psa_pose.checkpoints.spec import check_content
from psa_pose.codecs import CODECS, Codec, make_codec
from psa_pose.codecs.build import build_codec
from psa_pose.config import parse_config
from psa_pose.errors import CheckpointError, PsaPoseError
from psa_pose.models import build_model
from psa_pose.skeleton import Skeleton, make_skeleton

FORMAT = 1
KEY = "psa_pose"
"""Under which the JSON stands in an ONNX file's metadata, or as a file of a torch.export archive."""

_ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class Facts:
    """All but the weights, as plain values.

    skeleton: as `Skeleton.as_dict`. codec, codec_options: for `make_codec`. input_size, heatmap_size: (width, height),
    pixels. padding: of the box. channel_order: "rgb" or "bgr", as the network itself wants it. mean, std: of pixel /
    255 by its channel index. keypoint_score: joints above it count in a person's score. channels_last: as trained.
    """

    skeleton: dict[str, Any]
    codec: str
    codec_options: dict[str, float]
    input_size: tuple[int, int]
    heatmap_size: tuple[int, int]
    padding: float
    channel_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    keypoint_score: float
    channels_last: bool = False

    def make_codec(self) -> Codec:
        """The codec of these sizes."""
        return make_codec(self.codec, self.input_size, self.heatmap_size, **self.codec_options)

    def make_skeleton(self, source: object) -> Skeleton:
        """The keypoints; source: what states them, for messages."""
        return make_skeleton(self.skeleton, str(source))


@dataclass(frozen=True)
class ExportSpec:
    """Facts, and what the graph of an exported file does.

    keypoints: it also decodes. flip: it averages with the mirrored crop. quantized: "none", "dynamic" or "static".
    """

    facts: Facts
    keypoints: bool
    flip: bool
    quantized: str = "none"

    def to_json(self, versions: dict[str, str]) -> str:
        """The JSON that `read_exported` reads back; versions: of the programs that made the file."""
        return json.dumps({"format": FORMAT, **asdict(self), "versions": versions})


def read_trained(path: str | Path) -> tuple[nn.Module, Facts]:
    """A checkpoint's network with its weights, on the CPU, and its facts. Raises CheckpointError for an unfit file."""
    content = load_checkpoint(path)
    check_content(content, path)
    cfg = parse_config(content["config"], f"checkpoint {path}")
    shown = _shown(content["input"], path)
    if [list(cfg.INPUT.SIZE), cfg.INPUT.CHANNEL_ORDER] != [shown["SIZE"], shown["CHANNEL_ORDER"]]:
        raise CheckpointError(f"checkpoint {path} contradicts itself on its input; use another one")
    skeleton = make_skeleton(content["skeleton"], f"checkpoint {path}")
    if skeleton.num_joints != cfg.MODEL.NUM_JOINTS:
        raise CheckpointError(
            f"checkpoint {path} names {skeleton.num_joints} keypoints but its network has {cfg.MODEL.NUM_JOINTS}; "
            "use another one"
        )
    model = build_model(cfg)
    load_weights(model, content["model"], path)
    return model.eval().requires_grad_(False), facts_of(cfg, skeleton, shown)


def facts_of(cfg: Any, skeleton: Skeleton, shown: Mapping[str, Any]) -> Facts:
    """The facts of a config's network; shown: what the INPUT section states, cfg.INPUT or a checkpoint's."""
    codec = build_codec(cfg)
    return Facts(
        skeleton.as_dict(),
        codec.name,
        codec_options(codec),
        codec.input_size,
        codec.heatmap_size,
        shown["PADDING"],
        shown["CHANNEL_ORDER"],
        tuple(shown["MEAN"]),
        tuple(shown["STD"]),
        cfg.TEST.KEYPOINT_SCORE,
        cfg.MODEL.CHANNELS_LAST,
    )


def codec_options(codec: Codec) -> dict[str, float]:
    """The options that a codec was made with, its defaults spelled out."""
    names = inspect.signature(CODECS[codec.name]).parameters
    return {name: getattr(codec, name) for name in names if name in ("sigma", "blur") and hasattr(codec, name)}


def read_exported(text: str, source: object) -> ExportSpec:
    """From the JSON of an exported file. Raises CheckpointError where it is not such a text, or of a later version."""
    foreign = f"{source} is not a network that tools/export.py of this version wrote; export the checkpoint again"
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise CheckpointError(f"{foreign} (its format is {values['format']!r:.40}, this version reads {FORMAT})")
        stated = {field.name: values["facts"][field.name] for field in fields(Facts)}
        for key in ("input_size", "heatmap_size", "mean", "std"):
            stated[key] = tuple(stated[key])
        facts = Facts(**stated)
        _check_facts(facts, source)
        return ExportSpec(facts, bool(values["keypoints"]), bool(values["flip"]), str(values["quantized"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{foreign} ({type(error).__name__}: {str(error)[:80]})") from None


def _check_facts(facts: Facts, source: object) -> None:
    """Raise what a wrong value raises, before anything is made of it."""
    try:
        facts.make_codec()
        facts.make_skeleton(source)
    except PsaPoseError as error:
        raise CheckpointError(f"{source} states what cannot be ({error})") from None
    numbers = [facts.padding, facts.keypoint_score, *facts.mean, *facts.std]
    good = all(isinstance(n, int | float) for n in numbers) and len(facts.mean) == len(facts.std) == 3
    if not good or facts.padding <= 0 or min(facts.std) <= 0 or facts.channel_order not in _ORDERS:
        raise ValueError("padding, mean, std or channel order")


def _shown(stated: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The checkpoint's input; raises CheckpointError where something is not stated."""
    for key in ("SIZE", "PADDING", "CHANNEL_ORDER", "MEAN", "STD"):
        if key not in stated:
            raise CheckpointError(f"checkpoint {path} does not state INPUT.{key}; use another one")
    return stated
