"""Settings of a whole process, for the commands: a library that is imported changes nothing."""

from __future__ import annotations

import ctypes
import os

# mallopt's names for its parameters, from glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep what is freed for the next tensor, instead of handing it back to the system.

    By default every tensor of some megabytes is fresh memory from the system, and touching it for the first time takes
    longer than many a layer. The process stays as large as it once was. Nothing is changed where the user has set a
    MALLOC_ variable, or where there is no glibc; the answer is whether anything was.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # Older versions take no more than 32 MiB here.
    mapped = mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_THRESHOLD, 2**25)
    return bool(mapped and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
