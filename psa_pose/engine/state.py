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
from psa_pose.checkpoints import check_content, load_checkpoint, plain_state, remove_leftovers
from psa_pose.config import dump_config
from psa_pose.data.loader import ShuffledBatches
from psa_pose.engine.watch import cut_lines
from psa_pose.errors import CheckpointError, ConfigError

LAST, BEST, FINAL, NOT_FINITE = "last.pt", "best.pt", "final.safetensors", "not_finite.json"


@dataclass(frozen=True)
class Progress:
    """Where a run stands: complete epochs, steps done of the next one, and the highest AP or PCKh so far (-1: none).

    An epoch whose steps are all done but which is not counted as complete is still to be evaluated.
    """

    epoch: int = 0
    step: int = 0
    best: float = -1.0


def find_run(cfg: CfgNode, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """The checkpoint to go on with, or None to start anew.

    Raises ConfigError where there is a run and nothing says what is to become of it, and CheckpointError where the
    checkpoint cannot be gone on with.
    """
    folder, resume = Path(cfg.OUTPUT_DIR), resume or cfg.AUTO_RESUME
    last = folder / LAST
    if resume and overwrite:
        raise ConfigError("--overwrite contradicts --resume and AUTO_RESUME true; give one of them")
    if last.exists() and not (resume or overwrite):
        raise ConfigError(f"{folder} holds a run; go on with --resume, replace it with --overwrite, or set OUTPUT_DIR")
    others = [path for path in (folder / BEST, *_epoch_files(folder)) if path.exists()]
    if others and not last.exists() and not overwrite:
        raise ConfigError(
            f"{folder} holds {others[-1].name} but no {LAST}; copy it to {LAST} and --resume, or --overwrite, which "
            "removes it"
        )
    if not resume or not last.exists():
        return None
    before = load_checkpoint(last)
    check_content(before, last)
    if before["optimizer"] is None:
        raise CheckpointError(
            f"checkpoint {last} was converted, not trained here: there is no run to go on with; move it, write "
            "MODEL.PRETRAINED with its path, and train without --resume"
        )
    return before


def training_state(
    progress: Progress, batches: ShuffledBatches, model: nn.Module | None, scaler: torch.amp.GradScaler
) -> dict[str, Any]:
    """What a checkpoint holds besides weights and optimiser. Every process calls it: each has its own generators.

    model: the trained model where the checkpoint's weights are its moving average, otherwise None.
    """
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {
        "step": progress.step,
        "persons": batches.persons,
        "effective_batch": batches.batch_size * batches.world_size,
        "trained": plain_state(model) if model else None,
        "scaler": scaler.state_dict(),
        "generators": distributed.gather({"cpu": torch.get_rng_state(), "cuda": gpu}),
    }


def restore_state(
    before: dict[str, Any], batches: ShuffledBatches, scaler: torch.amp.GradScaler, source: Path
) -> Progress:
    """Put scaler and generators where they were; the answer is where the run goes on.

    Raises CheckpointError for a checkpoint from the middle of an epoch of other persons or another effective batch.
    """
    try:
        return _restore(before, batches, scaler, source)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
        raise CheckpointError(
            f"checkpoint {source} holds no usable training state; go on from an earlier one"
        ) from None


def _restore(before: dict[str, Any], batches: ShuffledBatches, scaler: torch.amp.GradScaler, source: Path) -> Progress:
    state = before.get("training") or {"step": 0, "scaler": {}, "generators": []}
    if state["step"]:
        for key, own in (("persons", batches.persons), ("effective_batch", batches.batch_size * batches.world_size)):
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
        torch.set_rng_state(mine["cpu"])
        if mine["cuda"] is not None and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(mine["cuda"])
    return Progress(before["epoch"], state["step"], before["best"])


def trained_weights(before: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights that the optimiser works on: the checkpoint's, unless those are their moving average."""
    trained = (before.get("training") or {}).get("trained")
    return trained if isinstance(trained, dict) else before["model"]


def clear_folder(folder: Path, progress: Progress | None, steps_per_epoch: int) -> None:
    """Main process: a new run (None) starts in a folder without checkpoints; one that goes on forgets later steps."""
    remove_leftovers(folder)
    records = list(folder.glob("records.*.jsonl"))
    if progress is None:
        files = [folder / name for name in (LAST, BEST, FINAL, NOT_FINITE)]
        for path in [*records, *_epoch_files(folder), *files]:
            path.unlink(missing_ok=True)
        return
    done = progress.epoch * steps_per_epoch + progress.step
    # What is written about an epoch as a whole has its last step's number, and is written again if that is still to do.
    complete = done - 1 if progress.step == steps_per_epoch else done
    cut_lines(folder / "metrics.jsonl", lambda line: line["step"] < (done if "train" in line else complete))
    for path in records:
        cut_lines(path, lambda line: line["step"] < done)


def epoch_file(epoch: int) -> str:
    """Name of the checkpoint that is kept of an epoch, which counts from 1."""
    return f"epoch_{epoch:04d}.pt"


def forget_epochs(folder: Path, keep: int) -> None:
    """Remove the checkpoints of all but the last `keep` epochs."""
    files = _epoch_files(folder)
    for path in files[: len(files) - keep]:
        path.unlink()


def _epoch_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch_[0-9]*.pt"), key=lambda path: int(path.stem.removeprefix("epoch_")))


def changed_keys(before: dict[str, Any], cfg: CfgNode) -> list[str]:
    """Every key whose value is not the one that the checkpoint was written with, as "KEY: old -> new"."""
    try:
        old = _flat(yaml.safe_load(before["config"]))
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
