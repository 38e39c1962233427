"""What has to be known beside a network to use it: what it is shown, what it answers, what its keypoints are.

A checkpoint says it in its sections and its config; an exported file carries it as JSON.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose.checkpoints.content import check_content, check_input, skeleton_section
from psa_pose.checkpoints.load import load_checkpoint, load_weights
from psa_pose.codecs import CODECS, Codec, build_codec, make_codec
from psa_pose.config import parse_config
from psa_pose.config.skeleton import build_skeleton
from psa_pose.device import channels_last
from psa_pose.errors import CheckpointError, PsaPoseError
from psa_pose.geometry import Grid, box_to_region, crop_matrix, warp
from psa_pose.models import build_model
from psa_pose.skeleton import Skeleton, make_skeleton

SPEC_KEY = "psa_pose"
"""Under which the JSON stands in an ONNX file's metadata, or as a file of a torch.export archive."""

GRAPH_INPUT = "crops"
"""What the input of an exported graph is called."""

_EXPORT_FORMAT = 1
_INPUT = ("SIZE", "PADDING", "CHANNEL_ORDER", "MEAN", "STD")


@dataclass(frozen=True)
class ModelSpec:
    """What a pose network is shown and what it answers: all but the weights.

    skeleton: its K keypoints.
    codec, codec_options: for `make_codec`, the defaults spelled out.
    input_size: (width, height) of a crop, pixels.
    heatmap_size: (width, height) of a map, pixels.
    padding: by which a box grows to the region that is cropped; 1.25 is a quarter more.
    channel_order: "rgb" or "bgr", as the network itself wants its images.
    mean, std: of pixel / 255, three numbers each, by the image's channel index.
    keypoint_score: joints with a higher score count in a person's score, 0 to 1.
    channels_last: the memory format of images and features in training.
    oks_nms: the similarity (OKS) above which the weaker of two persons is dropped, 0 to 1.
    has_gates: the network has PSA blocks.
    """

    skeleton: Skeleton
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
    oks_nms: float = 0.9
    has_gates: bool = False

    @classmethod
    def of_config(cls, cfg: CfgNode) -> ModelSpec:
        """Of the network that a config builds."""
        return cls._make(cfg, build_skeleton(cfg), cfg.INPUT)

    @classmethod
    def of_checkpoint(cls, content: dict[str, Any], source: object) -> ModelSpec:
        """Of the network in a checkpoint; source: its path, for messages. Raises CheckpointError for an unfit one."""
        cfg = _parsed(content, source)
        skeleton = make_skeleton(skeleton_section(content, source), f"checkpoint {source}")
        if skeleton.num_joints != cfg.MODEL.NUM_JOINTS:
            raise CheckpointError(
                f"checkpoint {source} names {skeleton.num_joints} keypoints but its network has "
                f"{cfg.MODEL.NUM_JOINTS}; use another one"
            )
        return cls._make(cfg, skeleton, content["input"])

    @classmethod
    def _make(cls, cfg: CfgNode, skeleton: Skeleton, shown: Mapping[str, Any]) -> ModelSpec:
        """shown: what the section INPUT states."""
        codec = build_codec(cfg)
        return cls(
            skeleton=skeleton,
            codec=codec.name,
            codec_options=_codec_options(codec),
            input_size=codec.input_size,
            heatmap_size=codec.heatmap_size,
            padding=shown["PADDING"],
            channel_order=shown["CHANNEL_ORDER"],
            mean=tuple(shown["MEAN"]),
            std=tuple(shown["STD"]),
            keypoint_score=cfg.TEST.KEYPOINT_SCORE,
            # Of a GPU: on a CPU an estimator's networks are channels-last in any case.
            channels_last=channels_last(cfg, torch.device("cuda")),
            oks_nms=cfg.TEST.OKS_NMS,
            has_gates=cfg.MODEL.ATTENTION.NAME.startswith("psa"),
        )

    def sections(self) -> dict[str, Any]:
        """The sections of a checkpoint that say what is not in its config alone."""
        shown = (list(self.input_size), self.padding, self.channel_order, list(self.mean), list(self.std))
        return {"input": dict(zip(_INPUT, shown, strict=True)), "skeleton": self.skeleton.as_dict()}

    def check(self, content: dict[str, Any], source: object) -> None:
        """Raise CheckpointError for a checkpoint that was trained with another input or on other keypoints.

        self: what the config says. content: the checkpoint's; source: its path, for messages.
        """
        check_content(content, source)
        check_input(content, self.sections()["input"], source)
        stated = skeleton_section(content, source)
        if stated["names"] != list(self.skeleton.names):
            raise CheckpointError(
                f"checkpoint {source} was trained on other keypoints ({stated.get('name')!r:.80}) than those "
                f"of the skeleton {self.skeleton.name}; write its DATASET.SKELETON"
            )

    def make_codec(self) -> Codec:
        """The codec of these sizes."""
        return make_codec(self.codec, self.input_size, self.heatmap_size, **self.codec_options)

    @cached_property
    def grid(self) -> Grid:
        """Of the codec, which the crops have to follow."""
        return self.make_codec().grid

    def regions(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres (N, 2) and regions (N, 2), image pixels, that are cropped around boxes (N, 4) x, y, width, height."""
        return box_to_region(boxes, self.input_size[0] / self.input_size[1], self.padding)

    def crop(self, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The crop (H, W, 3) around a box (4,), in the image's channels, and the matrix (2, 3) image to crop."""
        matrix = crop_matrix(*self.regions(box), 0.0, self.input_size, self.grid)
        return warp(image, matrix, self.input_size), matrix


@dataclass(frozen=True)
class ExportSpec:
    """What an exported file is.

    network: what went into it.
    keypoints: the graph also decodes.
    flip: it averages with the mirrored crop.
    quantized: "none", "dynamic" or "static".
    """

    network: ModelSpec
    keypoints: bool
    flip: bool
    quantized: str = "none"

    @property
    def outputs(self) -> list[str]:
        """Names of the graph's outputs, in order."""
        return ["joints", "scores", "maps"] if self.keypoints else ["maps"]

    def to_json(self, versions: dict[str, str]) -> str:
        """The JSON that `of_json` reads back; versions: of the programs that made the file."""
        values = asdict(self)
        return json.dumps({"format": _EXPORT_FORMAT, "facts": values.pop("network"), **values, "versions": versions})

    @classmethod
    def of_json(cls, text: str, source: object) -> ExportSpec:
        """From the JSON of an exported file. Raises CheckpointError where it is not one, or of a later version."""
        foreign = f"{source} is not a network that tools/export.py of this version wrote; export the checkpoint again"
        try:
            values = json.loads(text)
            if "classes" in values:
                raise CheckpointError(f"{source} is a segmentation network; give it to psa_pose.Segmenter.from_onnx")
            if values["format"] != _EXPORT_FORMAT:
                raise CheckpointError(
                    f"{foreign} (its format is {values['format']!r:.40}, this version reads {_EXPORT_FORMAT})"
                )
            network = _network_of_json(values["facts"], source)
            return cls(network, bool(values["keypoints"]), bool(values["flip"]), str(values["quantized"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{foreign} ({type(error).__name__}: {str(error)[:80]})") from None


def load_network(path: str | Path) -> tuple[nn.Module, ModelSpec]:
    """A checkpoint's network with its weights, on the CPU, for answering only; and what it says of it.

    Raises CheckpointError for an unfit file.
    """
    content = load_checkpoint(path)
    if "classes" in content:
        raise CheckpointError(f"checkpoint {path} is of a segmentation network; give it to psa_pose.Segmenter")
    spec = ModelSpec.of_checkpoint(content, path)
    model = build_model(_parsed(content, path))
    load_weights(model, content["model"], path)
    return model.eval().requires_grad_(False), spec


def _parsed(content: dict[str, Any], source: object) -> CfgNode:
    """A checkpoint's config, which agrees with what the checkpoint says of its input."""
    check_content(content, source)
    cfg = parse_config(content["config"], f"checkpoint {source}")
    for key in _INPUT:
        if key not in content["input"]:
            raise CheckpointError(f"checkpoint {source} does not state INPUT.{key}; use another one")
    shown = content["input"]
    if [list(cfg.INPUT.SIZE), cfg.INPUT.CHANNEL_ORDER] != [shown["SIZE"], shown["CHANNEL_ORDER"]]:
        raise CheckpointError(f"checkpoint {source} contradicts itself on its input; use another one")
    return cfg


def _codec_options(codec: Codec) -> dict[str, float]:
    """The options that a codec was made with, its defaults spelled out."""
    names = inspect.signature(CODECS[codec.name]).parameters
    return {name: getattr(codec, name) for name in names if name in ("sigma", "blur") and hasattr(codec, name)}


def _network_of_json(stated: dict[str, Any], source: object) -> ModelSpec:
    """Raise what a wrong value raises, before anything is made of it. Files of the first version state fewer fields."""
    values = {field.name: stated[field.name] for field in fields(ModelSpec) if field.name in stated}
    for key in ("input_size", "heatmap_size", "mean", "std"):
        values[key] = tuple(values[key])
    try:
        spec = ModelSpec(**{**values, "skeleton": make_skeleton(values["skeleton"], str(source))})
        spec.make_codec()
    except PsaPoseError as error:
        raise CheckpointError(f"{source} states what cannot be ({error})") from None
    numbers = [spec.padding, spec.keypoint_score, spec.oks_nms, *spec.mean, *spec.std]
    good = all(isinstance(n, int | float) for n in numbers) and len(spec.mean) == len(spec.std) == 3
    if not good or spec.padding <= 0 or min(spec.std) <= 0 or spec.channel_order not in ("rgb", "bgr"):
        raise ValueError("padding, mean, std or channel order")
    return spec
