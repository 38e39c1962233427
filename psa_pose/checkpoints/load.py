"""Reading a checkpoint without unpickling, and putting its weights into a model key by key."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psa_pose.checkpoints.save import FORMAT
from psa_pose.errors import CheckpointError


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors on the CPU. Executes nothing: only tensors and plain values are read.

    Raises CheckpointError for a file that is missing, truncated, not a checkpoint, or holds anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error.strerror}; check the path") from None
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        raise CheckpointError(f"checkpoint {path} is damaged ({_first_line(error)}); use an earlier one") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} is not a file of tensors and plain values, or is damaged; nothing in it was executed "
            f"({_first_line(error)})"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("model"), dict):
        raise CheckpointError(f"checkpoint {path} is not one that tools/train.py of this version wrote; train one")
    return content


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], source: str | Path) -> str:
    """Copy weights into a model of exactly the same keys and shapes; the answer is a one-line report.

    Raises CheckpointError that counts and names missing, unexpected and misshapen keys.
    """
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    misshapen = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    report = (
        f"{source}: {len(own) - len(missing) - len(misshapen)} of {len(own)} keys match, {len(missing)} missing, "
        f"{len(unexpected)} unexpected, {len(misshapen)} of another shape"
    )
    if missing or unexpected or misshapen:
        first = [
            f"{what} {keys[0]}" for what, keys in zip(_KINDS, (missing, unexpected, misshapen), strict=True) if keys
        ]
        raise CheckpointError(f"{report} ({'; '.join(first)}); give the config that this checkpoint was trained with")
    model.load_state_dict(weights)
    return report


_KINDS = ("missing", "unexpected", "another shape:")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
