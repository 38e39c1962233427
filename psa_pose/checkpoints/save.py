"""Writing a checkpoint whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from psa_pose.errors import CheckpointError

FORMAT = 1


def plain_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights on the CPU, under names without the prefixes that DDP and torch.compile add."""
    state = model.state_dict()
    return {key.replace("_orig_mod.", "").removeprefix("module."): value.cpu() for key, value in state.items()}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of plain values and tensors; a kill or a full disk leaves the previous file as it was."""
    try:
        write_whole(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be written: {error}; free some space or change OUTPUT_DIR"
        ) from None


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file beside `path`, flush it to the disk, then put it in the place of `path` in one step.

    A process that is killed meanwhile leaves the file beside it: `remove_leftovers`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a file left in a folder. None may be writing there."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\.(.+\.(pt|safetensors|jsonl|json|yaml))\.\d+", path.name):
            path.unlink(missing_ok=True)
