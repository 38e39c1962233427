"""A tool or script run as its command would be, but within this process: the libraries are imported once."""

import io
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Answer:
    returncode: int
    stdout: str
    stderr: str


def run_here(script: Path | str, *words: object, folder: Path | None = None) -> Answer:
    """Run a Python script with the words of its command line, in `folder`."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        # What command_line.run_command sets for a whole process would stay for the tests after this one.
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv("MALLOC_ARENA_MAX", "2")
        patch.setattr(sys, "argv", [str(script), *map(str, words)])
        if folder is not None:
            patch.chdir(folder)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Answer(status, out.getvalue(), err.getvalue())
