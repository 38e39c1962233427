"""Rank, world size, gather and reduce. Every function works in a single process, where it costs nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from tqdm import tqdm

T = TypeVar("T")


def rank() -> int:
    """This process's number, 0 in a single process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 in a single process."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True in the one process that writes files and talks."""
    return rank() == 0


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started (nccl on GPUs, gloo on CPUs); outside torchrun, nothing."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    gpu = device if device.type == "cuda" else None
    store, own_rank, processes = next(dist.rendezvous("env://"))
    # torchrun keeps one store over its restarts: without names of their own, processes that were started again would
    # read the addresses of those before them, and wait for the dead.
    attempt = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "nccl" if gpu else "gloo"
    dist.init_process_group(backend, store=attempt, rank=own_rank, world_size=processes, device_id=gpu)
    try:
        yield
    finally:
        dist.destroy_process_group()


def all_gather(value: T) -> list[T]:
    """Every process's value, in rank order, in every process. Any picklable value of our own making."""
    if world_size() == 1:
        return [value]
    values: list[T] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: T | None) -> T:
    """The main process's value, in every process; the others pass None."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values)
    assert values[0] is not None
    return values[0]


def all_reduce_mean(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over processes, in every process; the tensor itself is left alone."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def all_reduce_max(value: int, device: torch.device) -> int:
    """The largest of the processes' integers, in every process. device: the process group's (GPUs for nccl)."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value, device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest)


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give every process the main one's buffers (the running statistics of BatchNorm)."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()


def progress_bar(iterable: Iterable | None = None, desc: str = "", total: int | None = None, **options: Any) -> tqdm:
    """A tqdm bar over the items, or to be updated by hand, on the main process's terminal; elsewhere it shows nothing.

    options: tqdm's own, such as unit, initial and leave.
    """
    return tqdm(iterable, desc, total, disable=not (is_main() and sys.stderr.isatty()), **options)
