"""The files of a run in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from psa_pose.checkpoints import check_content, load_checkpoint
from psa_pose.errors import CheckpointError, ConfigError
from psa_pose.files import cut_lines, remove_leftovers
from psa_pose.training.resume import Progress

LAST, BEST, FINAL, NOT_FINITE = "last.pt", "best.pt", "final.safetensors", "not_finite.json"


def find_checkpoint(cfg: CfgNode, resume: bool, overwrite: bool) -> dict[str, Any] | None:
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
    checkpoint = load_checkpoint(last)
    check_content(checkpoint, last)
    if checkpoint["optimizer"] is None:
        raise CheckpointError(
            f"checkpoint {last} was converted, not trained here: there is no run to go on with; move it, write "
            "MODEL.PRETRAINED with its path, and train without --resume"
        )
    return checkpoint


def clean_output_dir(folder: Path, progress: Progress | None, steps_per_epoch: int) -> None:
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


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove the checkpoints of all but the last `keep` epochs."""
    files = _epoch_files(folder)
    for path in files[: max(0, len(files) - keep)]:
        path.unlink()


def _epoch_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch_[0-9]*.pt"), key=lambda path: int(path.stem.removeprefix("epoch_")))
