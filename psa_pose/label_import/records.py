"""What the readers of label files hand on: images, instances as arrays, and a ledger of what was done with them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from psa_pose.errors import DataError
from psa_pose.skeleton import COCO


@dataclass
class Instance:
    """One labelled body.

    points (K, 3) float64: x, y and visibility (0 not labelled, 1 hidden, 2 visible); NaN where there is nothing.
    box: x, y, width, height; None where the file has none. area: of the mask or as stated, pixels; None likewise.
    crowd: COCO's iscrowd. where: what to call it in the ledger. label: what kind it is, where its box says so.
    """

    points: np.ndarray
    box: np.ndarray | None = None
    area: float | None = None
    crowd: bool = False
    where: str = ""
    label: str = ""


@dataclass
class LabelledImage:
    """An image as the label file names it.

    name: its path there, with slashes. folder: where to look for it first. size: (width, height) as stated, or None.
    split: the source's own ("train", "val", "test"), or "". group: images that stay together in a split; "": by name.
    """

    name: str
    folder: Path
    size: tuple[float, float] | None = None
    instances: list[Instance] = field(default_factory=list)
    split: str = ""
    group: str = ""


@dataclass
class Source:
    """Everything that a reader found.

    form: the tool and form, for the table. names: K keypoint names. limbs: index pairs. flip: index pairs, or None
    where only the names tell. category: what an instance is. root: the folder in which images are searched.
    fractions: points (and boxes) are fractions of the image, not pixels.
    """

    form: str
    names: list[str]
    images: list[LabelledImage]
    root: Path
    limbs: list[tuple[int, int]] = field(default_factory=list)
    flip: list[tuple[int, int]] | None = None
    category: str = "person"
    fractions: bool = False


@dataclass
class Ledger:
    """done: what was changed or filled, and how often. unused: reason -> what was left out for it. notes: sentences."""

    done: dict[str, int] = field(default_factory=dict)
    unused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def did(self, what: str, count: int = 1) -> None:
        if count:
            self.done[what] = self.done.get(what, 0) + int(count)

    def leave_out(self, reason: str, where: str) -> None:
        self.unused.setdefault(reason, []).append(where)


@dataclass(frozen=True)
class Wishes:
    """What the user says where a file does not: keypoint names in order, and the category to take; empty: as found."""

    names: tuple[str, ...] = ()
    category: str = ""


def read_label_json(path: Path) -> Any:
    """The content of a JSON file, with or without a byte order mark. Raises DataError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"label file {path} cannot be read: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"label file {path} is not valid JSON ({error}); export it again") from None


def as_dict(value: Any) -> dict[str, Any]:
    """The value where it is a dict, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def dicts(value: Any) -> list[dict[str, Any]]:
    """The dicts of a list; none where it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def group_key(value: Any) -> int | str | None:
    """What joins regions: a number or a word; None for anything else."""
    return value if isinstance(value, int | str) and value != "" else None


def number(value: Any) -> float:
    """A number below 1e9, also where it is written as text; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return found if abs(found) < 1e9 else math.nan


def numbers(values: Any, count: int) -> np.ndarray | None:
    """`count` finite numbers, or None."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    found = np.array([number(v) for v in values])
    return found if np.isfinite(found).all() else None


def slashes(name: Any) -> str:
    """A path with forward slashes, as tools on Windows do not write it."""
    return str(name).replace("\\", "/")


def split_name(word: str) -> str:
    """ "train", "val", "test" for the words that tools use for them; "" for any other."""
    word = word.lower()
    return {"valid": "val", "validation": "val"}.get(word, word if word in ("train", "val", "test") else "")


def ordered_names(found: Sequence[str], wished: Sequence[str]) -> list[str]:
    """The keypoints in the order to write them: as wished; as COCO's where they are the same; or as first met."""
    found = list(dict.fromkeys(found))
    if wished:
        return list(wished)
    return list(COCO.names) if set(found) == set(COCO.names) else found


def blank_points(count: int) -> np.ndarray:
    """(K, 3): nothing labelled."""
    points = np.full((count, 3), np.nan)
    points[:, 2] = 0
    return points
