"""Being asked to stop: SIGTERM and Ctrl-C are noted, and the training loop ends where it can go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

# torchrun passes a Ctrl-C on to its processes, which the terminal has told already.
TORCHRUN_ECHO = 2.0


# What asks for a stop.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Notes SIGTERM and SIGINT while it is entered; a second one raises KeyboardInterrupt at once.

    signal: number of the first signal, 0 before it. Outside the main thread, where no signal can be caught, it stays 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._since = 0.0
        self._echo = TORCHRUN_ECHO if "TORCHELASTIC_RUN_ID" in os.environ else 0.0

    def __enter__(self) -> Interrupt:
        in_main = threading.current_thread() is threading.main_thread()
        numbers = SIGNALS if in_main else ()
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal and now - self._since >= self._echo:
            raise KeyboardInterrupt
        if not self.signal:
            self.signal, self._since = number, now
            # print() may not be called again from a signal that arrives during a print().
            os.write(2, b"\nfinishing the step, then writing a checkpoint; Ctrl-C again ends at once\n")
