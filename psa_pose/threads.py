"""How torch's threads wait for their next work on a CPU: asleep, or spinning. Chosen while the work goes on.

A network's forward pass hands work to the threads about a thousand times a second. To wake a sleeping thread takes as
long as many a layer; a spinning one begins at once, but keeps a core from the thread that it waits for as soon as
something else wants a core too. Neither is right for both: so each is tried, and the faster is kept. No number that is
computed depends on it.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Protocol

import torch

# Laps that a way to wait is judged by, and by how much the other must be faster.
LAPS, GAIN = 3, 0.95
# A trial ends with a lap that takes so many times as long as those before it.
TOO_SLOW = 1.3
# Seconds of work from one trial to the next, at least; and how many times what the last one lost.
PAUSE, WORTH = 20.0, 50.0
# OpenMP runtimes read variables with these beginnings. One that is set is the user's choice.
PREFIXES = ("OMP_", "GOMP_", "KMP_")


class Switch(Protocol):
    """Changes how threads wait. Two of them are below, for the two OpenMP runtimes that torch is built with."""

    def sleep(self) -> None: ...

    def spin(self) -> None: ...


class ThreadWaiting:
    """Begins with threads that sleep. Work is done in laps of about equal length; after each, `lap` is called.

    It does nothing on other devices than a CPU, with one thread, where the user has set an OpenMP variable, and where
    the switch is found not to work. info: takes a line for the log whenever the choice changes.
    """

    def __init__(self, device: torch.device, info: Callable[[str], object]) -> None:
        self._info, self._clock = info, time.perf_counter
        chosen = any(name.startswith(PREFIXES) for name in os.environ)
        self._switch = None if chosen or device.type != "cpu" or torch.get_num_threads() == 1 else find_switch()
        self._tested = self._spinning = self._trial = False
        self._told: bool | None = None
        self._laps: list[float] = []
        self._kept = self._pause = 0.0
        if self._switch:
            self._switch.sleep()
        self.start()

    def __enter__(self) -> ThreadWaiting:
        return self

    def __exit__(self, *_: object) -> None:
        """Threads wait as the runtime does by itself."""
        if self._switch:
            self._switch.spin()

    def start(self) -> None:
        """What was done since the last lap is none, such as an evaluation between two epochs; a trial is given up."""
        if self._trial:
            self._turn()
        self._trial, self._laps, self._last = False, [], self._clock()

    def lap(self) -> None:
        """A lap has ended; it is called in the thread that works. One that has one thread now is not judged."""
        if self._switch is None or torch.get_num_threads() == 1:
            return
        if not self._tested:
            self._test(self._switch)
            return
        now = self._clock()
        self._laps, self._last = [*self._laps[1 - LAPS :], now - self._last], now
        self._pause -= self._laps[-1]
        if self._trial and (len(self._laps) == LAPS or self._laps[-1] > TOO_SLOW * self._kept):
            self._decide()
        elif not self._trial and self._slower():
            self._try_other(min(self._laps[-2:]))
        elif not self._trial and len(self._laps) == LAPS and self._pause <= 0:
            self._try_other(statistics.median(self._laps))

    def _slower(self) -> bool:
        """Two laps took twice as long as when the choice was made: something else may have begun, or ended."""
        return len(self._laps) > 1 and 0 < 2 * self._kept < min(self._laps[-2:])

    def _try_other(self, seconds: float) -> None:
        """seconds: of a lap as threads wait now."""
        self._kept, self._laps, self._trial = seconds, [], True
        self._turn()

    def _test(self, switch: Switch) -> None:
        self._tested = True
        if not works(switch):
            self._info("threads: asleep while they wait; this process has several teams of them, or an unknown runtime")
            self._switch = None
        self.start()

    def _decide(self) -> None:
        """Keep the way to wait that was on trial, or go back."""
        tried, before = statistics.median(self._laps), self._kept
        lost = sum(self._laps) - len(self._laps) * before
        if tried > GAIN * before:
            self._turn()
            tried, before = before, tried
        self._kept, self._laps, self._trial, self._pause = tried, [], False, max(PAUSE, WORTH * lost)
        if self._told != self._spinning:
            self._told = self._spinning
            ways = ("spinning", "asleep") if self._spinning else ("asleep", "spinning")
            # Spinning threads are the slower ones only where something else wants their core.
            crowded = not self._spinning and tried <= GAIN * before
            hint = "; a core is busy: OMP_NUM_THREADS=1 may be faster" if crowded else ""
            self._info(
                f"threads: {ways[0]} while they wait ({1e3 * tried:.0f} ms a step; {ways[1]} {1e3 * before:.0f} ms); "
                f"OMP_WAIT_POLICY=PASSIVE or ACTIVE would fix it{hint}"
            )

    def _turn(self) -> None:
        assert self._switch is not None
        self._spinning = not self._spinning
        (self._switch.spin if self._spinning else self._switch.sleep)()


class Gomp:
    """GNU's runtime, which PyPI's torch is built with: its threads spin for some milliseconds, then sleep.

    While there are more threads than cores it has them sleep at once. So idle teams of threads, which cost nothing, are
    kept for as long as the others shall sleep.
    """

    def __init__(self) -> None:
        self._end: threading.Event | None = None
        self._idle: list[threading.Thread] = []
        # The calling thread's own team would count too, although another thread may be the one that works.
        pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
        if pause is not None:
            pause(1)

    def sleep(self) -> None:
        if self._end is not None:
            return
        self._end = threading.Event()
        threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
        # A team of n threads is n - 1 more than the one that it belongs to.
        for _ in range((cores - 1) // (threads - 1)):
            ready = threading.Event()
            idle = threading.Thread(target=_idle_team, args=(ready, self._end), daemon=True)
            idle.start()
            ready.wait()
            self._idle.append(idle)

    def spin(self) -> None:
        if self._end is None:
            return
        self._end.set()
        for idle in self._idle:
            idle.join()
        self._end, self._idle = None, []


def _idle_team(ready: threading.Event, end: threading.Event) -> None:
    _parallel_work()
    ready.set()
    end.wait()


class Kmp:
    """Intel's and LLVM's runtime, of other builds of torch: how many milliseconds threads spin is set by a call."""

    def __init__(self, runtime: ctypes.CDLL) -> None:
        self._set = runtime.kmp_set_blocktime

    def sleep(self) -> None:
        self._set(0)

    def spin(self) -> None:
        # The runtime's own default.
        self._set(200)


def find_switch() -> Switch | None:
    """The switch of the OpenMP runtime that is loaded; None where there is none for it."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    runtime = ctypes.CDLL(None)
    return Kmp(runtime) if hasattr(runtime, "kmp_set_blocktime") else Gomp()


def works(switch: Switch) -> bool:
    """Whether idle threads use a core after `spin` and none after `sleep`; they are left asleep."""
    switch.spin()
    spinning = max(_idle_seconds() for _ in range(10))
    switch.sleep()
    asleep = min(_idle_seconds() for _ in range(10))
    return asleep < 2e-4 and spinning > 5e-4


def _idle_seconds(pause: float = 2e-3) -> float:
    """CPU seconds that this process uses in a pause after parallel work."""
    _parallel_work()
    before = time.process_time()
    time.sleep(pause)
    return time.process_time() - before


def _parallel_work() -> None:
    """Something that all of torch's threads take part in."""
    torch.ones(1 << 20).add_(1)
