"""Saving beside the training: the state is copied at its step, and written by a thread while the loop goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from psa_pose.checkpoints.content import map_tensors, save_checkpoint, tensors_in
from psa_pose.errors import CheckpointError
from psa_pose.run_log import RunLog
from psa_pose.training.output_dir import prune_checkpoints

# Bytes: each tensor's copy begins at a multiple, as in memory of its own.
ALIGNMENT = 64


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


class Snapshot:
    """A copy of nested plain values and tensors, in memory that is kept from one time to the next.

    The copy of a GPU's tensors goes into pinned memory and does not hold up the host.
    """

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None

    @torch.no_grad()
    def take(self, content: Any) -> Any:
        """The content with each tensor copied; good until the next time. Those of a GPU are complete after `wait`."""
        tensors = list(tensors_in(content))
        copies = self._copies(tensors)
        for copy, tensor in zip(copies, tensors, strict=True):
            copy.copy_(tensor, non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors):
            self._copied = torch.cuda.Event()
            self._copied.record()
        remaining = iter(copies)
        return map_tensors(content, lambda _: next(remaining))

    def wait(self) -> None:
        """Until a GPU's tensors have arrived."""
        if self._copied:
            self._copied.synchronize()

    def _copies(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors like these, each with a storage of its own: a file then holds no more than they."""
        sizes = [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]
        if sum(sizes) > len(self._memory):
            self._memory = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=any(t.is_cuda for t in tensors))
        parts = self._memory.numpy()[: sum(sizes)]
        copies, start = list[Tensor](), 0
        for tensor, size in zip(tensors, sizes, strict=True):
            own = torch.from_numpy(parts[start : start + tensor.nbytes]).view(tensor.dtype)
            # The strides of channels-last weights, too.
            like = torch.empty_like(tensor, device="meta")
            copies.append(own.as_strided(like.shape, like.stride()))
            start += size
        return copies
