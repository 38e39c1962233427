"""Settings of a whole process, for the commands: a library that is imported changes nothing."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from psa_pose.errors import Interrupted, PsaPoseError

# mallopt's names for its parameters, from glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
# New objects after which Python's collector looks for reference cycles; by itself it does after 700 to 2,000, and
# through all objects there are as soon as a quarter of them is new.
_YOUNG = 100_000


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep what is freed for the next tensor, instead of handing it back to the system.

    By default every tensor of some megabytes is fresh memory from the system, and touching it for the first time takes
    longer than many a layer. All threads share what is kept, or each would ask the system for its own. The process
    stays as large as it once was. Nothing is changed where the user has set a MALLOC_ variable, or where there is no
    glibc; the answer is whether anything was.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Older versions take no more than 32 MiB here.
    mapped = mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_THRESHOLD, 2**25)
    return bool(mapped and mallopt(_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_ARENA_MAX, 1))


def collect_less_often() -> None:
    """Let more objects be made before the collector looks at them.

    Imports and files make millions and hardly a reference cycle, a training's step makes none. It was a seventh of a
    start with a data set of COCO's size.

    Where the collector is off, or waits for longer already, nothing is changed.
    """
    young, *older = gc.get_threshold()
    if 0 < young < _YOUNG:
        gc.set_threshold(_YOUNG, *older)


def run_command(main: Callable[[], None]) -> None:
    """Run a command's main function; a PsaPoseError ends it with its sentence on stderr and its exit status, mostly 2.

    Memory that is freed is kept and the collector comes less often, see above; how threads wait is chosen later, see
    psa_pose/threads.py.
    """
    keep_freed_memory()
    collect_less_often()
    main_process = os.environ.get("RANK", "0") == "0"
    try:
        _check_earlier_start()
        main()
        return
    except Interrupted as error:
        message, status = str(error), error.status
    except PsaPoseError as error:
        message = f"error: {error}" if main_process or not error.agreed else ""
        status = error.status
        if error.permanent:
            _leave_word(error)
    except KeyboardInterrupt:
        message, status = "stopped by Ctrl-C", 130
    # Outside the handlers the frames of the failed call are gone, and with them its loader's worker processes.
    if message:
        print(message, file=sys.stderr)
    raise SystemExit(status)


def _leave_word(error: PsaPoseError) -> None:
    """For torchrun, which shows it at the end, and for the processes that it starts in the place of this one."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file:
        word = {"message": str(error), "timestamp": int(time.time()), "permanent": True}
        Path(file).write_text(json.dumps(word))


def _check_earlier_start() -> None:
    """Raise what ended the processes that torchrun started before these: a restart mends no wrong config or data.

    torchrun keeps a file for the error of each process of each start: <run>/attempt_<n>/<local rank>/error.json.
    """
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:
        return
    for path in sorted(Path(file).parents[2].glob("attempt_*/*/error.json")):
        try:
            word = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(word, dict) and word.get("permanent"):
            error = PsaPoseError(word["message"])
            error.agreed = True
            raise error
