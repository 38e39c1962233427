"""The state of a run on disk: what a checkpoint adds to its weights, and how a run goes on from it, to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from yacs.config import CfgNode

from psa_pose import distributed
from psa_pose.checkpoints import unwrapped_state_dict
from psa_pose.config import dump_config
from psa_pose.config.defaults import default_config
from psa_pose.data.loader import ShuffledBatches
from psa_pose.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """Where a run stands: complete epochs, steps done of the next one, and the highest AP or PCKh so far (-1: none).

    stale: evaluations since that one.

    An epoch whose steps are all done but which is not counted as complete is still to be evaluated.
    """

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    stale: int = 0


def training_state(
    progress: Progress, batches: ShuffledBatches, model: nn.Module | None, scaler: torch.amp.GradScaler
) -> dict[str, Any]:
    """What a checkpoint holds besides weights and optimiser. Every process calls it: each has its own generators.

    model: the trained model where the checkpoint's weights are its moving average, otherwise None.
    """
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {
        "step": progress.step,
        "stale": progress.stale,
        "persons": batches.samples,
        "effective_batch": batches.batch_size * batches.world_size,
        "trained": unwrapped_state_dict(model) if model else None,
        "scaler": scaler.state_dict(),
        "generators": distributed.all_gather({"cpu": torch.get_rng_state(), "cuda": gpu}),
    }


def restore_state(
    checkpoint: dict[str, Any], batches: ShuffledBatches, scaler: torch.amp.GradScaler, source: Path
) -> Progress:
    """Put scaler and generators where they were; the answer is where the run goes on.

    Raises CheckpointError for a checkpoint from the middle of an epoch of other persons or another effective batch.
    """
    try:
        return _restore(checkpoint, batches, scaler, source)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
        raise CheckpointError(
            f"checkpoint {source} holds no usable training state; go on from an earlier one"
        ) from None


def _restore(
    checkpoint: dict[str, Any], batches: ShuffledBatches, scaler: torch.amp.GradScaler, source: Path
) -> Progress:
    state = checkpoint.get("training") or {"step": 0, "scaler": {}, "generators": []}
    if state["step"]:
        for key, own in (("persons", batches.samples), ("effective_batch", batches.batch_size * batches.world_size)):
            if state[key] != own:
                raise CheckpointError(
                    f"checkpoint {source} is from the middle of an epoch with {key.replace('_', ' ')} {state[key]}, "
                    f"this run has {own}; go on with the same data and TRAIN.BATCH_SIZE x processes"
                )
    if not 0 <= state["step"] <= len(batches):
        raise ValueError("step")
    if state["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(state["scaler"])
    if distributed.rank() < len(state["generators"]):
        mine = state["generators"][distributed.rank()]
        if not isinstance(mine, dict):
            raise TypeError("generators")
        torch.set_rng_state(mine["cpu"])
        if mine["cuda"] is not None and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(mine["cuda"])
    # Earlier checkpoints do not count evaluations.
    return Progress(checkpoint["epoch"], state["step"], checkpoint["best"], state.get("stale", 0))


def trained_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that the optimiser works on: the checkpoint's, unless those are their moving average."""
    trained = (checkpoint.get("training") or {}).get("trained")
    return trained if isinstance(trained, dict) else checkpoint["model"]


def changed_keys(checkpoint: dict[str, Any], cfg: CfgNode) -> list[str]:
    """Every key whose value is not the one that the checkpoint was written with, as "KEY: old -> new".

    A key that was not there yet had the value that it has by default: what is new is off unless it is asked for.
    """
    try:
        old = _flat(yaml.safe_load(dump_config(default_config()))) | _flat(yaml.safe_load(checkpoint["config"]))
    except (yaml.YAMLError, AttributeError):
        return ["the checkpoint's config cannot be read"]
    new = _flat(yaml.safe_load(dump_config(cfg)))
    keys = sorted(old.keys() | new.keys())
    return [f"{k}: {old.get(k, 'unset')} -> {new.get(k, 'unset')}" for k in keys if old.get(k) != new.get(k)]


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
