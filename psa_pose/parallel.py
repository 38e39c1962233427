"""Batches answered side by side on a CPU, each by a share of torch's threads.

The threads that share one batch wait for each other about a thousand times a second, and for the slowest: with one core
busy with something else that is half the speed. A thread with a batch of its own waits for nobody. A training cannot do
so, its batches follow from each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")

# Each takes the memory of one more batch.
MOST = 4


def batches_at_once(device: torch.device) -> int:
    """How many batches to answer side by side: on a CPU one per thread, 4 at most; elsewhere 1."""
    return min(torch.get_num_threads(), MOST) if device.type == "cpu" else 1


def parallel_map(work: Callable[[S], T], items: Iterable[S], at_once: int) -> Generator[T, None, None]:
    """`work` of each item, in the items' order; `at_once` of them are worked on, and one more waits.

    items: asked for in the caller's thread. work: called in other threads. Each computes with its share of the threads
    that torch has for the caller, who is left one until the generator ends or is closed. An error of an item or of
    `work` is raised here after the answers before it. at_once 1: a plain map.
    """
    if at_once == 1:
        yield from map(work, items)
        return
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(at_once, "batch", torch.set_num_threads, (max(threads // at_once, 1),))
    torch.set_num_threads(1)
    try:
        yield from _in_order(pool, work, items, at_once)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S], at_once: int) -> Iterator[T]:
    pending: deque[Future[T]] = deque()
    iterator, error = iter(items), None
    while error is None:
        try:
            pending.append(pool.submit(work, next(iterator)))
        except StopIteration:
            break
        except Exception as caught:  # Of the items; the answers before it come first.
            error = caught
        if len(pending) > at_once:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
    if error:
        raise error
