"""Rank, world size, gather and reduce. Every function works in a single process, where it costs nothing."""

from __future__ import annotations

import gc
import inspect
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from psa_pose.errors import MissingProcessError

T = TypeVar("T")

# For how long processes wait for each other at the start, and later for an answer.
MEETING, ANSWER = timedelta(minutes=10), timedelta(minutes=30)


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
    """Join the processes that torchrun started; outside torchrun, nothing.

    Tensors on GPUs travel by nccl; those on CPUs, objects and barriers by gloo. Raises MissingProcessError where the
    others do not come within MEETING.
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    gpu = device if device.type == "cuda" else None
    store, own_rank, processes = next(dist.rendezvous("env://"))
    # torchrun keeps one store over its restarts: without names of their own, processes that were started again would
    # read the addresses of those before them, and wait for the dead.
    start = dist.PrefixStore(_agreed_name(store, own_rank, processes), store)
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, store=start, rank=own_rank, world_size=processes, device_id=gpu, timeout=ANSWER)
    yield
    # After an error the others may be anywhere: they are not waited for. Without one all leave together, and with no
    # garbage: a process that ends while a thread of gloo still holds a tensor of Python's, or while a network that was
    # distributed waits to be collected, is aborted ("terminate called").
    gc.collect()
    barrier()
    dist.destroy_process_group()


def _agreed_name(store: dist.Store, own_rank: int, processes: int) -> str:
    """A name of this start, the same in all processes and of no earlier start.

    torchrun's restart count is none: each of its agents counts for itself. The main process names the start; the others
    answer with a word that nobody has used before, until they find it among those that the main process has read.
    """
    own_word, until = uuid.uuid4().hex, time.monotonic() + MEETING.total_seconds()
    if own_rank == 0:
        store.set("start", own_word)
        words = [_read(store, f"{own_word}/{other}", until, other, processes) for other in range(1, processes)]
        store.set(f"{own_word}/read", " ".join(words))
        return own_word
    answered = ""
    while True:
        name = _read(store, "start", until, 0, processes)
        if name != answered:
            store.set(f"{name}/{own_rank}", own_word)
            answered = name
        if store.check([f"{name}/read"]) and own_word in store.get(f"{name}/read").decode().split():
            return name
        _check_deadline(until, 0, processes)
        time.sleep(0.05)


def _read(store: dist.Store, key: str, until: float, whose: int, processes: int) -> str:
    """What process `whose` has written, waited for until then (time.monotonic)."""
    while not store.check([key]):
        _check_deadline(until, whose, processes)
        time.sleep(0.05)
    return store.get(key).decode()


def _check_deadline(until: float, missing: int, processes: int) -> None:
    if time.monotonic() > until:
        raise MissingProcessError(
            f"process {missing} of {processes} did not come within {MEETING.total_seconds():.0f} s; see that torchrun "
            "runs on every machine, with the same --nnodes and an address that all of them reach"
        )


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


def ddp_options(parts: int) -> dict[str, Any]:
    """Options of DistributedDataParallel for steps in so many parts.

    Training reads no buffer: BatchNorm's statistics are shared before an evaluation and a save, not before each step.
    static_graph: every step has the same backward pass; one in parts has several, of which the last alone exchanges.
    """
    known = inspect.signature(DistributedDataParallel).parameters
    # PyTorch 2.13 renamed it.
    before_steps = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return {before_steps: False, "gradient_as_bucket_view": True, "static_graph": parts == 1}


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give every process the main one's buffers (the running statistics of BatchNorm), all of a dtype in one go."""
    if world_size() == 1:
        return
    for buffers in by_dtype(module.buffers()):
        joined = torch.cat([buffer.flatten() for buffer in buffers])
        dist.broadcast(joined, 0)
        parts = joined.split([buffer.numel() for buffer in buffers])
        torch._foreach_copy_(buffers, [part.view(b.shape) for part, b in zip(parts, buffers, strict=True)])


def by_dtype(tensors: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors in a list for each dtype, in their order: what one launch works on, or one message carries."""
    lists: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        lists.setdefault(tensor.dtype, []).append(tensor)
    return list(lists.values())


def barrier() -> None:
    """Wait for every process."""
    if world_size() > 1:
        dist.barrier()


def progress_bar(iterable: Iterable | None = None, desc: str = "", total: int | None = None, **options: Any) -> tqdm:
    """A tqdm bar over the items, or to be updated by hand, on the main process's terminal; elsewhere it shows nothing.

    options: tqdm's own, such as unit, initial and leave.
    """
    return tqdm(iterable, desc, total, disable=not (is_main() and sys.stderr.isatty()), **options)
