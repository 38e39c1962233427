"""What a checkpoint must hold before anything in it is used."""

from __future__ import annotations

from typing import Any

import torch

from psa_pose.errors import CheckpointError


def check_content(content: dict[str, Any], source: object) -> None:
    """Raise CheckpointError for a checkpoint that lacks what training writes into one, or holds another type."""
    for key, kinds in _KINDS.items():
        # Checkpoints of the first version have no "training".
        if not isinstance(content.get(key, None if key == "training" else _Missing), kinds):
            raise CheckpointError(
                f"checkpoint {source} has no usable {key!r}; it is damaged or of another version: use another one"
            )
    tensors = [key for key in ("input", "skeleton") if _holds_tensor(content[key])]
    if tensors:
        raise CheckpointError(f"checkpoint {source} holds a tensor in {tensors[0]!r}; it is damaged: use another one")
    if not isinstance(content["skeleton"].get("names"), list):
        raise CheckpointError(f"checkpoint {source} does not say which keypoints it finds; use another one")


def _holds_tensor(value: Any) -> bool:
    """Sections that are compared with the config: a comparison with a tensor has no single answer."""
    if isinstance(value, dict | list | tuple):
        return any(_holds_tensor(inner) for inner in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor)


class _Missing:
    """Of no kind."""


_KINDS: dict[str, tuple[type, ...]] = {
    "optimizer": (dict, type(None)),
    "training": (dict, type(None)),
    "epoch": (int,),
    "best": (int, float),
    "input": (dict,),
    "skeleton": (dict,),
    "config": (str,),
}
