"""What a checkpoint must hold before anything in it is used."""

from __future__ import annotations

from typing import Any

from psa_pose.errors import CheckpointError


def check_content(content: dict[str, Any], source: object) -> None:
    """Raise CheckpointError for a checkpoint that lacks what training writes into one, or holds another type."""
    for key, kinds in _KINDS.items():
        # Checkpoints of the first version have no "training".
        if not isinstance(content.get(key, None if key == "training" else _Missing), kinds):
            raise CheckpointError(
                f"checkpoint {source} has no usable {key!r}; it is damaged or of another version: use another one"
            )
    if not isinstance(content["skeleton"].get("names"), list):
        raise CheckpointError(f"checkpoint {source} does not say which keypoints it finds; use another one")


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
