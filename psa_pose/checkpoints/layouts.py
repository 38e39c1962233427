"""Other people's checkpoints: their keys -> ours, by one strict table per layout.

A layout says how each of its keys is called here, and which of its keys are deliberately not taken. Any other key is an
error: a file that is not wholly understood is not loaded. The key names are those of the published code: torchvision's
`resnet.py`, HRNet-Image-Classification's `cls_hrnet.py`, deep-high-resolution-net.pytorch's `pose_hrnet.py` and
`pose_resnet.py` (Microsoft's human-pose-estimation.pytorch, DARK and UDP have the same), mmpose's backbones and heads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psa_pose.checkpoints.load import is_ours, load_weights, read_torch_file
from psa_pose.errors import CheckpointError

_NORM = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_BLOCK = rf"(?:conv[1-3]\.weight|bn[1-3]\.{_NORM}|downsample\.0\.weight|downsample\.1\.{_NORM})"
_RESNET = rf"conv1\.weight|bn1\.{_NORM}|layer[1-4]\.\d+\.{_BLOCK}"
_CONV_NORM = rf"(?:0\.weight|1\.{_NORM})"
_HRNET = "|".join(
    (
        rf"conv[12]\.weight|bn[12]\.{_NORM}|layer1\.\d+\.{_BLOCK}",
        rf"transition[1-3]\.\d\.(?:0\.)?{_CONV_NORM}",
        rf"stage[2-4]\.\d\.branches\.\d\.\d+\.{_BLOCK}",
        rf"stage[2-4]\.\d\.fuse_layers\.\d\.\d\.(?:\d\.)?{_CONV_NORM}",
    )
)
_FINAL = r"final_layer\.(?:weight|bias)"
_DECONV = rf"deconv_layers\.(?:[036]\.weight|[147]\.{_NORM})|{_FINAL}"
_MMPOSE_HEAD = r"(?:keypoint_head|head)\."
_NOTHING = r"(?!)"


@dataclass(frozen=True)
class Layout:
    """One way in which a project names the parts of its networks."""

    name: str
    title: str
    # The layout is that of a file which holds all of these keys.
    marks: tuple[str, ...]
    # Its keys; the group that matches is our key.
    keys: str
    # Its keys that are not taken.
    dropped: str
    # A classifier: its head is of no use to a pose network.
    imagenet: bool
    # The order in which the published networks of this layout read the channels of an image.
    channel_order: str


LAYOUTS = (
    Layout(
        name="torchvision_resnet",
        title="torchvision's ResNet for ImageNet",
        marks=("layer4.0.conv1.weight", "fc.weight"),
        keys=f"({_RESNET})",
        dropped=r"fc\.(?:weight|bias)",
        imagenet=True,
        channel_order="rgb",
    ),
    Layout(
        name="hrnet_imagenet",
        title="HRNet's classifier for ImageNet",
        # The classifier goes on with all four resolutions, the pose network with the finest alone.
        marks=("stage4.2.fuse_layers.1.0.0.0.weight",),
        keys=f"({_HRNET})",
        # HRNet-Image-Classification's names, and those of the files beside HRNet's pose networks: head.*, fc.*.
        dropped=r"(?:incre_modules|downsamp_modules|final_layer|classifier|head|fc)\..*|stage4\.2\.fuse_layers\.[1-3]\..*",
        imagenet=True,
        channel_order="rgb",
    ),
    Layout(
        name="hrnet",
        title="HRNet's pose network",
        marks=("stage4.0.branches.0.0.conv1.weight", "final_layer.weight"),
        keys=f"({_HRNET}|{_FINAL})",
        dropped=_NOTHING,
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="simple_baseline",
        title="SimpleBaseline's pose network",
        marks=("layer4.0.conv1.weight", "deconv_layers.0.weight"),
        keys=f"({_RESNET}|{_DECONV})",
        dropped=_NOTHING,
        imagenet=False,
        channel_order="bgr",
    ),
    Layout(
        name="mmpose_hrnet",
        title="mmpose's HRNet",
        marks=("backbone.stage4.0.branches.0.0.conv1.weight",),
        keys=rf"backbone\.({_HRNET})|{_MMPOSE_HEAD}({_FINAL})",
        dropped=r"data_preprocessor\.(?:mean|std)",
        imagenet=False,
        channel_order="rgb",
    ),
    Layout(
        name="mmpose_simple_baseline",
        title="mmpose's SimpleBaseline",
        marks=("backbone.layer4.0.conv1.weight",),
        keys=rf"backbone\.({_RESNET})|{_MMPOSE_HEAD}({_DECONV})",
        dropped=r"data_preprocessor\.(?:mean|std)",
        imagenet=False,
        channel_order="rgb",
    ),
)


@dataclass(frozen=True)
class ForeignWeights:
    """The weights of a file under our names, and what must be known about them. layout: None for our own."""

    path: Path
    layout: Layout | None
    weights: dict[str, torch.Tensor]
    channel_order: str
    # What the file is, which part of it was taken, and how many of its keys were dropped: one line.
    report: str


def read_weights(path: str | Path) -> ForeignWeights:
    """The weights of a checkpoint of ours, or of any layout here. Executes nothing.

    Raises CheckpointError for a file that cannot be read, whose layout is unknown, or that holds an unknown key.
    """
    path = Path(path)
    content = read_torch_file(path)
    if is_ours(content):
        order = content["input"]["CHANNEL_ORDER"]
        return ForeignWeights(path, None, content["model"], order, f"{path} is a checkpoint of this project")
    found, part = state_dict(content, path)
    try:
        layout = detect_layout(found)
        weights, dropped = convert(found, layout)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {path}: {error}") from None
    report = f"{path} holds {layout.title}{part}; {len(dropped)} keys dropped"
    if dropped:
        report += f" ({', '.join(dropped[:2])}{', ...' if len(dropped) > 2 else ''})"
    return ForeignWeights(path, layout, weights, layout.channel_order, report)


def state_dict(content: Any, source: str | Path) -> tuple[dict[str, torch.Tensor], str]:
    """The weights in what a file holds, without DDP's prefix, and words that say which part they were ("": the whole).

    A file is a state dict, or a dict that holds one as 'best_state_dict' or 'state_dict', taken in this order.
    """
    part = ""
    for name in ("best_state_dict", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content, part = content[name], f" in its {name!r}"
            break
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"checkpoint {source} holds no state dict; give a file that holds a network's weights")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"checkpoint {source} holds {key!r}{part}, which is no tensor; give a state dict, or a dict that holds "
                "one as 'state_dict'"
            )
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return content, part


def detect_layout(keys: Iterable[str]) -> Layout:
    """The layout that a state dict's keys are of; raises CheckpointError where it is none of LAYOUTS."""
    keys = set(keys)
    for layout in LAYOUTS:
        if keys.issuperset(layout.marks):
            return layout
    raise CheckpointError(
        f"its {len(keys)} keys ({min(keys, default='none')} first) are of no known layout; known: "
        f"{', '.join(layout.title for layout in LAYOUTS)}"
    )


