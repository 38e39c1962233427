"""`psa-pose COMMAND ...` or `python -m psa_pose COMMAND ...`: runs the tools by name, from a checkout or a wheel."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from psa_pose.command_line import run_command
from psa_pose.errors import ConfigError, closest
from psa_pose.files import shipped_folder


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that argv names first with the other words; --help, or no word, lists the commands."""
    name, *words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(command_list())
        return
    # A tool's usage begins with it.
    sys.argv = [f"psa-pose {name}", *words]
    run_command(lambda: load_tool(name).main(words))


def tools() -> dict[str, Path]:
    """Command name -> file. import_dataset.py, which Python could not import as import.py, is `import`."""
    files = sorted(shipped_folder("tools").glob("*.py"))
    return {path.stem.replace("import_dataset", "import").replace("_", "-"): path for path in files}


def command_list() -> str:
    """How to call the commands, and a line for each: what its file's first line says before the colon."""
    lines = ["usage: psa-pose COMMAND [--help] ...", ""]
    for name, path in tools().items():
        told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:15}{told.partition(':')[0]}")
    return "\n".join(lines)


def load_tool(name: str) -> ModuleType:
    """The module of a command. Raises ConfigError with the nearest for a name that is none."""
    paths = tools()
    if name not in paths:
        raise ConfigError(f"there is no command {name!r}; {closest(name, paths)}")
    spec = importlib.util.spec_from_file_location(f"psa_pose.tools.{paths[name].stem}", paths[name])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
