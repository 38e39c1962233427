"""What has to be known beside a segmentation network to use it: what it is shown, and what its classes mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from torch import nn
from yacs.config import CfgNode

from psa_pose.checkpoints.content import check_content, check_input, read_section
from psa_pose.checkpoints.load import load_checkpoint, load_weights
from psa_pose.config import parse_config
from psa_pose.errors import CheckpointError
from psa_pose.segmentation.classes import ClassList
from psa_pose.segmentation.data.build import build_classes
from psa_pose.segmentation.networks.build import build_segmentation_model


@dataclass(frozen=True)
class SegmentationSpec:
    """classes: names and colours. channel_order: "rgb" or "bgr". mean, std: of pixel / 255, by channel index."""

    classes: ClassList
    channel_order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_config(cls, cfg: CfgNode) -> SegmentationSpec:
        """Of the network that a config builds."""
        return cls(build_classes(cfg), cfg.INPUT.CHANNEL_ORDER, tuple(cfg.INPUT.MEAN), tuple(cfg.INPUT.STD))

    @classmethod
    def of_checkpoint(cls, content: dict[str, Any], source: object) -> SegmentationSpec:
        """Of the network in a checkpoint; source: its path, for messages. Raises CheckpointError for an unfit one."""
        check_content(content, source)
        return cls.of_sections(content, source)

    @classmethod
    def of_sections(cls, content: dict[str, Any], source: object) -> SegmentationSpec:
        """From what `sections` gave. Raises CheckpointError."""
        try:
            shown = content["input"]
            order, mean, std = shown["CHANNEL_ORDER"], tuple(map(float, shown["MEAN"])), tuple(map(float, shown["STD"]))
            known = order in ("rgb", "bgr") and len(mean) == len(std) == 3 and min(std) > 0
        except (KeyError, TypeError, ValueError):
            known = False
        if not known:
            raise CheckpointError(f"checkpoint {source} does not say what its network is shown; use another one")
        return cls(_stated_classes(content, source), order, mean, std)

    def sections(self) -> dict[str, Any]:
        """The sections of a checkpoint that say it."""
        shown = {"CHANNEL_ORDER": self.channel_order, "MEAN": list(self.mean), "STD": list(self.std)}
        colors = [list(color) for color in self.classes.colors]
        return {"input": shown, "classes": {"names": list(self.classes.names), "colors": colors}}

    def check(self, content: dict[str, Any], source: object) -> None:
        """Raise CheckpointError for a checkpoint that was trained with another input or on other classes.

        self: what the config says. content: the checkpoint's; source: its path, for messages.
        """
        check_content(content, source)
        check_input(content, self.sections()["input"], source)
        stated = _stated_classes(content, source).names
        if stated != self.classes.names:
            own = self.classes.names
            pairs = enumerate(zip_longest(stated, own, fillvalue="(no class)"))
            number, (there, here) = next(pair for pair in pairs if len(set(pair[1])) > 1)
            raise CheckpointError(
                f"checkpoint {source} was trained on other classes than the config's: of its {len(stated)} number "
                f"{number} is {there!r:.60}, of the config's {len(own)} {here!r:.60}; "
                "write its DATASET.CLASSES and MODEL.NUM_CLASSES"
            )


def is_segmentation(content: dict[str, Any]) -> bool:
    """True for the content of a segmentation network's checkpoint."""
    return "classes" in content


def load_segmentation(path: object) -> tuple[nn.Module, SegmentationSpec, CfgNode]:
    """A checkpoint's network with its weights, on the CPU, for answering only; what it says of it; and its config.

    Raises CheckpointError for an unfit file.
    """
    content = load_checkpoint(str(path))
    if not is_segmentation(content):
        raise CheckpointError(f"checkpoint {path} is of no segmentation network; give it to psa_pose.PoseEstimator")
    spec = SegmentationSpec.of_checkpoint(content, path)
    cfg = parse_config(content["config"], f"checkpoint {path}")
    if cfg.TASK != "segmentation" or len(spec.classes) != cfg.MODEL.NUM_CLASSES:
        raise CheckpointError(f"checkpoint {path} contradicts itself on its classes; use another one")
    model = build_segmentation_model(cfg)
    load_weights(model, content["model"], str(path))
    return model.eval().requires_grad_(False), spec, cfg


def _stated_classes(content: dict[str, Any], source: object) -> ClassList:
    stated = read_section(content, "classes", source)
    try:
        names, colors = tuple(stated["names"]), tuple(tuple(map(int, color)) for color in stated["colors"])
        fits = len(names) == len(colors) > 0 and all(isinstance(name, str) for name in names)
        if fits and all(len(c) == 3 and 0 <= min(c) <= max(c) <= 255 for c in colors):
            return ClassList(names, colors)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        pass
    raise CheckpointError(f"checkpoint {source} does not say which classes it knows; use another one")
