"""Writing a checkpoint whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from psa_pose.errors import CheckpointError
from psa_pose.files import atomic_write

FORMAT = 1


def unwrapped_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """The model's weights on the CPU, under names without the prefixes that DDP and torch.compile add."""
    state = model.state_dict()
    return {key.replace("_orig_mod.", "").removeprefix("module."): value.cpu() for key, value in state.items()}


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint of plain values and tensors; a kill or a full disk leaves the previous file as it was."""
    try:
        atomic_write(path, lambda file: torch.save({"format": FORMAT, **content}, file))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be written: {error}; free some space or change OUTPUT_DIR"
        ) from None
