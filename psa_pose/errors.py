"""Errors that are the user's to mend: one sentence each, naming the thing, the reason and the remedy."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class PsaPoseError(Exception):
    """Base of every error that a wrong config, file, box, checkpoint or command can cause."""


class ConfigError(PsaPoseError):
    """A configuration key, value or combination that cannot be used."""


class DataError(PsaPoseError):
    """An annotation file, detection file, image or box that cannot be used."""


class CheckpointError(PsaPoseError):
    """A checkpoint file that cannot be read, or that belongs to another model."""


def closest(word: str, valid: Iterable[str]) -> str:
    """The end of an error's sentence: the valid word nearest to a mistyped one, and all of them."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.0)
    return f"did you mean {near[0]!r}? Valid: {', '.join(valid)}"


def run_tool(main: Callable[[], None]) -> None:
    """Run a command's main function; a PsaPoseError ends it with its sentence on stderr and exit status 2.

    On a CPU whose cores are shared with others, threads that spin while they wait make a training step up to ten times
    as long; they are told to sleep. The OpenMP runtime reads this once, when torch is first imported: the tools import
    it in their main function.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        main()
    except PsaPoseError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
