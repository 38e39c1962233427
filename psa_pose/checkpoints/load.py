"""Reading a checkpoint without unpickling, and putting its weights into a model key by key."""

from __future__ import annotations

import pickle
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from psa_pose.checkpoints.content import FORMAT
from psa_pose.checkpoints.safetensors_file import SUFFIX, read_safetensors
from psa_pose.errors import CheckpointError


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint (.pt or .safetensors), tensors on the CPU. Executes nothing that is in it.

    Raises CheckpointError for a file that is missing, truncated, not a checkpoint, or holds anything else.
    """
    if Path(path).suffix == SUFFIX:
        return read_safetensors(Path(path))
    content = read_torch_file(path)
    if not is_ours(content):
        raise CheckpointError(
            f"checkpoint {path} is not one that tools/train.py of this version wrote; train one, or convert another "
            "project's with tools/convert.py"
        )
    return content


def is_ours(content: Any) -> bool:
    """True for what `save_checkpoint` wrote."""
    weights = content.get("model") if isinstance(content, dict) else None
    return (
        isinstance(weights, dict)
        and content.get("format") == FORMAT
        and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items())
    )


def read_torch_file(path: str | Path) -> Any:
    """Whatever torch.save wrote to a file, as far as it is tensors and plain values; nothing else is ever built.

    Raises CheckpointError for a file that is missing, damaged, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True)
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
            f"({_culprit(error)}); if you trust it, save its state dict alone with the program that wrote it"
        ) from None


def load_weights(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    source: str | Path,
    may_miss: Callable[[str], str] | None = None,
) -> str:
    """Copy weights into a model of the same keys and shapes; the answer is a one-line report.

    may_miss: a missing key -> what it belongs to, where it may keep its initial value, else "". None: none may.
    Raises CheckpointError that counts and names missing, unexpected and misshapen keys; then nothing was copied.
    """
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    misshapen = sorted(key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape)
    report = (
        f"{source}: {len(own) - len(missing) - len(misshapen)} of {len(own)} keys match, {len(missing)} missing, "
        f"{len(unexpected)} unexpected, {len(misshapen)} of another shape"
    )
    left: dict[str, list[str]] = defaultdict(list)
    for key in missing:
        left[may_miss(key) if may_miss else ""].append(key)
    wrong = (left.pop("", []), unexpected, misshapen)
    if any(wrong):
        first = [f"{what} {keys[0]}" for what, keys in zip(_KINDS, wrong, strict=True) if keys]
        raise CheckpointError(f"{report} ({'; '.join(first)}); give the config that this checkpoint was trained with")
    model.load_state_dict(weights, strict=not missing)
    if left:
        kept = [f"{len(keys)} of {what} ({keys[0]} first)" for what, keys in sorted(left.items())]
        report = f"{report}; left as initialised: {', '.join(kept)}"
    return report


_KINDS = ("missing", "unexpected", "another shape:")


class _NumpyType:
    """Stands for a NumPy data type in a file: takes what comes with it and does nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _numpy_number(*_: object) -> None:
    """Stands for a NumPy number in a file: it is read as None."""


# The training checkpoints of HRNet's code and its descendants hold their AP as a NumPy number, beside the weights. It
# is passed over: NumPy's own functions are not let near a file.
_NUMPY_STAND_INS: list[Any] = [
    (_numpy_number, "numpy.core.multiarray.scalar"),
    (_numpy_number, "numpy._core.multiarray.scalar"),
    (_NumpyType, "numpy.dtype"),
]


def _culprit(error: BaseException) -> str:
    """What torch refused to build, by name; where its message names nothing, the message's first line."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"it asks for {found[1]}" if found else _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
