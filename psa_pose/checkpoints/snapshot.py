"""A copy of a checkpoint's content as it is at one step, while the training goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from psa_pose.checkpoints.content import map_tensors, tensors_in

# Bytes: each tensor's copy begins at a multiple of it, as in memory of its own.
ALIGNMENT = 64

# Bytes: every page of memory is written to once before the first copy.
PAGE = 4096


class Snapshot:
    """A copy of nested plain values and tensors, in memory that is kept from one time to the next.

    The copy of a GPU's tensors goes into pinned memory and does not hold up the host.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)
        self._pinned: Tensor | None = None
        self._layouts: list[tuple[Any, ...]] = []
        self._copies: list[Tensor] = []
        self._copied: torch.cuda.Event | None = None

    def prepare(self, content: Any) -> None:
        """Have the memory for such a content: new memory costs the first copy several times what the copy costs."""
        self._prepare(list(tensors_in(content)))

    @torch.no_grad()
    def take(self, content: Any) -> Any:
        """The content with each tensor copied; good until the next time. Those of a GPU are complete after `wait`."""
        tensors = list(tensors_in(content))
        self._prepare(tensors)
        if tensors:
            torch._foreach_copy_(self._copies, tensors, non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors):
            self._copied = torch.cuda.Event()
            self._copied.record()
        remaining = iter(self._copies)
        return map_tensors(content, lambda _: next(remaining))

    def wait(self) -> None:
        """Until a GPU's tensors have arrived."""
        if self._copied:
            self._copied.synchronize()

    def _prepare(self, tensors: list[Tensor]) -> None:
        """Keep copies of such tensors, each with a storage of its own: a file then holds no more than they."""
        layouts = [(t.dtype, t.shape, t.stride(), t.device.type) for t in tensors]
        if layouts == self._layouts:
            return
        sizes = [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]
        if sum(sizes) > len(self._memory):
            self._allocate(sum(sizes), pinned=any(tensor.is_cuda for tensor in tensors))
        copies, start = list[Tensor](), 0
        for tensor, size in zip(tensors, sizes, strict=True):
            own = torch.from_numpy(self._memory[start : start + tensor.nbytes]).view(tensor.dtype)
            # The strides of channels-last weights, too.
            like = torch.empty_like(tensor, device="meta")
            copies.append(own.as_strided(like.shape, like.stride()))
            start += size
        self._layouts, self._copies = layouts, copies

    def _allocate(self, size: int, pinned: bool) -> None:
        if pinned:
            self._pinned = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            self._memory = self._pinned.numpy()
        else:
            # NumPy asks for large pages, PyTorch does not.
            memory = np.empty(size + ALIGNMENT, dtype=np.uint8)
            self._memory = memory[-memory.ctypes.data % ALIGNMENT :]
            self._memory[::PAGE] = 0
