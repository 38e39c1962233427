"""What a checkpoint holds, and how it is written.

One dict of plain values and tensors:

    format      1
    model       weights by name, on the CPU, without the prefixes of DDP and torch.compile
    optimizer   its state; None for weights that were not trained here, and in .safetensors files
    training    what else a run needs to go on, `training.resume.training_state`; None as above
    epoch       complete epochs
    best        highest score so far; -1 before the first evaluation
    input       INPUT's SIZE, PADDING, CHANNEL_ORDER, MEAN and STD, as trained
    skeleton    of a pose network, `Skeleton.as_dict`
    config      the whole config, as YAML
    versions    of psa_pose, torch, numpy and opencv

Last weights for other programs are the same without optimizer and training, in the safetensors format.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from psa_pose import __version__
from psa_pose.config import dump_config
from psa_pose.errors import CheckpointError
from psa_pose.files import atomic_write

FORMAT = 1


class Spec(Protocol):
    """What a checkpoint says of its network. Each task has its own: `ModelSpec` for pose."""

    def sections(self) -> dict[str, Any]:
        """The checkpoint's sections that say it: "input", and what the task's outputs are."""
        ...

    def check(self, content: dict[str, Any], source: object) -> None:
        """Raise CheckpointError for the content of a checkpoint of another input or other outputs."""
        ...


def checkpoint_content(
    cfg: CfgNode,
    spec: Spec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    epoch: int = 0,
    best: float = -1.0,
    training: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All but `format`, which `save_checkpoint` adds. optimizer and training: None as above."""
    return {
        "model": unwrapped_state_dict(model),
        "optimizer": optimizer.state_dict() if optimizer else None,
        "training": training,
        "epoch": epoch,
        "best": best,
        **spec.sections(),
        "config": dump_config(cfg),
        "versions": {
            "psa_pose": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }


def unwrapped_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights, where they are, under names without the prefixes that DDP and torch.compile add."""
    state = model.state_dict()
    return {key.replace("_orig_mod.", "").removeprefix("module."): value for key, value in state.items()}


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Nested dicts, lists and tuples with each tensor in them changed, in the order of `tensors_in`."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(inner, change) for inner in value)
    return value


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested dicts, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(inner)


def save_checkpoint(path: Path, content: dict[str, Any], also: Sequence[Path] = ()) -> None:
    """Write a checkpoint of plain values and tensors; a kill or a full disk leaves the previous file as it was.

    also: further names of the same checkpoint, in place before `path` is: hard links where the disk has them.
    """
    on_cpu = map_tensors({"format": FORMAT, **content}, torch.Tensor.cpu)
    try:
        # By its name: PyTorch writes to a Python file by calling Python several times for every tensor, and each time
        # it waits for a loop that is busy in Python.
        atomic_write(path, lambda file: torch.save(on_cpu, file.name), also)
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be written: {error}; free some space or change OUTPUT_DIR"
        ) from None
    except RuntimeError:
        # PyTorch names a place in its own code.
        size, free = sum(tensor.nbytes for tensor in tensors_in(on_cpu)), shutil.disk_usage(path.parent).free
        raise CheckpointError(
            f"checkpoint {path} cannot be written: the disk did not take all of its {size / 1e6:,.1f} MB, "
            f"{free / 1e6:,.1f} MB are free; free some space or change OUTPUT_DIR"
        ) from None


def check_content(content: dict[str, Any], source: object) -> None:
    """Raise CheckpointError for a checkpoint that lacks what every task writes into one, or holds another type."""
    for key, kinds in _KINDS.items():
        # Checkpoints of the first version have no "training".
        if not isinstance(content.get(key, None if key == "training" else _Missing), kinds):
            raise CheckpointError(
                f"checkpoint {source} has no usable {key!r}; it is damaged or of another version: use another one"
            )
    read_section(content, "input", source)


def read_section(content: dict[str, Any], key: str, source: object) -> dict[str, Any]:
    """A section that is compared with the config: a dict without tensors, whose comparison has no single answer."""
    if not isinstance(content.get(key), dict):
        raise CheckpointError(
            f"checkpoint {source} has no usable {key!r}; it is damaged or of another version: use another one"
        )
    if any(True for _ in tensors_in(content[key])):
        raise CheckpointError(f"checkpoint {source} holds a tensor in {key!r}; it is damaged: use another one")
    return content[key]


def skeleton_section(content: dict[str, Any], source: object) -> dict[str, Any]:
    """The section "skeleton", which names the keypoints."""
    stated = read_section(content, "skeleton", source)
    if not isinstance(stated.get("names"), list):
        raise CheckpointError(f"checkpoint {source} does not say which keypoints it finds; use another one")
    return stated


def check_input(content: dict[str, Any], own: dict[str, Any], source: object) -> None:
    """What a network was trained to see must be what it is shown: raise CheckpointError where they differ.

    own: the section "input" of the config.
    """
    for key, trained in read_section(content, "input", source).items():
        if key not in own:
            raise CheckpointError(f"checkpoint {source} states INPUT.{key}, no key of this version; use another one")
        if trained != own[key]:
            raise CheckpointError(
                f"checkpoint {source} was trained with INPUT.{key} {trained}, but the config says {own[key]}; "
                f"write INPUT.{key} {trained}"
            )


class _Missing:
    """Of no kind."""


_KINDS: dict[str, tuple[type, ...]] = {
    "optimizer": (dict, type(None)),
    "training": (dict, type(None)),
    "epoch": (int,),
    "best": (int, float),
    "config": (str,),
}
