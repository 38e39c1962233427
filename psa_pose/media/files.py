"""Pictures and videos that a command is pointed at, and what it calls the files that it makes of them."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from psa_pose.errors import DataError

_VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_files(words: Iterable[str]) -> list[Path]:
    """The files that words name, each once: a file, the pictures and videos in a folder, or those a pattern matches.

    A file that is named is taken whatever its suffix. Raises DataError for a word that names nothing.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            some = sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURES + _VIDEOS)
        else:
            some = [path] if path.is_file() else sorted(Path(p) for p in glob.glob(word, recursive=True))
        some = [p for p in some if p.is_file()]
        if not some:
            raise DataError(f"{word!r} names no picture or video; give a file, a folder with some, or a pattern")
        found |= dict.fromkeys(some)
    return list(found)


def is_video(path: Path) -> bool:
    """By its suffix."""
    return path.suffix.lower() in _VIDEOS


def free_name(stem: str, taken: set[str]) -> str:
    """The stem, with a number where another file in this run has it."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name
