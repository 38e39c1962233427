"""A checkpoint's weights as a safetensors file, for programs that read no torch files; and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from psa_pose.checkpoints.content import FORMAT
from psa_pose.errors import CheckpointError
from psa_pose.files import atomic_write

SUFFIX = ".safetensors"
# In every one of them; beside these stands what the task's outputs are.
_WORDS = ("input", "config", "versions", "epoch", "best", "format")


def save_safetensors(path: Path, content: dict[str, Any]) -> None:
    """Write the weights of a checkpoint's content, with what must be known to use them as JSON in the file's header."""
    weights = {key: value.contiguous() for key, value in content["model"].items()}
    tensors = ("model", "optimizer", "training")
    words = {key: json.dumps(value) for key, value in content.items() if key not in tensors} | {"format": str(FORMAT)}
    try:
        atomic_write(path, lambda file: file.write(save(weights, words)))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}; free some space or change OUTPUT_DIR") from None


def read_safetensors(path: Path) -> dict[str, Any]:
    """What `save_safetensors` wrote, as a checkpoint's content without an optimiser.

    Raises CheckpointError for a file that is missing, damaged, or not one of ours.
    """
    try:
        data = path.read_bytes()
        weights = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        words = {key: json.loads(header["__metadata__"][key]) for key in (*_WORDS, *header["__metadata__"])}
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}; check the path") from None
    except (SafetensorError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(f"checkpoint {path} is damaged ({first}); use another one") from None
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path} was not written by tools/train.py; give a file that was") from None
    if words["format"] != FORMAT or not isinstance(words["input"], dict):
        raise CheckpointError(f"checkpoint {path} is not of this version; use one that tools/train.py wrote")
    return {**words, "model": weights, "optimizer": None, "training": None}
