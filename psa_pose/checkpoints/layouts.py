"""Other people's checkpoints: read, recognised, and converted by the strict tables of `layout_tables`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psa_pose.checkpoints.content import skeleton_section
from psa_pose.checkpoints.layout_tables import LAYOUTS, Layout
from psa_pose.checkpoints.load import is_ours, load_weights, read_torch_file
from psa_pose.errors import CheckpointError

# What a network with a trunk of its own calls it.
TRUNKS = ("resnet.", "backbone.")
# The layers of the segmentation networks that have one channel per class.
CLASSIFIERS = r"(?:classifier\.classifier\.3|last_layer\.3|aux_head\.3|cls_head)\.(?:weight|bias)"


@dataclass(frozen=True)
class ForeignWeights:
    """The weights of a file under our names, and what must be known about them.

    layout: None for our own. joints: names of a pose network's keypoints, in channel order, where the file states them.
    """

    path: Path
    layout: Layout | None
    weights: dict[str, torch.Tensor]
    channel_order: str
    # What the file is, which part of it was taken, and how many of its keys were dropped: one line.
    report: str
    joints: tuple[str, ...] = ()


def read_weights(path: str | Path) -> ForeignWeights:
    """The weights of a checkpoint of ours, or of any layout here. Executes nothing.

    Raises CheckpointError for a file that cannot be read, whose layout is unknown, or that holds an unknown key.
    """
    path = Path(path)
    content = read_torch_file(path)
    if is_ours(content):
        order, report = content["input"]["CHANNEL_ORDER"], f"{path} is a checkpoint of this project"
        joints = tuple(skeleton_section(content, path)["names"]) if "skeleton" in content else ()
        return ForeignWeights(path, None, content["model"], order, report, joints)
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
    """The weights in what a file holds, without wrappers' prefixes, and words that say which part they were ("": all).

    A file is a state dict, or a dict that holds one as 'best_state_dict', 'state_dict' or 'model_state', taken in this
    order. The wrappers are DDP (`module.`) and HRNet-Semantic-Segmentation's network with its loss (`model.`, `loss.`).
    """
    part = ""
    for name in ("best_state_dict", "state_dict", "model_state"):
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
    if all(key.startswith(("model.", "loss.")) for key in content):
        content = {key.removeprefix("model."): value for key, value in content.items()}
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
        for theirs, our in layout.renames:
            name = re.sub(theirs, our, name)
        if name in ours:
            raise CheckpointError(f"key {key} is a second {name} of {layout.title}; give a file with one head")
        ours[name] = value
    return ours, dropped


def load_source(
    model: nn.Module, source: ForeignWeights, attention_may_miss: bool, classes_may_differ: bool = False
) -> str:
    """Copy a file's weights into a model; the answer is a one-line report of every key. Raises as `load_weights`.

    An ImageNet network fills the trunk and leaves the head as initialised; in a CPN the trunk is called `resnet`, in
    DeepLabV3+ `backbone`. Any other file must fill all, but for the attention slots and the attention between scales,
    if attention may be missing, and for the last layers of a segmentation network, if the classes may be others.
    """
    own = model.state_dict()
    weights, layout = source.weights, source.layout
    trunk, left_out = "", []
    if layout and layout.imagenet:
        trunk = next((name for name in TRUNKS if any(key.startswith(name) for key in own)), "")
        weights = {trunk + key: value for key, value in weights.items()}
        left_out = [key for key in weights if key not in own and re.fullmatch(layout.optional, key)]
    elif classes_may_differ:
        left_out = [key for key in weights if re.fullmatch(CLASSIFIERS, key) and _of_other_shape(key, weights, own)]
    weights = {key: value for key, value in weights.items() if key not in left_out}
    report = load_weights(model, weights, source.path, _may_miss(layout, trunk, attention_may_miss, left_out))
    return f"{report}; {len(left_out)} of the file's left out ({left_out[0]} first)" if left_out else report


def _of_other_shape(key: str, weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> bool:
    return key in own and weights[key].shape != own[key].shape


def _may_miss(layout: Layout | None, trunk: str, attention: bool, left_out: list[str]) -> Callable[[str], str]:
    def reason(key: str) -> str:
        if ".attention." in key:
            return "attention slots" if attention else ""
        if key.startswith("scale_attn."):
            return "the attention between scales" if attention else ""
        if key in left_out:
            return "the classifiers, made for other classes"
        if layout and layout.imagenet and not re.fullmatch(re.escape(trunk) + f"(?:{layout.trunk})", key):
            return "the head"
        # Files of PyTorch before 0.4.1 have no such counters, and no network here uses their value.
        return "num_batches_tracked, not written before PyTorch 0.4.1" if key.endswith(".num_batches_tracked") else ""

    return reason
