"""One run's voice: the screen, a readable log, metrics for programs, TensorBoard. Silent but for the main process."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from psa_pose.distributed import is_main
from psa_pose.errors import ConfigError


class RunLog:
    """Writes `log.txt`, `metrics.jsonl` and TensorBoard events into a folder; a context manager.

    go_on_at: step at which the files of an interrupted run go on; None starts new ones.
    """

    def __init__(self, folder: Path, go_on_at: int | None = None) -> None:
        self._open = is_main()
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

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._text.close()
            self._metrics.close()
            self._board.close()

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
            self._scalars(step, values)

    def flush(self) -> None:
        """Everything up to now on the disk: called before a checkpoint, which may not be ahead of its log."""
        if self._open:
            os.fsync(self._metrics.fileno())
            self._board.flush()

    def _scalars(self, step: int, values: Mapping[str, Any], prefix: str = "") -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                self._scalars(step, value, f"{prefix}{name}/")
            elif isinstance(value, int | float):
                self._board.add_scalar(prefix + name, value, step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """An RGB picture (H, W, 3) uint8 for TensorBoard."""
        if self._open:
            self._board.add_image(name, image, step, dataformats="HWC")
