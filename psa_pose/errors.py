"""Errors that are the user's to mend: one sentence each, naming the thing, the reason and the remedy."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable

from psa_pose.process import keep_freed_memory


class PsaPoseError(Exception):
    """Base of every error that a wrong config, file, box, checkpoint or command can cause."""

    status = 2
    """Exit status of the command that it ends."""


class ConfigError(PsaPoseError):
    """A configuration key, value or combination that cannot be used."""


class DataError(PsaPoseError):
    """An annotation file, detection file, image or box that cannot be used."""


class CheckpointError(PsaPoseError):
    """A checkpoint file that cannot be read, or that belongs to another model."""


class Interrupted(PsaPoseError):
    """A run that was asked to stop and can go on; the exit status is 128 and the signal's number, as in a shell."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number


def closest(word: str, valid: Iterable[str]) -> str:
    """The end of an error's sentence: the valid word nearest to a mistyped one, and all of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}? Valid: {', '.join(valid)}"


def run_tool(main: Callable[[], None]) -> None:
    """Run a command's main function; a PsaPoseError ends it with its sentence on stderr and its exit status, mostly 2.

    On a CPU whose cores are shared with others, threads that spin while they wait make a training step up to ten times
    as long; they are told to sleep. The OpenMP runtime reads this once, when torch is first imported: the tools import
    it in their main function.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    try:
        main()
        return
    except Interrupted as error:
        message, status = str(error), error.status
    except PsaPoseError as error:
        message, status = f"error: {error}", error.status
    except KeyboardInterrupt:
        message, status = "stopped by Ctrl-C", 130
    # Outside the handlers the frames of the failed call are gone, and with them its loader's worker processes.
    print(message, file=sys.stderr)
    raise SystemExit(status)
