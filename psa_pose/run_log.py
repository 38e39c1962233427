"""One run's voice: the screen, a readable log, metrics for programs, TensorBoard; each step's samples."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from psa_pose.distributed import is_main, rank
from psa_pose.errors import ConfigError, DataError, PsaPoseError
from psa_pose.files import atomic_write, write_text

if TYPE_CHECKING:
    from psa_pose.tracker import Tracker

Info = Callable[[str], object]
"""Takes a line for the log."""


class RunLog:
    """Writes `log.txt`, `metrics.jsonl` and TensorBoard events into a folder; a context manager.

    go_on_at: step at which the files of an interrupted run go on; None starts new ones. tracker: "none", or where the
    figures are sent too (`psa_pose.tracker`); config: YAML, for it.
    """

    def __init__(self, folder: Path, go_on_at: int | None = None, tracker: str = "none", config: str = "") -> None:
        self._open, self._folder = is_main(), folder
        if not self._open:
            return
        from torch.utils.tensorboard import SummaryWriter

        mode = "w" if go_on_at is None else "a"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._text = (folder / "log.txt").open(mode, encoding="utf-8")
            self._metrics = (folder / "metrics.jsonl").open(mode, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"OUTPUT_DIR {folder} cannot be written: {error.strerror}; choose another") from None
        # TensorBoard drops what an interrupted run wrote from that step on.
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=go_on_at)
        self._tracker: Tracker | None = None
        if tracker != "none":
            from psa_pose.tracker import open_tracker

            self._tracker = open_tracker(tracker, folder, config, go_on_at is not None)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._text.close()
            self._metrics.close()
            self._board.close()
            if self._tracker:
                self._tracker.close()

    def info(self, message: str) -> None:
        """A line for people, above the progress bar and in `log.txt`."""
        if self._open:
            tqdm.write(message, file=sys.stdout)
            sys.stdout.flush()
            self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")
            self._text.flush()

    def metrics(self, step: int, **values: Any) -> None:
        """One line of `metrics.jsonl` with every digit, and a TensorBoard scalar for each number."""
        if self._open:
            self._metrics.write(json.dumps({"step": step, **values}) + "\n")
            self._metrics.flush()
            figures = flat_figures(values)
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
            self._track(step, figures)

    def flush(self) -> None:
        """Everything up to now on the disk: called before a checkpoint, which may not be ahead of its log."""
        if self._open:
            os.fsync(self._metrics.fileno())
            self._board.flush()

    def _track(self, step: int, figures: Mapping[str, float]) -> None:
        """A tracker that fails ends no training: it is said once, and no more is sent."""
        try:
            if self._tracker:
                self._tracker.log(step, figures)
        except PsaPoseError as error:
            self._tracker = None
            self.info(f"{error}; no more is sent there, metrics.jsonl has everything")

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """An RGB picture (H, W, 3) uint8 as pictures/<name>.png, and for TensorBoard; encoded once."""
        if self._open:
            import cv2
            from tensorboard.compat.proto.summary_pb2 import Summary

            png = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            atomic_write(self._folder / "pictures" / f"{name}.png", lambda file: file.write(png))
            content = Summary.Image(height=image.shape[0], width=image.shape[1], colorspace=3, encoded_image_string=png)
            self._board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=content)]), step)


class RecordLog:
    """`records.<rank>.jsonl`: the ids of the samples of each step in this process; off, it does nothing.

    ids (N,): what the log calls each sample.
    """

    def __init__(self, folder: Path, ids: np.ndarray, on: bool) -> None:
        self._ids = ids
        self._file = (folder / f"records.{rank()}.jsonl").open("a") if on else None

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def write(self, step: int, epoch: int, rows: Tensor) -> None:
        """One line, which a kill of the process does not lose."""
        if self._file:
            ids = self._ids[rows.numpy()].tolist()
            self._file.write(json.dumps({"step": step, "epoch": epoch, "records": ids}) + "\n")
            self._file.flush()


def flat_figures(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested dicts under names like test/ground_truth/AP."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_figures(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            flat[prefix + name] = value
    return flat


def write_metrics_csv(folder: Path) -> None:
    """Write `metrics.csv` beside `metrics.jsonl`: a row per epoch, counted from 1, a column per figure."""
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        rows = list(_epoch_rows(map(json.loads, lines)))
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "metrics.csv", text.getvalue())


def _epoch_rows(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean loss and last rate of each epoch, and every other figure that follows its steps."""
    row: dict[str, Any] = {}
    losses: list[float] = []
    for line in lines:
        train = line.get("train")
        if train and row.get("epoch") != train["epoch"] + 1:
            if row:
                yield row
            row, losses = {"epoch": train["epoch"] + 1}, []
        if train:
            # In fp16 a step whose loss overflows moves nothing, and has none.
            losses += [train["loss"]] if train["loss"] is not None else []
            row |= {"step": line["step"], "loss": sum(losses) / len(losses) if losses else None, "lr": train["lr"]}
        else:
            row |= flat_figures({key: value for key, value in line.items() if key != "step"})
    if row:
        yield row


def report_problems(problems: list[str], on_error: str, info: Info) -> None:
    """Raise the first problem, or say each of them, as DATASET.ON_ERROR wants it."""
    if not problems:
        return
    if on_error == "raise":
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{others}; mend the data, or leave them out with DATASET.ON_ERROR skip")
    for problem in problems:
        info(f"skipped: {problem}")
    info(f"skipped {len(problems)} unusable images or annotations (DATASET.ON_ERROR is skip)")
