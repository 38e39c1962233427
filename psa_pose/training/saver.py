"""Saving beside the training: the state is copied at its step, and written by a thread while the loop goes on."""

from __future__ import annotations

import gc
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from psa_pose.checkpoints import save_checkpoint
from psa_pose.checkpoints.snapshot import Snapshot
from psa_pose.errors import CheckpointError
from psa_pose.run_log import RunLog
from psa_pose.training.output_dir import prune_checkpoints


class Saver:
    """Writes the checkpoints of a run in a thread of its own, one after the other; a context manager.

    keep_epochs: how many epochs' checkpoints stay. log: is on the disk before the checkpoint that follows it.
    """

    def __init__(self, folder: Path, keep_epochs: int, log: RunLog) -> None:
        self._folder, self._keep, self._log = folder, keep_epochs, log
        self._snapshot = Snapshot()
        self._thread = ThreadPoolExecutor(1, "saver")
        self._written: Future[None] | None = None

    def __enter__(self) -> Saver:
        # What a run has built lives until its end: the collector, whom each save's many new objects call, need not
        # walk through it.
        gc.freeze()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        try:
            self.wait()
        except CheckpointError as unwritten:
            if error is None:
                raise
            # The error that ends the run is told by others.
            self._log.info(str(unwritten))
        finally:
            self._thread.shutdown()
            gc.unfreeze()

    def prepare(self, content: dict[str, Any]) -> None:
        """Begin to make the memory that a save of such a content takes."""
        self._written = self._thread.submit(self._snapshot.prepare, content)

    def save(self, content: dict[str, Any], name: str, *others: str) -> None:
        """Begin to write a checkpoint's content as it is now, under one or more names; `name` is the last in place.

        Raises what `wait` does.
        """
        self.wait()
        copied = self._snapshot.take(content)
        self._written = self._thread.submit(self._write, copied, [self._folder / each for each in (name, *others)])

    def wait(self) -> None:
        """Until nothing is being written. Raises CheckpointError where the last checkpoint could not be."""
        written, self._written = self._written, None
        if written:
            written.result()

    def _write(self, content: dict[str, Any], paths: list[Path]) -> None:
        self._snapshot.wait()
        self._log.flush()
        save_checkpoint(paths[0], content, also=paths[1:])
        prune_checkpoints(self._folder, self._keep)
