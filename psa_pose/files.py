"""JSON in, and files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from psa_pose.errors import DataError


def atomic_write(path: Path, write: Callable[[BinaryIO], object], also: Sequence[Path] = ()) -> None:
    """Let `write` fill a file beside `path`, flush it to the disk, then put it in the place of `path` in one step.

    also: further names of the same content, in place before `path` is. A process that is killed meanwhile leaves the
    file beside it: `remove_leftovers`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        for other in also:
            _link(aside, other)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _aside(path: Path) -> Path:
    """Where this process writes what will be at `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def _link(source: Path, path: Path) -> None:
    """Put a hard link to a file in the place of `path` in one step; a copy where the disk knows no links."""
    aside = _aside(path)
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
        os.replace(aside, path)
    except OSError:
        with source.open("rb") as content:
            atomic_write(path, lambda file: shutil.copyfileobj(content, file))


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote a file left in a folder. None may be writing there."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\.(.+\.(pt|safetensors|jsonl|json|yaml))\.\d+", path.name):
            path.unlink(missing_ok=True)


def shipped_folder(name: str) -> Path:
    """tools or configs: inside the package where a wheel was installed, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def read_json(path: Path, what: str) -> Any:
    """The content of a JSON file, or a DataError that names the file, the place and the remedy."""
    try:
        # Bytes: json then knows UTF-8 with or without a byte order mark, and UTF-16, by their first ones.
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror}; check DATASET.ROOT and the paths") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} {path} is not valid JSON ({error}); fetch or write it again") from None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    atomic_write(path, lambda file: file.write(json_bytes(content)))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    atomic_write(path, lambda file: file.write(content))


def cut_lines(path: Path, keep: Callable[[dict], bool]) -> None:
    """Keep the lines of a JSON-lines file that an interrupted run still needs; a last line cut short is dropped."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and keep(content):
            kept.append(line)
    atomic_write(path, lambda file: file.writelines(kept))


def json_bytes(content: Any) -> bytes:
    """Compact JSON with the shortest digits that read back as the same numbers."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
