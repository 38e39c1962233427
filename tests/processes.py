"""A function in several processes that talk to each other, without torchrun: forked, so that they start at once."""

import os
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist


def in_processes(function, folder: Path, processes: int = 2) -> list:
    """What function() answers in each process, in the order of their ranks; an error in one of them is one here."""
    if torch.cuda.is_available():
        pytest.skip("with a GPU autograd has threads, and cannot be forked; hide it: CUDA_VISIBLE_DEVICES= pytest")
    children = [_forked(function, folder, rank, processes) for rank in range(processes)]
    failed = [rank for rank, pid in enumerate(children) if os.waitpid(pid, 0)[1]]
    assert not failed, "\n".join((folder / f"error{rank}").read_text() for rank in failed)
    return [torch.load(folder / f"answer{rank}", weights_only=False) for rank in range(processes)]


def _forked(function, folder: Path, rank: int, processes: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        torch.set_num_threads(1)
        store = dist.FileStore(str(folder / "store"), processes)
        # Who waits for one that failed fails too.
        dist.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=timedelta(seconds=60))
        torch.save(function(), folder / f"answer{rank}")
        dist.barrier()
        status = 0
    except BaseException:
        (folder / f"error{rank}").write_text(traceback.format_exc())
    # No cleaning up: what was inherited is the parent's.
    os._exit(status)
