"""Errors that are the user's to mend: one sentence each, naming the thing, the reason and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PsaPoseError(Exception):
    """Base of every error that a wrong config, file, box, checkpoint or command can cause."""

    status = 2
    """Exit status of the command that it ends."""

    permanent = True
    """Whether processes that are started again would meet it again."""

    agreed = False
    """Whether every process of a run raises it: the main one says it for all."""


class ConfigError(PsaPoseError):
    """A configuration key, value or combination that cannot be used."""


class DataError(PsaPoseError):
    """An annotation file, detection file, image or box that cannot be used."""


class CheckpointError(PsaPoseError):
    """A checkpoint file that cannot be read, or that belongs to another model."""


class MissingProcessError(PsaPoseError):
    """A process of a run that did not come in time."""

    permanent = False


class Interrupted(PsaPoseError):
    """A run that was asked to stop and can go on; the exit status is 128 and the signal's number, as in a shell."""

    permanent = False

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.status = 128 + signal_number


def closest(word: object, valid: Iterable[object]) -> str:
    """The end of an error's sentence: the valid word nearest to a mistyped one, and all of them."""
    words = {str(one): one for one in valid}
    near = difflib.get_close_matches(str(word), sorted(words), n=1, cutoff=0.0)
    return f"did you mean {words[near[0]]!r}? Valid: {', '.join(one or repr(one) for one in words)}"
