"""Which picture a name in a COCO file means, where folders differ or two of them hold that name."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from psa_pose.errors import DataError

_Parts = tuple[str, ...]


def match_names(pictures: Sequence[Path], names: Iterable[str], what: str, stems: bool = False) -> dict[Path, str]:
    """Of each picture the name that means it, "" where none does.

    A name means the picture whose path ends in it; of several such names the longest. One with folders that no path
    ends in means the only picture of its base name, unless its own lies beside that one. stems: names have no suffix
    and no leading zeros, as COCO's image ids. what: the names' file, for messages.
    Raises DataError where a name means two pictures, or a picture may be meant by two names.
    """
    known: dict[str, list[tuple[_Parts, str]]] = defaultdict(list)
    for name in names:
        parts = _name_parts(name, stems)
        known[parts[-1]].append((parts, name))
    paths = {picture: _path_parts(picture, stems) for picture in pictures}
    found = {picture: _ending(parts, known.get(parts[-1], [])) for picture, parts in paths.items()}
    taken = set(found.values())
    for picture, parts in paths.items():
        if not found[picture]:
            candidates = [(own, name) for own, name in known.get(parts[-1], []) if name not in taken]
            left = [name for own, name in candidates if not _is_beside(own, picture)]
            if len(left) > 1:
                raise DataError(
                    f"{what} does not say whose boxes are those of {picture}: it names {left[0]!r} and "
                    f"{left[1]!r}; give the picture in the folder that the file names"
                )
            found[picture] = left[0] if left else ""
    _check_once(found, what)
    return found


def shortest_names(pictures: Sequence[Path]) -> dict[Path, str]:
    """Base names, with as many folders before them as tell the pictures apart."""
    paths = {picture: _path_parts(picture) for picture in pictures}
    names: dict[Path, str] = {}
    length = 1
    while left := [picture for picture in paths if picture not in names]:
        ends = {picture: "/".join(paths[picture][-length:]) for picture in left}
        count = Counter(ends.values())
        names |= {p: end for p, end in ends.items() if count[end] == 1 or length >= len(paths[p])}
        length += 1
    return names


def _name_parts(name: str, stems: bool) -> _Parts:
    parts = tuple(part for part in name.split("/") if part not in ("", ".", "..")) or ("",)
    return (*parts[:-1], _without_zeros(parts[-1])) if stems else parts


def _path_parts(picture: Path, stems: bool = False) -> _Parts:
    """Of the whole path. Links stay: their names are those that a user sees."""
    parts = Path(os.path.abspath(picture)).parts[1:]
    return (*parts[:-1], _without_zeros(picture.stem)) if stems else parts


def _without_zeros(name: str) -> str:
    return name.lstrip("0") or "0"


def _ending(path: _Parts, names: list[tuple[_Parts, str]]) -> str:
    """The longest of the names in which a path ends; "" where there is none."""
    return max(((len(own), name) for own, name in names if path[-len(own) :] == own), default=(0, ""))[1]


def _is_beside(name: _Parts, picture: Path) -> bool:
    """Whether the name's own picture is there, in a folder beside the given one."""
    folders = Path(os.path.abspath(picture)).parents
    return len(name) > 1 and any(folder.joinpath(*name).is_file() for folder in folders)


def _check_once(found: dict[Path, str], what: str) -> None:
    first: dict[str, Path] = {}
    for picture, name in found.items():
        other = first.setdefault(name, picture)
        if name and os.path.abspath(other) != os.path.abspath(picture):
            raise DataError(
                f"{what} does not say whose boxes are those of {name!r}: that is {other} and {picture}; write their "
                "folders into the names of an annotation file, or give the two in separate runs"
            )
