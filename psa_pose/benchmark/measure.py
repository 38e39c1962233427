"""How time and memory are measured: alternately, because a machine's speed drifts, and as medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from psa_pose.distributed import progress_bar

Work = Callable[[], object]
# A stage's name and its work -> the work's answer.
Timed = Callable[[str, Callable[[], Any]], Any]


def alternate(works: Mapping[str, Work], rounds: int, device: torch.device, what: str = "") -> dict[str, list[float]]:
    """Seconds of each work in each round. Every round runs all of them, in turn forwards and backwards in order.

    Two rounds before the first are not counted. On a GPU each run ends when the device has finished. what: names the
    progress bar; without it there is none.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    numbers = range(-2, rounds)
    for number in progress_bar(numbers, what, leave=False) if what else numbers:
        for name in order if number % 2 else reversed(order):
            synchronize(device)
            started = time.perf_counter()
            works[name]()
            synchronize(device)
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def time_stages(once: Callable[[Timed], object], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each stage in each round of a work whose stages hand on what they made.

    once: the whole work, which gives each of its stages to what it is called with; what it gives under one name adds
    up. A first round is not counted.
    """
    runs: list[dict[str, float]] = []

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        answer = work()
        runs[-1][stage] = runs[-1].get(stage, 0.0) + 1e3 * (time.perf_counter() - started)
        return answer

    for _ in range(rounds + 1):
        runs.append({})
        once(timed)
    return {stage: [run[stage] for run in runs[1:]] for stage in runs[-1]}


def compare_ways(network: str, works: Mapping[str, Work], batch: int, unit: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each way to compute a network on a CPU: a call's latency_ms, and times_as_fast as "eager" is.

    unit: what there are `batch` of in a call, such as persons.
    """
    seconds = alternate(works, rounds, torch.device("cpu"), f"{network}, batch {batch}")
    rows = []
    for way, values in seconds.items():
        median = statistics.median(values)
        rates = {f"{unit}_per_s": batch / median, "times_as_fast": ratio(seconds["eager"], values)}
        rows.append({"network": network, "batch": batch, "way": way, "latency_ms": 1e3 * median, **rates})
    return rows


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median over rounds of how many times as long the first took as the second did in the same round."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def peak_memory(work: Work, device: torch.device) -> int:
    """Bytes that PyTorch's allocator holds at the highest point of the work, beyond the lowest point before it.

    On a CPU the allocator's events are replayed from the profiler; what a library allocates by itself is not seen. On a
    GPU the lowest point is the start: what the work frees first, such as old gradients, is not counted.
    """
    work()
    gc.collect(1)  # What that run left is young; looking through all else would take longer than the work.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None
    assert recorded.profiler.kineto_results is not None
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = lowest = rise = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        lowest = min(lowest, held)
        rise = max(rise, held - lowest)
    return rise


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