def convert(weights: Mapping[str, torch.Tensor], layout: Layout) -> tuple[dict[str, torch.Tensor], list[str]]:
    """A state dict of the layout -> ours, and its keys that were dropped.

    Raises CheckpointError for a key that the layout does not know, or for two that have the same name here.
    """
    ours: dict[str, torch.Tensor] = {}
    dropped = []
    for key, value in weights.items():
        if re.fullmatch(layout.dropped, key):
            dropped.append(key)
            continue
        match = re.fullmatch(layout.keys, key)
        if match is None:
            raise CheckpointError(
                f"key {key} does not belong to {layout.title}; give a network of that layout as it is"
            )
        name = next(group for group in match.groups() if group)
        if name in ours:
            raise CheckpointError(f"key {key} is a second {name} of {layout.title}; give a file with one head")
        ours[name] = value
    return ours, dropped


def load_source(model: nn.Module, source: ForeignWeights, attention_may_miss: bool) -> str:
    """Copy a file's weights into a model; the answer is a one-line report of every key. Raises as `load_weights`.

    An ImageNet network fills the trunk and leaves the head as initialised; in a CPN the trunk is called `resnet`. Any
    other file must fill all, but for the attention slots, if they may be missing.
    """
    trunk, weights = "", source.weights
    if source.layout and source.layout.imagenet and any(key.startswith("resnet.") for key in model.state_dict()):
        trunk = "resnet."
        weights = {trunk + key: value for key, value in weights.items()}
    return load_weights(model, weights, source.path, _may_miss(source.layout, trunk, attention_may_miss))


def _may_miss(layout: Layout | None, trunk: str, attention: bool) -> Callable[[str], str]:
    def reason(key: str) -> str:
        if ".attention." in key:
            return "attention slots" if attention else ""
        if layout and layout.imagenet and not re.fullmatch(re.escape(trunk) + f"(?:{layout.keys})", key):
            return "the head"
        # Files of PyTorch before 0.4.1 have no such counters, and no network here uses their value.
        return "num_batches_tracked, not written before PyTorch 0.4.1" if key.endswith(".num_batches_tracked") else ""

    return reason
